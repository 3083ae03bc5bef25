//! What other threads may know of and do to a context.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use amber_platform::{FpuState, Interrupter, RunState};
use nix::unistd::{Pid, getpid, gettid};
use parking_lot::Mutex;

use crate::kick;
use crate::vcpu::Vcpu;

/// A context as seen by other threads.
pub struct Seat {
    state: RunState,
    /// Number of the last change of its address space that the processor has taken notice of.
    seen: AtomicU64,
    process: Pid,
    /// The context's host thread, which is always the same, and the one that runs its processor.
    thread: Pid,
    runner: AtomicI32,
    /// The processor it runs on.
    vcpu: Mutex<Option<Arc<Vcpu>>>,
    /// The floating-point state, when it was taken off a processor that others needed.
    pub saved: Mutex<Option<FpuState>>,
    /// Whether others wait for its processor.
    wanted: AtomicBool,
}

impl Seat {
    /// The seat of a context of the calling thread.
    pub fn new() -> Arc<Self> {
        Arc::new(Seat {
            state: RunState::default(),
            seen: AtomicU64::new(0),
            process: getpid(),
            thread: gettid(),
            runner: AtomicI32::new(gettid().as_raw()),
            vcpu: Mutex::new(None),
            saved: Mutex::new(None),
            wanted: AtomicBool::new(false),
        })
    }

    /// Whether this is the seat that something belongs to.
    pub fn is(&self, owner: Option<&Arc<Seat>>) -> bool {
        owner.is_some_and(|owner| std::ptr::eq(Arc::as_ptr(owner), self))
    }

    /// Sets the processor that runs the context, or that there is none. No kick reaches the one before any more.
    pub fn set_vcpu(&self, vcpu: Option<Arc<Vcpu>>) {
        *self.vcpu.lock() = vcpu;
    }

    /// Sets which thread will run the processor: another one, or the context's own.
    pub fn set_runner(&self, runner: Option<Pid>) {
        self.runner.store(runner.unwrap_or(self.thread).as_raw(), Ordering::SeqCst);
    }

    /// Says that guest code is about to run; not if an interruption is due.
    pub fn start(&self) -> bool {
        self.state.start()
    }

    /// Says that guest code does not run any more.
    pub fn stop(&self) {
        self.state.stop();
    }

    /// Whether an interruption is due; it then is no more.
    pub fn take_interrupt(&self) -> bool {
        self.state.take_interrupt()
    }

    /// Whether guest code may be running.
    pub fn is_running(&self) -> bool {
        self.state.is_running()
    }

    /// The last change of the address space that guest code which runs now knows of.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Says which change guest code will know of.
    pub fn set_seen(&self, change: u64) {
        self.seen.store(change, Ordering::SeqCst);
    }

    /// Makes guest code stop for a moment.
    pub fn kick(&self) {
        if let Some(vcpu) = &*self.vcpu.lock() {
            // The signal makes a running processor stop; the mark one that is only about to run.
            vcpu.immediate_exit().store(1, Ordering::SeqCst);
            kick::send(self.process, Pid::from_raw(self.runner.load(Ordering::SeqCst)));
        }
    }

    /// Asks for the processor.
    pub fn want_processor(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        self.kick();
    }

    /// Whether others ask for the processor.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Whether others asked for the processor; they then do no more.
    pub fn take_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::SeqCst)
    }
}

impl Interrupter for Seat {
    fn interrupt(&self) {
        if self.state.interrupt() {
            self.kick();
        }
    }
}
