//! Terminals: the line discipline, pseudo-terminal pairs, and their sessions (tty(4), pty(7), termios(3)).

mod console;
mod devices;
pub(crate) mod devpts;
mod discipline;
mod host_terminal;
mod ioctl;
mod jobs;
mod master;
pub(crate) mod modes;
mod proc;
mod pty;
mod slave;
mod state;

pub use console::Console;
pub(crate) use jobs::acquire_if_free;
pub(crate) use master::MasterFile;
pub(crate) use pty::{Pty, PtyHome, SLAVE_MAJOR};
pub(crate) use state::Terminals;

use crate::fs::Registration;
use crate::fs::dev::Driver;
use crate::vfs::types::FileSystemType;

/// The terminals' entries in file systems.
pub(crate) static REGISTRATION: Registration = Registration {
    file_systems: &[FileSystemType { name: "devpts", make: devpts::make }],
    drivers: &[
        Driver::new("/dev/tty", 5, 0..=0, devices::open_controlling),
        Driver::new("/dev/console", 5, 1..=1, devices::open_console),
        Driver::new("/dev/ptmx", 5, 2..=2, devices::open_master),
        Driver::new("pts", 136, 0..=(1 << 20) - 1, devices::open_slave),
    ],
    host_terminal: Some(host_terminal::ioctl),
    proc: proc::ENTRIES,
    parameters: proc::PARAMETERS,
    ..Registration::EMPTY
};
