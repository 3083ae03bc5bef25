//! Terminals: the line discipline, pseudo-terminal pairs, and what ties them to sessions (tty(4), pty(7), termios(3)).

mod console;
pub(crate) mod devices;
pub mod devpts;
mod discipline;
pub(crate) mod host_terminal;
mod ioctl;
mod jobs;
mod master;
pub(crate) mod modes;
mod pty;
mod slave;

pub use console::Console;
pub use discipline::{LineDiscipline, Received};
pub use jobs::acquire_if_free;
pub use master::MasterFile;
pub use pty::{Pty, PtyHome, SLAVE_MAJOR};
pub use slave::SlaveFile;
