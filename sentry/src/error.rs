//! Results of system calls.

use amber_abi::errno::Errno;
use amber_platform::OutOfMemory;

/// The result of a handler: the value for the guest's `rax`, or an error.
pub(crate) type SysResult = Result<u64, SysError>;

/// Why a system call has no result value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SysError {
    /// An errno for the guest.
    Errno(Errno),
    /// Interrupted by a signal, whose handler decides how the call continues.
    Restart(Restart),
}

/// How an interrupted call continues after the signal (signal(7), "Interruption of system calls").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// `ERESTARTSYS`: restarted if the handler has `SA_RESTART` or there is no handler, else `EINTR`.
    ByFlag,
    /// `ERESTARTNOHAND`: restarted only if no handler runs, else `EINTR`.
    UnlessHandled,
    /// `ERESTARTNOINTR`: always restarted.
    Always,
    /// `ERESTART_RESTARTBLOCK`: continued by restart_syscall(2) if no handler runs, else `EINTR`.
    Resume(Resume),
}

/// The call that restart_syscall(2) continues, with the deadline of its first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// nanosleep(2) and clock_nanosleep(2) with a relative time.
    Sleep {
        /// The `clockid_t`.
        clock: i32,
        /// The deadline in nanoseconds of that clock.
        until: u64,
        /// Guest address for the remaining time, or 0.
        remainder: u64,
    },
    /// poll(2).
    Poll {
        /// Guest address of the array.
        fds: u64,
        /// Its length.
        count: u32,
        /// The deadline in nanoseconds of CLOCK_MONOTONIC; none to wait forever.
        until: Option<u64>,
    },
    /// futex(2) with FUTEX_WAIT and a relative timeout.
    FutexWait {
        /// Address of the word.
        address: u64,
        /// The expected value.
        value: u32,
        /// The operation with its flags.
        operation: i32,
        /// The mask of FUTEX_WAIT_BITSET.
        mask: u32,
        /// The deadline in nanoseconds of CLOCK_MONOTONIC.
        until: u64,
    },
}

impl From<Errno> for SysError {
    fn from(errno: Errno) -> Self {
        SysError::Errno(errno)
    }
}

impl From<OutOfMemory> for SysError {
    #[track_caller]
    fn from(error: OutOfMemory) -> Self {
        SysError::Errno(error.into())
    }
}

impl From<Restart> for SysError {
    fn from(restart: Restart) -> Self {
        SysError::Restart(restart)
    }
}
