//! A stub process and its threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use amber_platform::{FrameRange, Frames};
use parking_lot::Mutex;

use crate::context_handle::ContextHandle;
use crate::trace;

/// The threads of a stub.
struct Threads {
    alive: bool,
    /// Untraced threads, which wait in the stub's code.
    idle: Vec<i32>,
    /// The number of reservations for idle threads.
    reserved: usize,
    /// Threads traced by the host threads of these contexts.
    attached: Vec<(i32, Arc<ContextHandle>)>,
}

/// A stub process, which is killed when this is dropped at the latest.
pub(crate) struct Stub {
    pid: i32,
    /// Its command pages.
    page: Frames,
    threads: Mutex<Threads>,
    home: AtomicUsize,
    dying: Arc<DyingStubs>,
}

/// A reservation of an idle thread.
pub(crate) struct Reservation(Weak<Stub>);

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(stub) = self.0.upgrade() {
            stub.threads.lock().reserved -= 1;
        }
    }
}

/// No particular CPU. A value of [`Stub::home`].
const ANYWHERE: usize = usize::MAX;

impl Stub {
    /// Takes over the process `pid`, whose only thread is idle.
    pub(crate) fn new(pid: i32, page: Frames, dying: Arc<DyingStubs>) -> Self {
        let threads = Threads { alive: true, idle: vec![pid], reserved: 0, attached: Vec::new() };
        Stub { pid, page, threads: Mutex::new(threads), home: AtomicUsize::new(ANYWHERE), dying }
    }

    /// The process ID, which is also the ID of the first thread.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The frames of its command pages.
    pub(crate) fn page(&self) -> FrameRange {
        self.page.range()
    }

    /// The list that the stub joins when it is killed.
    pub(crate) fn dying(&self) -> &Arc<DyingStubs> {
        &self.dying
    }

    /// The host CPU on which a context of this stub, or its creator, last ran.
    pub(crate) fn home(&self) -> Option<usize> {
        Some(self.home.load(Ordering::Relaxed)).filter(|&home| home != ANYWHERE)
    }

    /// Records the home CPU.
    pub(crate) fn set_home(&self, cpu: usize) {
        self.home.store(cpu, Ordering::Relaxed);
    }

    /// Takes an idle thread, for the context of `handle` to trace.
    pub(crate) fn take_idle(&self, handle: &Arc<ContextHandle>) -> Option<i32> {
        let mut threads = self.threads.lock();
        let tid = threads.idle.pop()?;
        threads.attached.push((tid, handle.clone()));
        Some(tid)
    }

    /// Reserves an idle thread. Also returns whether there is one for it; if not, the caller adds one.
    pub(crate) fn reserve(self: &Arc<Self>) -> (Reservation, bool) {
        let mut threads = self.threads.lock();
        threads.reserved += 1;
        (Reservation(Arc::downgrade(self)), threads.reserved <= threads.idle.len())
    }

    /// Adds a new thread that waits in the stub's code, or soon will.
    pub(crate) fn add_idle(&self, tid: i32) {
        self.threads.lock().idle.push(tid);
    }

    /// Makes an attached thread idle again if `park` succeeds. Does nothing if the stub was killed.
    pub(crate) fn release(&self, tid: i32, park: impl FnOnce() -> bool) {
        let mut threads = self.threads.lock();
        if threads.alive && park() {
            threads.attached.retain(|(attached, _)| *attached != tid);
            threads.idle.push(tid);
        }
    }

    /// The contexts that have a thread of this stub.
    pub(crate) fn handles(&self) -> Vec<Arc<ContextHandle>> {
        self.threads.lock().attached.iter().map(|(_, handle)| handle.clone()).collect()
    }

    /// Kills the process without waiting for its end. Threads that are not running will not run again.
    pub(crate) fn kill(&self) {
        let mut threads = self.threads.lock();
        if !threads.alive {
            return;
        }
        threads.alive = false;
        for (_, handle) in &threads.attached {
            handle.set_target(None);
        }
        trace::kill(self.pid);
        // A traced thread stays a zombie until its tracer reaps it, and the process until its threads are gone.
        let attached = threads.attached.drain(..).map(|(tid, _)| tid).filter(|tid| *tid != self.pid);
        let ends: Vec<i32> = attached.chain([self.pid]).collect();
        self.dying.add(ends);
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Maximum number of killed stubs that may end in their own time.
const MAX_DYING: usize = 4;

/// Killed stubs that are not reaped yet. Waiting for each at once would take longer than the kill.
#[derive(Default)]
pub(crate) struct DyingStubs {
    /// The threads of each stub to reap, the process itself last.
    stubs: Mutex<VecDeque<Vec<i32>>>,
}

impl DyingStubs {
    fn add(&self, ends: Vec<i32>) {
        let mut stubs = self.stubs.lock();
        stubs.push_back(ends);
        while let Some(first) = stubs.front_mut() {
            while let Some(&tid) = first.first()
                && trace::is_gone(tid)
            {
                first.remove(0);
            }
            if !first.is_empty() {
                break;
            }
            stubs.pop_front();
        }
        if stubs.len() > MAX_DYING
            && let Some(first) = stubs.pop_front()
        {
            drop(stubs);
            first.into_iter().for_each(trace::reap);
        }
    }
}

impl Drop for DyingStubs {
    fn drop(&mut self) {
        self.stubs.get_mut().drain(..).flatten().for_each(trace::reap);
    }
}
