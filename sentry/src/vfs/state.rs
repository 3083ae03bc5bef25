//! What a kernel has once of its files, whatever the file system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use amber_abi::stat::Device;

use crate::vfs::dentry::NameCache;

/// The first minor number that [`Vfs::anonymous_device`] gives out.
const FIRST_DEVICE: u32 = 20;

/// The state that all files of a kernel share. Names, mounts and open files hold it; the kernel is not needed for it.
pub struct Vfs {
    /// Entries of directories.
    pub names: NameCache,
    next_device: AtomicU32,
}

impl Vfs {
    /// That of a kernel without files.
    pub fn new() -> Arc<Self> {
        Arc::new(Vfs { names: NameCache::new(), next_device: AtomicU32::new(FIRST_DEVICE) })
    }

    /// A device number for a file system that is on no device: major 0, a fresh minor.
    pub fn anonymous_device(&self) -> Device {
        Device::new(0, self.next_device.fetch_add(1, Ordering::Relaxed))
    }
}
