//! The kernel: tasks, memory, files, signals, time, sockets and the system call table.
//!
//! # Lock order
//!
//! Locks are taken in ascending order of [`sync::Rank`], which debug builds check. No lock is held while guest memory
//! is accessed (which may fault and wait), while a task sleeps, or while a wait queue calls its waiters. [`sync::Rank`]
//! lists the ranks, outermost first, with their reasons.
//!
//! # Floors
//!
//! The modules are on floors, listed from the top. A module may import modules of lower floors, and those of its own
//! floor unless a bar separates them.
//!
//! ```text
//! sandbox
//! external_process
//! syscalls
//! net | tty | ipc | cgroup
//! fs
//! task signal futex time
//! loader
//! vfs mm aio
//! wait
//! clock config credentials error id_map interruption intervals profile self_ref slices sync tunables users
//! ```
//!
//! `kernel` is outside of the floors: the object of a sandbox imports the modules whose state it contains, and any
//! module may use it. A module reaches a higher floor through the kernel, such as [`fs::Registry`], or through a trait,
//! such as [`vfs::Caller`], the files' view of the calling task. `vfs` and `mm` import each other: a file has pages,
//! and a VMA keeps the open file it maps.
//!
//! One import leads upward. A test (`floors_tests.rs`) reads this list and fails for any other import, and for a listed
//! one that no longer exists.
//!
//! - `task` → `syscalls`: the loop of a task dispatches calls, and a new program gets the results that need no
//!   dispatch.
#![forbid(unsafe_code)]
// No input of a guest panics the kernel.
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

mod aio;
mod cgroup;
mod clock;
pub mod config;
mod credentials;
mod error;
pub mod external_process;
#[cfg(test)]
mod floors_tests;
mod fs;
mod futex;
pub mod id_map;
mod interruption;
mod intervals;
mod ipc;
mod kernel;
mod loader;
mod mm;
mod net;
#[cfg(test)]
mod places_tests;
pub mod profile;
pub mod sandbox;
mod self_ref;
mod signal;
mod slices;
#[cfg(test)]
mod statics_tests;
mod sync;
mod syscalls;
mod task;
mod time;
mod tty;
mod tunables;
mod users;
mod vfs;
mod wait;

pub use syscalls::{CallState, Entry, Parameter, entries};
pub use task::Filter;
pub use tty::Console;
