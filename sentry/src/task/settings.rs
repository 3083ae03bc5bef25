//! Settings of a task by prctl(2) and personality(2), which its children inherit.

use amber_abi::prctl::PR_MCE_KILL_DEFAULT;

/// The timer slack of the first process in nanoseconds.
const TIMER_SLACK: u64 = 50_000;

/// The settings of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The execution domain, see personality(2).
    pub personality: u32,
    /// The timer slack in nanoseconds; 0 for a real-time task.
    pub timer_slack: u64,
    /// The default timer slack: the parent's value at creation.
    pub default_timer_slack: u64,
    /// When it is notified of memory errors (`PR_MCE_KILL`): early, late or by the system's default.
    pub memory_errors: u64,
    /// Whether it is part of the I/O path (`PR_SET_IO_FLUSHER`).
    pub io_flusher: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            personality: 0,
            timer_slack: TIMER_SLACK,
            default_timer_slack: TIMER_SLACK,
            memory_errors: PR_MCE_KILL_DEFAULT,
            io_flusher: false,
        }
    }
}

impl Settings {
    /// The initial settings of a child.
    pub(crate) fn for_child(self) -> Settings {
        Settings { default_timer_slack: self.timer_slack, ..self }
    }
}
