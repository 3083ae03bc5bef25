//! File system types, which mount(2) finds by name.

use std::sync::Arc;

use amber_abi::errno::Errno;

use crate::kernel::Kernel;
use crate::vfs::FileSystem;

/// Makes an instance from the option text of mount(2).
pub(crate) type Make = fn(&Arc<Kernel>, &str) -> Result<Arc<dyn FileSystem>, Errno>;

/// A file system type.
pub(crate) struct FileSystemType {
    /// The name.
    pub name: &'static str,
    /// Makes an instance.
    pub make: Make,
}
