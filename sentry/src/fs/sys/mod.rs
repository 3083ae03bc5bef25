//! `/sys`: what sysfs(5) tells of the sandbox's machine.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::SYSFS_MAGIC;

use crate::fs::FileSystem;
use crate::fs::pseudo::{Entry, Kind, PseudoFs};
use crate::kernel::Kernel;

static SYSFS: Kind =
    Kind { name: "sysfs", magic: SYSFS_MAGIC, root: Entry::directory("", ROOT), is_volatile: false, file_size: 4096 };

const ROOT: &[Entry] = &[
    Entry::directory("block", &[]),
    Entry::directory("bus", &[]),
    Entry::directory("class", &[]),
    Entry::directory("dev", &[]),
    Entry::directory("devices", &[]),
    Entry::directory("firmware", &[]),
    Entry::directory("fs", FS),
    Entry::directory("kernel", &[]),
    Entry::directory("module", &[]),
];

const FS: &[Entry] = &[Entry::directory("cgroup", &[])];

/// Makes an instance; it has no options.
///
/// # Errors
/// `EINVAL` for any option.
pub fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    if !options.is_empty() {
        return Err(Errno::EINVAL);
    }
    Ok(PseudoFs::new(kernel, &SYSFS))
}
