//! Character device drivers by device number.

use std::ops::RangeInclusive;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType};

use super::{memory, random};
use crate::error::SysError;
use crate::fs::Registry;
use crate::vfs::{Caller, File, Inode, Path};

/// A device node about to be opened.
pub(crate) struct Opening<'a> {
    /// The calling task.
    pub caller: &'a dyn Caller,
    /// The path of the node.
    pub path: &'a Path,
    /// The node's inode.
    pub inode: Arc<dyn Inode>,
    /// The flags of open(2).
    pub flags: OpenFlags,
}

/// A driver of a range of devices of one major number.
pub(crate) struct Driver {
    /// The name in `/proc/devices`.
    pub name: &'static str,
    /// The major number.
    pub major: u32,
    /// The minor numbers.
    pub minors: RangeInclusive<u32>,
    /// Opens one of the devices.
    pub open: fn(&Opening<'_>) -> Result<Arc<dyn File>, SysError>,
}

impl Driver {
    /// Makes a driver of a range of devices.
    pub(crate) const fn new(
        name: &'static str,
        major: u32,
        minors: RangeInclusive<u32>,
        open: fn(&Opening<'_>) -> Result<Arc<dyn File>, SysError>,
    ) -> Self {
        Driver { name, major, minors, open }
    }

    /// Whether the driver serves the device.
    pub(crate) fn serves(&self, device: Device) -> bool {
        self.major == device.major && self.minors.contains(&device.minor)
    }
}

/// The drivers that belong to no other subsystem.
pub(crate) const DRIVERS: &[Driver] = &[
    Driver::new("mem", 1, 3..=3, memory::open_null),
    Driver::new("mem", 1, 5..=5, memory::open_zero),
    Driver::new("mem", 1, 7..=7, memory::open_full),
    Driver::new("mem", 1, 8..=9, random::open),
];

/// Opens a device node.
///
/// # Errors
/// `ENXIO` if there is no such device; errors of the driver.
pub(crate) fn open(
    registry: &Registry,
    caller: &dyn Caller,
    path: &Path,
    flags: OpenFlags,
) -> Result<Arc<dyn File>, SysError> {
    let inode = path.inode()?.clone();
    let device = inode.metadata()?.special;
    match registry.drivers().find(|driver| driver.serves(device)) {
        Some(driver) if inode.kind() == FileType::CharacterDevice => {
            (driver.open)(&Opening { caller, path, inode, flags })
        }
        _ => Err(Errno::ENXIO.here().into()),
    }
}
