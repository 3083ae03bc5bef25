//! The OOM killer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use amber_abi::Signal;
use amber_abi::task::WaitStatus;

use super::ControlGroup;
use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::task::{STACK_COST, ThreadGroup};

/// The score of exempt processes (`OOM_SCORE_ADJ_MIN`), and the top of the scale.
const EXEMPT: i32 = -1000;
const SCALE: i64 = 1000;

/// Kills one process at a time.
pub(super) struct Killer {
    /// The process killed last, until it is gone.
    last: Mutex<Weak<ThreadGroup>>,
    one: parking_lot::Mutex<()>,
}

impl Default for Killer {
    fn default() -> Self {
        Killer { last: Mutex::new(Rank::Leaf, Weak::new()), one: parking_lot::Mutex::new(()) }
    }
}

/// A process that may be chosen.
struct Candidate {
    group: Arc<ThreadGroup>,
    resident: u64,
    /// Its memory, adjusted by `oom_score_adj`.
    points: i64,
}

fn candidates(kernel: &Kernel) -> Vec<Candidate> {
    let groups: Vec<_> = kernel.processes.lock().processes().map(|p| p.group.clone()).collect();
    let all = kernel.cgroup.memory_shown(kernel);
    let weigh = |group: Arc<ThreadGroup>| {
        let adjustment = group.oom_score_adj();
        if adjustment <= EXEMPT {
            return None;
        }
        let tasks = group.tasks();
        let (task, memory) = tasks.iter().find_map(|task| Some((task, task.memory()?)))?;
        // Killing it also releases kernel memory.
        let signals = {
            let state = group.state();
            let own: u64 = state.tasks.iter().map(|task| task.signals().pending.kept_bytes()).sum();
            own + state.pending.kept_bytes()
        };
        let kept = task.files().kept_bytes() + signals + group.timers().kept_bytes();
        let kernel = memory.kernel_bytes() + kept + tasks.len() as u64 * STACK_COST;
        let resident = memory.totals().rss + kernel;
        let signed = i64::try_from(resident).unwrap_or(i64::MAX);
        let shift = (i64::try_from(all).unwrap_or(i64::MAX) / SCALE).saturating_mul(adjustment.into());
        Some(Candidate { group, resident, points: signed.saturating_add(shift) })
    };
    groups.into_iter().filter_map(weigh).collect()
}

impl ControlGroup {
    /// Kills the process with the most memory, adjusted by `oom_score_adj`, and returns it. While the process killed
    /// before is not gone, returns that. `None` if there is none to kill. No lock may be held.
    pub(super) fn kill_one(&self, kernel: &Kernel) -> Option<Arc<ThreadGroup>> {
        let _one = self.oom.one.lock();
        let last = self.oom.last.lock().upgrade();
        if let Some(last) = last.filter(|group| group.task_count() > 0) {
            return Some(last);
        }
        let first = self.oom_events.fetch_add(1, Ordering::Relaxed) == 0;
        let Some(victim) = candidates(kernel).into_iter().max_by_key(|candidate| candidate.points) else {
            let level = if first { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "memory is used up, and no process may be killed for it");
            return None;
        };
        let group = victim.group;
        let name = group.tasks().first().map(|task| task.name()).unwrap_or_default();
        log::warn!(
            "memory is used up: process {} ({}) with {} KiB is killed, oom_score_adj {}",
            group.pid(),
            String::from_utf8_lossy(&name),
            victim.resident / 1024,
            group.oom_score_adj(),
        );
        self.killed.fetch_add(1, Ordering::Relaxed);
        *self.oom.last.lock() = Arc::downgrade(&group);
        group.state().begin_end(WaitStatus::Signaled(Signal::SIGKILL, false));
        Some(group)
    }
}
