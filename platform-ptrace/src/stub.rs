//! A stub process and its threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use amber_platform::{FrameRange, Frames};
use parking_lot::Mutex;

use crate::context_handle::ContextHandle;
use crate::trace;

/// Which threads a stub has.
struct Threads {
    alive: bool,
    /// Untraced, waiting in the stub's page.
    idle: Vec<i32>,
    /// How many idle ones are spoken for.
    reserved: usize,
    /// Traced by the host threads of these contexts.
    attached: Vec<(i32, Arc<ContextHandle>)>,
}

/// A stub process. It is killed when dropped, at the latest.
pub struct Stub {
    pid: i32,
    /// Its commands.
    page: Frames,
    threads: Mutex<Threads>,
    home: AtomicUsize,
    dying: Arc<DyingStubs>,
}

/// A reserve on an idle thread of a stub.
pub struct Reservation(Weak<Stub>);

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(stub) = self.0.upgrade() {
            stub.threads.lock().reserved -= 1;
        }
    }
}

/// No processor in particular, in [`Stub::home`].
const ANYWHERE: usize = usize::MAX;

impl Stub {
    /// Takes charge of the process `pid`, whose only thread is idle.
    pub fn new(pid: i32, page: Frames, dying: Arc<DyingStubs>) -> Self {
        let threads = Threads { alive: true, idle: vec![pid], reserved: 0, attached: Vec::new() };
        Stub { pid, page, threads: Mutex::new(threads), home: AtomicUsize::new(ANYWHERE), dying }
    }

    /// The process, which is also its first thread.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Where its commands lie.
    pub fn page(&self) -> FrameRange {
        self.page.range()
    }

    /// Who waits for its end.
    pub fn dying(&self) -> &Arc<DyingStubs> {
        &self.dying
    }

    /// The processor on which one of its contexts last ran, or its maker.
    pub fn home(&self) -> Option<usize> {
        Some(self.home.load(Ordering::Relaxed)).filter(|&home| home != ANYWHERE)
    }

    /// Notes a processor as home.
    pub fn set_home(&self, cpu: usize) {
        self.home.store(cpu, Ordering::Relaxed);
    }

    /// Takes an idle thread, to be traced for the context of `handle`.
    pub fn take_idle(&self, handle: &Arc<ContextHandle>) -> Option<i32> {
        let mut threads = self.threads.lock();
        let tid = threads.idle.pop()?;
        threads.attached.push((tid, handle.clone()));
        Some(tid)
    }

    /// Claims an idle thread; returns also whether there is one to spare for it, or one must be added.
    pub fn reserve(self: &Arc<Self>) -> (Reservation, bool) {
        let mut threads = self.threads.lock();
        threads.reserved += 1;
        (Reservation(Arc::downgrade(self)), threads.reserved <= threads.idle.len())
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
    pub fn handles(&self) -> Vec<Arc<ContextHandle>> {
        self.threads.lock().attached.iter().map(|(_, handle)| handle.clone()).collect()
    }

    /// Ends the process, without waiting until it is gone. Threads that do not run now never will again.
    pub fn kill(&self) {
        let mut threads = self.threads.lock();
        if !threads.alive {
            return;
        }
        threads.alive = false;
        for (_, handle) in &threads.attached {
            handle.set_target(None);
        }
        trace::kill(self.pid);
        // Traced threads wait for their tracer to notice their end, and the process waits for them.
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

/// So many killed stubs may be left to end by themselves.
const MAX_DYING: usize = 4;

/// Killed stubs that are not gone yet. Waiting for each at once would cost its killer more than the kill.
#[derive(Default)]
pub struct DyingStubs {
    /// The threads to wait for of each, the process last.
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
