//! Files of `/proc` and `/sys` of the host, read by a process without rights.
//!
//! What such a file says, and whether it may be read at all, depends on who asks. So it is not the sandbox that asks but
//! a process of its own, the *reader*: a user that owns nothing, with no capability, which the host's kernel gives what it
//! gives anybody. It looks names up beneath directories that it was given, never through a symbolic link, opens regular
//! files and directories for reading only, and returns bytes, never descriptors: many files look at the rights of each
//! read, not of the open.
//!
//! A connection carries one request at a time, a datagram each way. The sandbox waits for an answer for a bounded time.

mod client;
mod server;
mod wire;

pub use client::{Opened, Reader, TreeFile};
#[cfg(test)]
use server::serve;
pub use server::{Tree, serve_alone};

/// How much a file answers to one read.
pub const MAX_READ: usize = 64 << 10;
/// The longest path beneath a tree, with the zero at its end: Linux's `PATH_MAX`.
const MAX_PATH: usize = 4096;
/// How many files the reader keeps open. One more closes the oldest, which its user then opens anew.
const OPEN_FILES: usize = 64;
