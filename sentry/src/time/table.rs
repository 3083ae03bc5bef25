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
    /// Those of setitimer(2), by their number, once they are used.
    intervals: [Option<Arc<SignalTimer>>; 3],
    /// Those of timer_create(2).
    posix: BTreeMap<i32, Arc<SignalTimer>>,
    next_id: i32,
}

/// The timers of a process. A fork has none of its parent's; see [`clear_posix`](Self::clear_posix) for execve(2).
pub struct GroupTimers {
    timers: Mutex<Timers>,
    /// A timer by processor time rests because nothing ran; who runs again must wake it.
    resting: AtomicBool,
}

impl Default for GroupTimers {
    fn default() -> Self {
        GroupTimers { timers: Mutex::new(Rank::Task, Timers::default()), resting: AtomicBool::new(false) }
    }
}

/// About what a timer takes of the heap in all.
const TIMER_BYTES: u64 = 320;

impl GroupTimers {
    /// About how many bytes the kernel keeps for those of timer_create(2).
    pub fn kept_bytes(&self) -> u64 {
        self.timers.lock().posix.len() as u64 * TIMER_BYTES
    }

    /// The interval timer `which` (below 3), if it was ever used.
    pub fn interval(&self, which: usize) -> Option<Arc<SignalTimer>> {
        self.timers.lock().intervals.get(which)?.clone()
    }

    /// The interval timer `which` (below 3), made if need be.
    pub fn interval_or_new(&self, which: usize, new: impl FnOnce() -> Arc<SignalTimer>) -> Option<Arc<SignalTimer>> {
        Some(self.timers.lock().intervals.get_mut(which)?.get_or_insert_with(new).clone())
    }

    /// Adds a timer of timer_create(2), made for the number it gets.
    ///
    /// # Errors
    /// `EAGAIN` if there are no numbers left.
    pub fn add(&self, new: impl FnOnce(i32) -> Arc<SignalTimer>) -> Result<i32, Errno> {
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
    /// `EINVAL` if there is none with this number.
    pub fn get(&self, id: i32) -> Result<Arc<SignalTimer>, Errno> {
        self.timers.lock().posix.get(&id).cloned().ok_or_else(|| Errno::EINVAL.here())
    }

    /// Takes a timer of timer_create(2) away.
    ///
    /// # Errors
    /// `EINVAL` if there is none with this number.
    pub fn remove(&self, id: i32) -> Result<Arc<SignalTimer>, Errno> {
        self.timers.lock().posix.remove(&id).ok_or_else(|| Errno::EINVAL.here())
    }

    /// Takes all timers of timer_create(2) away, as execve(2) does, and those of their signals that `group`, whose they are,
    /// has not taken yet.
    pub fn clear_posix(&self, group: &ThreadGroup) {
        let removed = std::mem::take(&mut self.timers.lock().posix);
        for timer in removed.into_values() {
            timer.disarm();
            let source: Arc<dyn SignalSource> = timer;
            group.forget_source(&source);
        }
    }

    /// Takes all timers away: the process has ended.
    pub fn clear(&self) {
        let removed = std::mem::take(&mut *self.timers.lock());
        drop(removed);
    }

    /// A timer by processor time rests until a task of the process runs.
    pub fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
    }

    /// A task of the process runs, so timers by processor time go on. Called on each way into the guest.
    pub fn wake(&self) {
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
