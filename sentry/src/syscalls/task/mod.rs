//! Tasks, processes and credentials.

pub mod capability;
pub mod clone;
pub mod credentials;
pub mod exec;
pub mod futex;
pub mod identity;
pub mod limits;
pub mod pidfd;
pub mod prctl;
mod prctl_memory;
pub mod robust;
pub mod schedule;
pub mod seccomp;
pub mod system;
pub mod usage;
pub mod wait;
