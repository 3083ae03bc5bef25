//! Additions of subsystems to the file systems: types that can be mounted, devices, entries of proc and sysfs, and
//! parameters of `/proc/sys`.
//!
//! Each subsystem has one [`Registration`]. The sandbox lists these, so that no file system depends on a subsystem.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;

use crate::error::{SysError, SysResult};
use crate::fs::dev::Driver;
use crate::fs::proc::parameters::{Foreign, Parameter};
use crate::fs::pseudo::Entry;
use crate::fs::special;
use crate::vfs::types::FileSystemType;
use crate::vfs::{Caller, File, Path};

/// The additions of one subsystem.
pub(crate) struct Registration {
    /// File system types. None of them requires a device.
    pub file_systems: &'static [FileSystemType],
    /// Character devices, in order of their numbers.
    pub drivers: &'static [Driver],
    /// ioctl(2) commands of a host terminal that is a descriptor of the guest.
    pub host_terminal: Option<HostIoctl>,
    /// Entries of `/proc`.
    pub proc: &'static [Entry],
    /// Entries of `/proc/PID` and `/proc/PID/task/TID`.
    pub process: &'static [Entry],
    /// Parameters of `/proc/sys`.
    pub parameters: &'static [Parameter],
    /// Parameters of another kernel that may replace those above.
    pub foreign: Option<&'static Foreign>,
    /// Entries of `/sys/class`.
    pub classes: &'static [Entry],
    /// Entries of `/sys/devices/virtual`.
    pub virtual_devices: &'static [Entry],
}

impl Registration {
    /// An empty registration, for the fields that a registration does not set.
    pub(crate) const EMPTY: Registration = Registration {
        file_systems: &[],
        drivers: &[],
        host_terminal: None,
        proc: &[],
        process: &[],
        parameters: &[],
        foreign: None,
        classes: &[],
        virtual_devices: &[],
    };
}

/// Executes a command on a host descriptor.
pub(super) type HostIoctl = fn(BorrowedFd<'_>, &dyn Caller, command: u32, argument: u64) -> SysResult;

/// Selects the entries of a registration for a directory.
pub(crate) type Added = fn(&Registration) -> &'static [Entry];

/// The additions of all subsystems.
pub(crate) struct Registry {
    registrations: &'static [&'static Registration],
    /// Sorted by components of their paths, so that those of one directory are adjacent.
    parameters: Vec<&'static Parameter>,
}

impl Registry {
    /// Combines registrations.
    pub(crate) fn new(registrations: &'static [&'static Registration]) -> Self {
        let mut parameters: Vec<_> = registrations.iter().flat_map(|r| r.parameters).collect();
        parameters.sort_by(|a, b| a.path().split('/').cmp(b.path().split('/')));
        Registry { registrations, parameters }
    }

    /// All file system types, in the order of `/proc/filesystems`.
    pub(crate) fn file_systems(&self) -> impl Iterator<Item = &'static FileSystemType> + use<> {
        self.registrations.iter().flat_map(|r| r.file_systems)
    }

    /// The file system type with this name.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub(crate) fn file_system(&self, name: &[u8]) -> Result<&'static FileSystemType, Errno> {
        self.file_systems().find(|t| t.name.as_bytes() == name).ok_or_else(|| Errno::ENODEV.here())
    }

    /// All character devices.
    pub(crate) fn drivers(&self) -> impl Iterator<Item = &'static Driver> + use<> {
        self.registrations.iter().flat_map(|r| r.drivers)
    }

    /// The ioctl(2) commands of a host terminal.
    pub(crate) fn host_terminal(&self) -> Option<HostIoctl> {
        self.registrations.iter().find_map(|r| r.host_terminal)
    }

    /// The entries added to a directory.
    pub(crate) fn entries(&self, added: Added) -> impl Iterator<Item = &'static Entry> + use<> {
        self.registrations.iter().flat_map(move |r| added(r))
    }

    /// All parameters; those of one directory are adjacent.
    pub(crate) fn parameters(&self) -> &[&'static Parameter] {
        &self.parameters
    }

    /// The directories with parameters of another kernel.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &'static Foreign> + use<> {
        self.registrations.iter().filter_map(|r| r.foreign)
    }

    /// Opens a device node, a fifo or a socket's name.
    ///
    /// # Errors
    /// `ENXIO` for sockets and for devices without a driver; errors of the driver.
    pub(crate) fn open_special(
        &self,
        caller: &dyn Caller,
        path: &Path,
        flags: OpenFlags,
    ) -> Result<Arc<dyn File>, SysError> {
        special::open(self, caller, path, flags)
    }
}
