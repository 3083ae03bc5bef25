//! The registry of devices: what stands behind which number.

use std::ops::RangeInclusive;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType};

use super::{memory, random};
use crate::error::SysError;
use crate::task::TaskContext;
use crate::tty::devices as terminal;
use crate::vfs::{File, Inode, Path};

/// A device node about to be opened.
pub struct Opening<'a> {
    /// Who opens.
    pub ctx: &'a TaskContext,
    /// Where the node is.
    pub path: &'a Path,
    /// The node.
    pub inode: Arc<dyn Inode>,
    /// Which device it stands for.
    pub device: Device,
    /// The flags of open(2).
    pub flags: OpenFlags,
}

/// Some devices of one major number.
pub struct Driver {
    /// The name in `/proc/devices`.
    pub name: &'static str,
    /// The major number.
    pub major: u32,
    /// The minor numbers.
    pub minors: RangeInclusive<u32>,
    /// Opens one of them.
    pub open: fn(&Opening<'_>) -> Result<Arc<dyn File>, SysError>,
}

const fn driver(
    name: &'static str,
    major: u32,
    minors: RangeInclusive<u32>,
    open: fn(&Opening<'_>) -> Result<Arc<dyn File>, SysError>,
) -> Driver {
    Driver { name, major, minors, open }
}

/// All character devices, in the order of their numbers.
pub static DRIVERS: &[Driver] = &[
    driver("mem", 1, 3..=3, memory::open_null),
    driver("mem", 1, 5..=5, memory::open_zero),
    driver("mem", 1, 7..=7, memory::open_full),
    driver("mem", 1, 8..=9, random::open),
    driver("/dev/tty", 5, 0..=0, terminal::open_controlling),
    driver("/dev/console", 5, 1..=1, terminal::open_console),
    driver("/dev/ptmx", 5, 2..=2, terminal::open_master),
    driver("pts", 136, 0..=(1 << 20) - 1, terminal::open_slave),
];

/// Whether there is a character device of this number.
pub fn serves(device: Device) -> bool {
    DRIVERS.iter().any(|driver| driver.major == device.major && driver.minors.contains(&device.minor))
}

/// Opens a device node.
///
/// # Errors
/// `ENXIO` if there is no such device, and those of the device.
pub fn open(ctx: &TaskContext, path: &Path, flags: OpenFlags) -> Result<Arc<dyn File>, SysError> {
    let inode = path.inode()?.clone();
    let device = inode.metadata()?.special;
    let found = |d: &&Driver| d.major == device.major && d.minors.contains(&device.minor);
    match DRIVERS.iter().find(found) {
        Some(driver) if inode.kind() == FileType::CharacterDevice => {
            (driver.open)(&Opening { ctx, path, inode, device, flags })
        }
        _ => Err(Errno::ENXIO.into()),
    }
}
