//! Calls on files and file systems.

pub mod descriptor;
pub mod directory;
pub mod names;
pub mod open;
pub mod rw;
pub mod stat;
pub mod support;
