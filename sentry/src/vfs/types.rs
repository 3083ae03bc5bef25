//! The types of file systems: what mount(2) finds by name and `/proc/filesystems` lists.

use std::sync::Arc;

use amber_abi::errno::Errno;

use crate::cgroup;
use crate::fs::tmpfs::{TmpFs, TmpfsOptions};
use crate::fs::{dev, mqueue, proc, sys};
use crate::kernel::Kernel;
use crate::tty::devpts;
use crate::vfs::FileSystem;

/// Makes an instance from the option text of mount(2).
pub type Make = fn(&Arc<Kernel>, &str) -> Result<Arc<dyn FileSystem>, Errno>;

/// A type of file system.
pub struct FileSystemType {
    /// The name.
    pub name: &'static str,
    /// Makes an instance from the option text of mount(2).
    pub make: Make,
}

/// All types, in the order of `/proc/filesystems`. None of them needs a device.
pub static TYPES: &[FileSystemType] = &[
    FileSystemType { name: "sysfs", make: sys::make },
    FileSystemType { name: "tmpfs", make: tmpfs },
    FileSystemType { name: "cgroup2", make: cgroup::make },
    FileSystemType { name: "proc", make: proc::make },
    FileSystemType { name: "devtmpfs", make: dev::make },
    FileSystemType { name: "devpts", make: devpts::make },
    FileSystemType { name: "mqueue", make: mqueue::make },
];

/// The type of this name.
///
/// # Errors
/// `ENODEV` if there is none.
pub fn find(name: &[u8]) -> Result<&'static FileSystemType, Errno> {
    TYPES.iter().find(|t| t.name.as_bytes() == name).ok_or(Errno::ENODEV)
}

fn tmpfs(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    let memory = kernel.memory.limit();
    Ok(TmpFs::new(kernel.memory.clone(), TmpfsOptions::parse(options, memory)?.with_defaults(memory)))
}
