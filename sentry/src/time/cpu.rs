//! CPU time clocks of processes and threads.

use std::sync::{Arc, Weak};

use crate::task::{Activity, Task, ThreadGroup, Usage};

/// The part of the CPU time that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Time in guest code.
    User,
    /// All time.
    All,
}

/// The owner of the clock.
#[derive(Clone)]
enum Whose {
    Process(Weak<ThreadGroup>),
    Thread(Weak<Task>),
}

/// The CPU time clock of a process or thread.
#[derive(Clone)]
pub(crate) struct CpuClock {
    whose: Whose,
    part: Part,
}

/// The minimum interval between two checks of a clock, in nanoseconds. Linux checks at each tick.
const TICK: u64 = 1_000_000;

impl CpuClock {
    /// The clock of a process.
    pub(crate) fn of_process(group: &Arc<ThreadGroup>, part: Part) -> CpuClock {
        CpuClock { whose: Whose::Process(Arc::downgrade(group)), part }
    }

    /// The clock of a thread.
    pub(crate) fn of_thread(task: &Arc<Task>, part: Part) -> CpuClock {
        CpuClock { whose: Whose::Thread(Arc::downgrade(task)), part }
    }

    /// The time; none after the end of the process or thread.
    pub(crate) fn now(&self) -> Option<u64> {
        let usage = match &self.whose {
            Whose::Process(group) => group.upgrade()?.usage(),
            Whose::Thread(task) => task.upgrade()?.usage(),
        };
        Some(match self.part {
            Part::User => usage.user,
            Part::All => total(&usage),
        })
    }

    /// The real time in nanoseconds after which the clock may have advanced by `remaining`; none while none of its
    /// threads runs.
    pub(crate) fn check_delay(&self, remaining: u64) -> Option<u64> {
        let running = |task: &Arc<Task>| matches!(task.activity(), Activity::Guest | Activity::Kernel);
        let threads = match &self.whose {
            Whose::Process(group) => group.upgrade()?.tasks().iter().filter(|t| running(t)).count(),
            Whose::Thread(task) => usize::from(running(&task.upgrade()?)),
        };
        Some(remaining.checked_div(threads as u64)?.max(TICK))
    }
}

/// The sum of user and system time.
pub(crate) fn total(usage: &Usage) -> u64 {
    usage.user.saturating_add(usage.system)
}
