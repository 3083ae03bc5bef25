//! Every host call the sentry makes, in one place.

pub mod channel;
pub mod clock;
pub mod fs;
pub mod memory_io;
pub mod poller;
pub mod process;
pub mod processor;
pub mod socket;
pub mod xattr;

pub mod signals;
pub mod terminal;
