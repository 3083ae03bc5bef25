//! Linux as data: the numbers, structures and flags of its x86-64 user interface.
//!
//! Flag sets and enumerations print (`Display`) as Linux spells them, and are made from an argument register by
//! [`FromRegister`]; structures have exactly the layout of the kernel's, are zero by default and convert from and to
//! bytes by `zerocopy`.
#![forbid(unsafe_code)]
// No input of a guest panics what reads it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::todo,
    clippy::unimplemented,
    clippy::indexing_slicing,
    clippy::string_slice
)]

#[macro_use]
mod macros;

pub mod acl;
pub mod aio;
pub mod capability;
pub mod elf;
pub mod errno;
pub mod futex;
pub mod host_call;
pub mod inotify;
pub mod ioctl;
pub mod ipc;
pub mod mm;
pub mod mount;
pub mod netlink;
pub mod open;
pub mod poll;
pub mod prctl;
pub mod ptrace;
pub mod release;
pub mod sched;
pub mod seccomp;
pub mod sigframe;
pub mod siginfo;
pub mod signal;
pub mod socket;
pub mod sockopt;
pub mod stat;
pub mod task;
pub mod termios;
pub mod time;
pub mod xattr;

pub use errno::Errno;
pub use release::Release;
pub use siginfo::SigInfo;
pub use signal::{Signal, SignalSet};

/// A number whose values have names.
pub trait Named {
    /// Linux's name for this value, if it has one.
    fn name(&self) -> Option<&'static str>;
}

/// A value that arrives in an argument register of a system call.
pub trait FromRegister {
    /// Takes the value's low bits, as the kernel does; unknown bits and values are kept.
    fn from_register(value: u64) -> Self;
}
