//! The kernel: tasks, memory, files, signals, time, sockets and the system call table.
//!
//! # Lock order
//!
//! A lock may be taken only while locks of lower [`sync::Rank`] are held; debug builds check it. No lock is held while
//! guest memory is touched (that may fault and wait), while a task sleeps, or while a wait queue calls its waiters.
//! The ranks, outermost first, are listed with their reasons at [`sync::Rank`].
//!
//! # Floors
//!
//! The modules stand on floors, the highest first. A module names only modules below it, and those beside it on its own
//! floor unless a bar stands between them.
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
//! clock config credentials error interruption intervals profile sync tunables users
//! ```
//!
//! `kernel` stands beside all of them: the object of a sandbox names the modules whose state it holds, and any module may
//! be given it. What one floor needs of a higher one it reaches through the kernel, such as [`fs::Registry`], or through
//! a trait, such as [`vfs::Caller`], which is what files know of the task that calls. `vfs` and `mm` name each other: a file
//! has pages, and an area keeps the open file it maps.
//!
//! One import leads upward. A test (`floors_tests.rs`) reads this list and fails for any other import, and for one that
//! is no longer there.
//!
//! - `task` → `syscalls`: the loop of a task dispatches calls, and a new program gets the answers that need no dispatch.
#![forbid(unsafe_code)]

pub mod aio;
pub mod cgroup;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod error;
pub mod external_process;
#[cfg(test)]
mod floors_tests;
pub mod fs;
pub mod futex;
pub mod interruption;
pub mod intervals;
pub mod ipc;
pub mod kernel;
pub mod loader;
pub mod mm;
pub mod net;
#[cfg(test)]
mod places_tests;
pub mod profile;
pub mod sandbox;
pub mod signal;
#[cfg(test)]
mod statics_tests;
pub mod sync;
pub mod syscalls;
pub mod task;
pub mod time;
pub mod tty;
pub mod tunables;
pub mod users;
pub mod vfs;
pub mod wait;
