//! Calls on files and file systems.

pub mod rw;
