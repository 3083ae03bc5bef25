//! A stub process and its threads.

use std::sync::Arc;

use amber_platform::{FrameRange, Frames};
use parking_lot::Mutex;

use crate::seat::Seat;
use crate::trace;

/// Which threads a stub has.
struct Threads {
    alive: bool,
    /// Untraced, waiting in the stub's page.
    idle: Vec<i32>,
    /// Traced by the host threads of these contexts.
    attached: Vec<(i32, Arc<Seat>)>,
}

/// A stub process. It is killed and reaped when dropped, at the latest.
pub struct Stub {
    pid: i32,
    /// Its commands.
    page: Frames,
    threads: Mutex<Threads>,
}

impl Stub {
    /// Takes charge of the process `pid`, whose only thread is idle.
    pub fn new(pid: i32, page: Frames) -> Self {
        Stub { pid, page, threads: Mutex::new(Threads { alive: true, idle: vec![pid], attached: Vec::new() }) }
    }

    /// The process, which is also its first thread.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Where its commands lie.
    pub fn page(&self) -> FrameRange {
        self.page.range()
    }

    /// Takes an idle thread, to be traced for the context of `seat`.
    pub fn take_idle(&self, seat: &Arc<Seat>) -> Option<i32> {
        let mut threads = self.threads.lock();
        let tid = threads.idle.pop()?;
        threads.attached.push((tid, seat.clone()));
        Some(tid)
    }

    /// Adds a new thread that waits, or will soon.
    pub fn add_idle(&self, tid: i32) {
        self.threads.lock().idle.push(tid);
    }

    /// Calls `park` and counts an attached thread among the idle if that succeeds; not if the stub is dead already.
    pub fn release(&self, tid: i32, park: impl FnOnce() -> bool) {
        let mut threads = self.threads.lock();
        if threads.alive && park() {
            threads.attached.retain(|(attached, _)| *attached != tid);
            threads.idle.push(tid);
        }
    }

    /// The contexts that have a thread here.
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        self.threads.lock().attached.iter().map(|(_, seat)| seat.clone()).collect()
    }

    /// Ends the process and waits until it is gone.
    pub fn kill(&self) {
        let mut threads = self.threads.lock();
        if !threads.alive {
            return;
        }
        threads.alive = false;
        for (_, seat) in &threads.attached {
            seat.set_target(None);
        }
        trace::kill(self.pid);
        // Traced threads wait for their tracer to notice their end, and the process waits for them.
        for (tid, _) in &threads.attached {
            if *tid != self.pid {
                trace::reap(*tid);
            }
        }
        trace::reap(self.pid);
        threads.attached.clear();
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.kill();
    }
}
