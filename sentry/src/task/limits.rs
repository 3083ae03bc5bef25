//! Resource limits.

use amber_abi::task::{RLIM_INFINITY, RLimit, Resource};

/// The limits of a process: soft and hard, by resource.
#[derive(Clone, Debug)]
pub(crate) struct Limits([RLimit; Resource::COUNT]);

/// The size of Linux's default stack limit in bytes.
const STACK: u64 = 8 << 20;
/// Default limit of descriptors, soft and hard (fs.nr_open bounds the hard limit).
const FILES: (u64, u64) = (1024, 1 << 20);
/// Default limit of locked memory in bytes.
const LOCKED: u64 = 8 << 20;
/// Default limit of a user's POSIX message queues in bytes.
const MESSAGES: u64 = 819_200;
/// Default limit of a user's tasks and queued signals.
const TASKS: u64 = 15_610;

impl Default for Limits {
    fn default() -> Self {
        let infinity = RLimit { rlim_cur: RLIM_INFINITY, rlim_max: RLIM_INFINITY };
        let mut limits = Limits([infinity; Resource::COUNT]);
        let defaults = [
            (Resource::RLIMIT_STACK, STACK, RLIM_INFINITY),
            (Resource::RLIMIT_CORE, 0, RLIM_INFINITY),
            (Resource::RLIMIT_NPROC, TASKS, TASKS),
            (Resource::RLIMIT_NOFILE, FILES.0, FILES.1),
            (Resource::RLIMIT_MEMLOCK, LOCKED, LOCKED),
            (Resource::RLIMIT_SIGPENDING, TASKS, TASKS),
            (Resource::RLIMIT_MSGQUEUE, MESSAGES, MESSAGES),
            (Resource::RLIMIT_NICE, 0, 0),
            (Resource::RLIMIT_RTPRIO, 0, 0),
        ];
        for (resource, soft, hard) in defaults {
            limits.set(resource, RLimit { rlim_cur: soft, rlim_max: hard });
        }
        limits
    }
}

impl Limits {
    /// Both limits of a resource; none for an unknown resource.
    pub(crate) fn get(&self, resource: Resource) -> RLimit {
        let none = RLimit { rlim_cur: RLIM_INFINITY, rlim_max: RLIM_INFINITY };
        self.0.get(resource.raw() as usize).copied().unwrap_or(none)
    }

    /// The limit in force.
    pub(crate) fn soft(&self, resource: Resource) -> u64 {
        self.get(resource).rlim_cur
    }

    /// Sets both limits of a resource; the caller checks them.
    pub(crate) fn set(&mut self, resource: Resource, limit: RLimit) {
        if let Some(slot) = self.0.get_mut(resource.raw() as usize) {
            *slot = limit;
        }
    }
}
