//! Clocks that show how much processor time a process or a thread used.

use std::sync::{Arc, Weak};

use crate::task::{Activity, Task, ThreadGroup, Usage};

/// Which part of the processor time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The time in the program's own code.
    User,
    /// All of it.
    All,
}

/// Whose time counts.
#[derive(Clone)]
enum Whose {
    Process(Weak<ThreadGroup>),
    Thread(Weak<Task>),
}

/// The clock of a process or thread.
#[derive(Clone)]
pub struct CpuClock {
    whose: Whose,
    part: Part,
}

/// The shortest time after which a clock is looked at again, in nanoseconds: Linux looks at each tick.
const TICK: u64 = 1_000_000;

impl CpuClock {
    /// The clock of a process.
    pub fn of_process(group: &Arc<ThreadGroup>, part: Part) -> CpuClock {
        CpuClock { whose: Whose::Process(Arc::downgrade(group)), part }
    }

    /// The clock of a thread.
    pub fn of_thread(task: &Arc<Task>, part: Part) -> CpuClock {
        CpuClock { whose: Whose::Thread(Arc::downgrade(task)), part }
    }

    /// What it shows; none once the process or thread is gone.
    pub fn now(&self) -> Option<u64> {
        let usage = match &self.whose {
            Whose::Process(group) => group.upgrade()?.usage(),
            Whose::Thread(task) => task.upgrade()?.usage(),
        };
        Some(match self.part {
            Part::User => usage.user,
            Part::All => total(&usage),
        })
    }

    /// After how many nanoseconds of real time the clock may have gone on by `remaining`; none while nothing that it
    /// counts is running.
    pub fn check_delay(&self, remaining: u64) -> Option<u64> {
        let running = |task: &Arc<Task>| matches!(task.activity(), Activity::Guest | Activity::Kernel);
        let threads = match &self.whose {
            Whose::Process(group) => group.upgrade()?.tasks().iter().filter(|t| running(t)).count(),
            Whose::Thread(task) => usize::from(running(&task.upgrade()?)),
        };
        Some(remaining.checked_div(threads as u64)?.max(TICK))
    }
}

/// User and system time together.
pub fn total(usage: &Usage) -> u64 {
    usage.user.saturating_add(usage.system)
}
