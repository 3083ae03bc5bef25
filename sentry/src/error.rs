//! How a system call ends.

use amber_abi::errno::Errno;
use amber_platform::OutOfMemory;

/// What a handler answers: the value for the guest's `rax`, or why there is none.
pub type SysResult = Result<u64, SysError>;

/// Why a system call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SysError {
    /// The guest sees this errno.
    Errno(Errno),
    /// A signal came before the call was done; what happens next depends on the handler of that signal.
    Restart(Restart),
}

/// How an interrupted call goes on after the signal (see signal(7), "Interruption of system calls").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// `ERESTARTSYS`: run again if the handler has `SA_RESTART` or there is no handler, else `EINTR`.
    IfAsked,
    /// `ERESTARTNOHAND`: run again only if no handler ran, else `EINTR`.
    UnlessHandled,
    /// `ERESTARTNOINTR`: always run again.
    Always,
    /// `ERESTART_RESTARTBLOCK`: go on through restart_syscall(2) if no handler ran, else `EINTR`.
    Resume(Resume),
}

/// What restart_syscall(2) goes on with: a wait with its end fixed at the first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// nanosleep(2) and clock_nanosleep(2) with a relative time.
    Sleep {
        /// The clock slept on, as `clockid_t`.
        clock: i32,
        /// When to wake, in nanoseconds of that clock.
        until: u64,
        /// Where the guest wants the time that remained, or 0.
        remainder: u64,
    },
    /// poll(2).
    Poll {
        /// The guest's array.
        fds: u64,
        /// Its length.
        count: u32,
        /// When to give up, in nanoseconds of CLOCK_MONOTONIC; none for ever.
        until: Option<u64>,
    },
    /// futex(2) with FUTEX_WAIT and a relative timeout.
    FutexWait {
        /// Address of the word.
        address: u64,
        /// The value it must still have.
        value: u32,
        /// The operation word with its flags.
        operation: i32,
        /// FUTEX_WAIT_BITSET's mask.
        mask: u32,
        /// When to give up, in nanoseconds of CLOCK_MONOTONIC.
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
