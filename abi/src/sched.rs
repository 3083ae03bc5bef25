//! Scheduling policies and memory barriers between processes.

named! {
    /// A scheduling policy, less [`SCHED_RESET_ON_FORK`].
    pub struct SchedPolicy(u32) {
        SCHED_NORMAL = 0,
        SCHED_FIFO = 1,
        SCHED_RR = 2,
        SCHED_BATCH = 3,
        SCHED_IDLE = 5,
        SCHED_DEADLINE = 6,
        SCHED_EXT = 7,
    }
}

/// The flag within the policy: children start with the default policy.
pub const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;

flags! {
    /// `sched_flags` of [`SchedAttr`].
    pub struct SchedFlags: u64 {
        SCHED_FLAG_RESET_ON_FORK = 0x1,
        SCHED_FLAG_RECLAIM = 0x2,
        SCHED_FLAG_DL_OVERRUN = 0x4,
        SCHED_FLAG_KEEP_POLICY = 0x8,
        SCHED_FLAG_KEEP_PARAMS = 0x10,
        SCHED_FLAG_UTIL_CLAMP_MIN = 0x20,
        SCHED_FLAG_UTIL_CLAMP_MAX = 0x40,
    }
}

layout! {
    /// The parameter of the POSIX scheduling calls.
    pub struct SchedParam: 4 {
        sched_priority: i32,
    }

    /// What `sched_setattr` reads and `sched_getattr` writes.
    pub struct SchedAttr: 56 {
        size: u32,
        sched_policy: u32,
        sched_flags: u64,
        sched_nice: i32,
        sched_priority: u32,
        sched_runtime: u64,
        sched_deadline: u64,
        sched_period: u64,
        sched_util_min: u32,
        sched_util_max: u32,
    }
}

/// The first size of [`SchedAttr`], without the utilization fields.
pub const SCHED_ATTR_SIZE_VER0: usize = 48;

named! {
    /// The command of `membarrier`.
    pub struct MembarrierCommand(u32) {
        MEMBARRIER_CMD_QUERY = 0,
        MEMBARRIER_CMD_GLOBAL = 1,
        MEMBARRIER_CMD_GLOBAL_EXPEDITED = 2,
        MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED = 4,
        MEMBARRIER_CMD_PRIVATE_EXPEDITED = 8,
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED = 16,
        MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE = 32,
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 64,
        MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ = 128,
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ = 256,
        MEMBARRIER_CMD_GET_REGISTRATIONS = 512,
    }
}

/// The flag by which a [`MembarrierCommand`] names one processor.
pub const MEMBARRIER_CMD_FLAG_CPU: u32 = 1;
