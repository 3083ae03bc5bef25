//! Calls on tasks, processes and credentials.

pub mod capability;
pub mod clone;
pub mod credentials;
pub mod identity;
pub mod limits;
pub mod prctl;
pub mod schedule;
pub mod system;
pub mod usage;
pub mod wait;
