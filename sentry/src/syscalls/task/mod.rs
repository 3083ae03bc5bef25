//! Tasks, processes and credentials.

pub(crate) mod capability;
pub(crate) mod clone;
pub(crate) mod credentials;
pub(crate) mod exec;
pub(crate) mod futex;
pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod pidfd;
pub(crate) mod prctl;
mod prctl_memory;
pub(crate) mod robust;
pub(crate) mod schedule;
pub(crate) mod seccomp;
pub(crate) mod system;
pub(crate) mod usage;
pub(crate) mod wait;
