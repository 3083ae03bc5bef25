//! The kernel: tasks, memory, files, signals, time, sockets and the system call table.
//!
//! # Lock order
//!
//! A lock may be taken only while locks of lower [`sync::Rank`] are held; debug builds check it. No lock is held while
//! guest memory is touched (that may fault and wait), while a task sleeps, or while a wait queue calls its waiters.
//! The ranks, outermost first, are listed with their reasons at [`sync::Rank`].
#![forbid(unsafe_code)]

pub mod aio;
pub mod boot;
pub mod cgroup;
pub mod error;
pub mod fs;
pub mod futex;
pub mod interruption;
pub mod ipc;
pub mod kernel;
pub mod loader;
pub mod mm;
pub mod net;
pub mod process;
pub mod profile;
pub mod signal;
pub mod start;
pub mod sync;
pub mod syscalls;
pub mod task;
pub mod time;
pub mod tty;
pub mod tunables;
pub mod vfs;
pub mod wait;
