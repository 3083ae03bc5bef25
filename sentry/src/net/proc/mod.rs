//! The network in `/proc` and sysfs.

mod counters;
mod files;
mod foreign_parameters;
mod parameters;
mod sysfs;

use self::files::NetFiles;
use crate::fs::Registration;
use crate::fs::pseudo::Entry;

pub(crate) use foreign_parameters::adopt;

/// The network's entries in file systems.
pub(crate) static REGISTRATION: Registration = Registration {
    proc: &[Entry::link("net", |_| Ok(b"self/net".to_vec()))],
    process: &[Entry::listing("net", 0o555, &[], &NetFiles)],
    parameters: parameters::PARAMETERS,
    foreign: Some(&foreign_parameters::FOREIGN),
    classes: &[Entry::listing("net", 0o755, &[], &sysfs::Links)],
    virtual_devices: &[Entry::listing("net", 0o755, &[], &sysfs::Directories)],
    ..Registration::EMPTY
};
