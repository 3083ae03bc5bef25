//! What prctl(2) and personality(2) set for one task, and its children begin with.

use amber_abi::prctl::PR_MCE_KILL_DEFAULT;

/// The slack of timers of the first process, in nanoseconds.
const TIMER_SLACK: u64 = 50_000;

/// The settings of a task.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The execution domain, as personality(2) has it.
    pub personality: u32,
    /// The slack of its timers in nanoseconds; 0 for a real-time task.
    pub timer_slack: u64,
    /// What the slack goes back to: what the parent's was.
    pub default_timer_slack: u64,
    /// How it wants to hear of broken memory (`PR_MCE_KILL`): early, late or as the system does.
    pub memory_errors: u64,
    /// It is part of the way to a disk (`PR_SET_IO_FLUSHER`).
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
    /// What a child begins with.
    pub fn for_child(self) -> Settings {
        Settings { default_timer_slack: self.timer_slack, ..self }
    }
}
