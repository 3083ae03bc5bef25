//! Scheduling parameters as the guest sees them. The host's scheduler makes the actual decisions.

use amber_abi::sched::SchedPolicy;

/// The CPUs that a task may use, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuSet(Vec<u64>);

impl CpuSet {
    /// The first `count` CPUs.
    pub(crate) fn first(count: usize) -> Self {
        let mut words = vec![0; count.div_ceil(64)];
        for cpu in 0..count {
            if let Some(word) = words.get_mut(cpu / 64) {
                *word |= 1 << (cpu % 64);
            }
        }
        CpuSet(words)
    }

    /// The set with these words of 64 bits.
    pub(crate) fn from_words(words: Vec<u64>) -> Self {
        CpuSet(words)
    }

    /// The words, as many as the sandbox's CPUs need.
    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    /// The intersection, with the length of this set.
    pub(crate) fn intersection(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.iter().enumerate().map(|(i, w)| w & other.0.get(i).copied().unwrap_or(0)).collect())
    }

    /// The lowest CPU; 0 for an empty set.
    pub(crate) fn first_cpu(&self) -> u32 {
        let word = self.0.iter().position(|&w| w != 0);
        word.map_or(0, |i| i as u32 * 64 + self.0.get(i).map_or(0, |w| w.trailing_zeros()))
    }

    /// Whether the set is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|&w| w == 0)
    }
}

/// The scheduling parameters of a task.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// The policy.
    pub policy: SchedPolicy,
    /// The static priority of real-time policies, 1 to 99; else 0.
    pub priority: u32,
    /// The nice value, -20 to 19.
    pub nice: i32,
    /// Children start with the default policy and nice value.
    pub reset_on_fork: bool,
    /// The CPUs that it may use.
    pub affinity: CpuSet,
    /// The I/O priority in the format of ioprio_set(2); 0 if never set.
    pub io_priority: u16,
}

impl Schedule {
    /// The default, on any of `cpus` CPUs.
    pub(crate) fn new(cpus: usize) -> Self {
        Schedule {
            policy: SchedPolicy::SCHED_NORMAL,
            priority: 0,
            nice: 0,
            reset_on_fork: false,
            affinity: CpuSet::first(cpus),
            io_priority: 0,
        }
    }

    /// The initial parameters of a child.
    pub(crate) fn for_child(&self) -> Self {
        let mut child = self.clone();
        if self.reset_on_fork {
            child.reset_on_fork = false;
            if self.is_real_time() {
                (child.policy, child.priority, child.nice) = (SchedPolicy::SCHED_NORMAL, 0, 0);
            }
            child.nice = child.nice.max(0);
        }
        child
    }

    /// Whether the policy is a real-time one.
    pub(crate) fn is_real_time(&self) -> bool {
        matches!(self.policy, SchedPolicy::SCHED_FIFO | SchedPolicy::SCHED_RR)
    }

    /// The priority in `/proc/PID/stat`: 20 + nice, or negative for real-time policies.
    pub(crate) fn shown_priority(&self) -> i32 {
        if self.is_real_time() { -1 - self.priority as i32 } else { 20 + self.nice }
    }
}
