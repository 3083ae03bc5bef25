//! Rules of system calls, tested in this process: a kernel on a platform that executes no instructions, whose guest tasks make
//! the calls that a test names. CONTRIBUTING.md says how to write one.
#![forbid(unsafe_code)]

mod descriptors;
mod files;
mod guest;
mod memory;
mod processes;
mod program;
mod signals;
mod sockets;
