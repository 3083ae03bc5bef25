//! The host calls of the sentry.

pub mod calls;
pub mod channel;
pub mod clock;
pub mod file_systems;
pub mod footprint;
pub mod fork;
pub mod fs;
pub mod memory_io;
pub mod mounts;
pub mod poller;
pub mod process;
pub mod processor;
pub mod reader;
pub mod refusal;
pub mod signals;
pub mod socket;
pub mod speculation;
pub mod terminal;
pub mod trees;
pub mod users;
pub mod xattr;
