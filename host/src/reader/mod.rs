//! Files of the host's `/proc` and `/sys`, read by an unprivileged process.
//!
//! The contents of such a file, and whether it may be read at all, depend on the reader's identity. So the sandbox does
//! not read them itself. A separate process, the *reader*, runs as a user that owns nothing and has no capability, and
//! the host's kernel gives it what it would give anyone. It resolves names beneath directories that it was given, never
//! through a symbolic link, and opens regular files and directories for reading only. It returns bytes and never
//! descriptors, because many files check the rights at each read and not at the open.
//!
//! A connection carries one request at a time, as one datagram in each direction. The sandbox waits for an answer for a
//! bounded time.

mod client;
mod server;
mod wire;

pub use client::{Opened, Reader, TreeFile};
#[cfg(test)]
use server::serve;
pub use server::{Tree, serve_alone};

/// Maximum number of bytes per read.
pub const MAX_READ: usize = 64 << 10;
/// Maximum length of a path beneath a tree, with the terminating zero: Linux's `PATH_MAX`.
const MAX_PATH: usize = 4096;
/// Number of files that the reader keeps open. One more closes the oldest, which the client then reopens.
const OPEN_FILES: usize = 64;
