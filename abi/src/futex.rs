//! Futexes, robust lists and restartable sequences.

use core::fmt;

/// The operation of `futex`: a command and two flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FutexOp(u32);

named! {
    /// The command within a [`FutexOp`].
    pub struct FutexCommand(u32) {
        FUTEX_WAIT = 0,
        FUTEX_WAKE = 1,
        FUTEX_FD = 2,
        FUTEX_REQUEUE = 3,
        FUTEX_CMP_REQUEUE = 4,
        FUTEX_WAKE_OP = 5,
        FUTEX_LOCK_PI = 6,
        FUTEX_UNLOCK_PI = 7,
        FUTEX_TRYLOCK_PI = 8,
        FUTEX_WAIT_BITSET = 9,
        FUTEX_WAKE_BITSET = 10,
        FUTEX_WAIT_REQUEUE_PI = 11,
        FUTEX_CMP_REQUEUE_PI = 12,
        FUTEX_LOCK_PI2 = 13,
    }
}

impl FutexOp {
    /// The futex is not shared between processes.
    pub const FUTEX_PRIVATE_FLAG: u32 = 128;
    /// The timeout is of the wall clock.
    pub const FUTEX_CLOCK_REALTIME: u32 = 256;

    /// The operation with this number.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The number.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The command without the flags.
    pub const fn command(self) -> FutexCommand {
        FutexCommand::from_raw(self.0 & !(Self::FUTEX_PRIVATE_FLAG | Self::FUTEX_CLOCK_REALTIME))
    }

    /// Whether the futex is private to the process.
    pub const fn is_private(self) -> bool {
        self.0 & Self::FUTEX_PRIVATE_FLAG != 0
    }

    /// Whether the timeout is of the wall clock.
    pub const fn is_realtime(self) -> bool {
        self.0 & Self::FUTEX_CLOCK_REALTIME != 0
    }
}

impl crate::FromRegister for FutexOp {
    fn from_register(value: u64) -> Self {
        Self(value as u32)
    }
}

impl fmt::Display for FutexOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let private = if self.is_private() { "_PRIVATE" } else { "" };
        let realtime = if self.is_realtime() { "|FUTEX_CLOCK_REALTIME" } else { "" };
        write!(f, "{}{private}{realtime}", self.command())
    }
}

impl fmt::Debug for FutexOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

consts! { u32:
    FUTEX_WAITERS = 0x80000000,
    FUTEX_OWNER_DIED = 0x40000000,
    FUTEX_TID_MASK = 0x3fffffff,
    FUTEX_BITSET_MATCH_ANY = 0xffffffff,
    FUTEX_OP_SET = 0,
    FUTEX_OP_ADD = 0x1,
    FUTEX_OP_OR = 0x2,
    FUTEX_OP_ANDN = 0x3,
    FUTEX_OP_XOR = 0x4,
    FUTEX_OP_OPARG_SHIFT = 0x8,
    FUTEX_OP_CMP_EQ = 0,
    FUTEX_OP_CMP_NE = 0x1,
    FUTEX_OP_CMP_LT = 0x2,
    FUTEX_OP_CMP_LE = 0x3,
    FUTEX_OP_CMP_GT = 0x4,
    FUTEX_OP_CMP_GE = 0x5,
}

consts! { usize:
    /// The most entries of a robust list that are walked.
    ROBUST_LIST_LIMIT = 2048,
    /// The most futexes `futex_waitv` waits for.
    FUTEX_WAITV_MAX = 128,
}

flags! {
    zero FUTEX2_SIZE_U8;
    /// The flags of `futex_waitv` entries and of the `futex_wake` family.
    pub struct Futex2Flags: u32 {
        FUTEX2_SIZE_U64 = 3,
        FUTEX2_SIZE_U16 = 1,
        FUTEX2_SIZE_U32 = 2,
        FUTEX2_NUMA = 4,
        FUTEX2_PRIVATE = 0x80,
    }
}

layout! {
    /// The head of a thread's list of robust futexes.
    pub struct RobustListHead: 24 {
        /// The first entry; the low bit of a link says that its futex is a PI one.
        list: u64,
        futex_offset: i64,
        list_op_pending: u64,
    }

    /// One futex of `futex_waitv`.
    pub struct FutexWaitv: 24 {
        val: u64,
        uaddr: u64,
        /// [`Futex2Flags`].
        flags: u32,
        __reserved: u32,
    }

    /// What `rseq` registers.
    pub struct Rseq: 32 {
        cpu_id_start: u32,
        cpu_id: u32,
        rseq_cs: u64,
        flags: u32,
        node_id: u32,
        mm_cid: u32,
        _pad0: u32,
    }

    /// A critical section of a restartable sequence.
    pub struct RseqCs: 32 {
        version: u32,
        flags: u32,
        start_ip: u64,
        post_commit_offset: u64,
        abort_ip: u64,
    }
}

consts! { u32:
    RSEQ_FLAG_UNREGISTER = 1,
    RSEQ_CPU_ID_UNINITIALIZED = 0xffff_ffff,
    RSEQ_CPU_ID_REGISTRATION_FAILED = 0xffff_fffe,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations() {
        let op = FutexOp::from_raw(libc::FUTEX_WAIT_BITSET as u32 | 128 | 256);
        assert_eq!(op.to_string(), "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME");
        assert_eq!(op.command(), FutexCommand::FUTEX_WAIT_BITSET);
    }
}
