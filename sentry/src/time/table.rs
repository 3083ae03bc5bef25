//! The timers of a process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amber_abi::errno::Errno;

use crate::signal::SignalSource;
use crate::sync::{Mutex, Rank};
use crate::task::ThreadGroup;
use crate::time::{Expire, SignalTimer};

#[derive(Default)]
struct Timers {
    /// The timers of setitimer(2) by number, once used.
    intervals: [Option<Arc<SignalTimer>>; 3],
    /// The timers of timer_create(2).
    posix: BTreeMap<i32, Arc<SignalTimer>>,
    next_id: i32,
}

/// The timers of a process. A forked child starts without any; for execve(2) see [`clear_posix`](Self::clear_posix).
pub(crate) struct GroupTimers {
    timers: Mutex<Timers>,
    /// CPU time timers rest because no task runs. The next task to run wakes them.
    resting: AtomicBool,
}

impl Default for GroupTimers {
    fn default() -> Self {
        GroupTimers { timers: Mutex::new(Rank::Task, Timers::default()), resting: AtomicBool::new(false) }
    }
}

/// Approximate heap use of a timer in bytes.
const TIMER_BYTES: u64 = 320;

impl GroupTimers {
    /// Approximate kernel memory of the timers of timer_create(2), in bytes.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.timers.lock().posix.len() as u64 * TIMER_BYTES
    }

    /// The interval timer `which` (below 3), if it was used.
    pub(crate) fn interval(&self, which: usize) -> Option<Arc<SignalTimer>> {
        self.timers.lock().intervals.get(which)?.clone()
    }

    /// The interval timer `which` (below 3), created if necessary.
    pub(crate) fn interval_or_new(
        &self,
        which: usize,
        new: impl FnOnce() -> Arc<SignalTimer>,
    ) -> Option<Arc<SignalTimer>> {
        Some(self.timers.lock().intervals.get_mut(which)?.get_or_insert_with(new).clone())
    }

    /// Adds a timer of timer_create(2), made for its new ID.
    ///
    /// # Errors
    /// `EAGAIN` if no ID is left.
    pub(crate) fn add(&self, new: impl FnOnce(i32) -> Arc<SignalTimer>) -> Result<i32, Errno> {
        let mut timers = self.timers.lock();
        let start = timers.next_id;
        let mut id = start;
        while timers.posix.contains_key(&id) {
            id = id.checked_add(1).unwrap_or_default();
            if id == start {
                return Err(Errno::EAGAIN.here());
            }
        }
        timers.next_id = id.checked_add(1).unwrap_or_default();
        timers.posix.insert(id, new(id));
        Ok(id)
    }

    /// A timer of timer_create(2).
    ///
    /// # Errors
    /// `EINVAL` if the ID is unknown.
    pub(crate) fn get(&self, id: i32) -> Result<Arc<SignalTimer>, Errno> {
        self.timers.lock().posix.get(&id).cloned().ok_or_else(|| Errno::EINVAL.here())
    }

    /// Removes a timer of timer_create(2).
    ///
    /// # Errors
    /// `EINVAL` if the ID is unknown.
    pub(crate) fn remove(&self, id: i32) -> Result<Arc<SignalTimer>, Errno> {
        self.timers.lock().posix.remove(&id).ok_or_else(|| Errno::EINVAL.here())
    }

    /// Removes all timers of timer_create(2), for execve(2), and their pending signals. `group` is the owner.
    pub(crate) fn clear_posix(&self, group: &ThreadGroup) {
        let removed = std::mem::take(&mut self.timers.lock().posix);
        for timer in removed.into_values() {
            timer.disarm();
            let source: Arc<dyn SignalSource> = timer;
            group.forget_source(&source);
        }
    }

    /// Removes all timers at the end of the process.
    pub(crate) fn clear(&self) {
        let removed = std::mem::take(&mut *self.timers.lock());
        drop(removed);
    }

    /// Lets CPU time timers rest until a task of the process runs.
    pub(crate) fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
    }

    /// Wakes resting CPU time timers. Called before each run of guest code.
    pub(crate) fn wake(&self) {
        if self.resting.load(Ordering::SeqCst) && self.resting.swap(false, Ordering::SeqCst) {
            let cpu: Vec<_> = {
                let timers = self.timers.lock();
                let all = timers.intervals.iter().flatten().chain(timers.posix.values());
                all.filter(|timer| timer.is_cpu()).cloned().collect()
            };
            cpu.iter().for_each(|timer| timer.expire());
        }
    }
}
