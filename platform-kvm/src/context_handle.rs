//! What other threads see of a context, and how they interrupt it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use amber_platform::{FpuState, Interrupter, RunState};
use nix::unistd::{Pid, getpid, gettid};
use parking_lot::Mutex;

use crate::kick;
use crate::vcpu::Vcpu;

/// The part of a context that other threads share.
pub(crate) struct ContextHandle {
    /// Whether the context runs, and whether an interrupt is pending.
    pub run_state: RunState,
    /// The TLB generation of the address space with which the vCPU last entered the guest.
    tlb_generation: AtomicU64,
    process: Pid,
    /// The context's host thread.
    thread: Pid,
    /// The vCPU that holds the context.
    vcpu: Mutex<Option<Arc<Vcpu>>>,
    /// The FPU state, if it was saved because others needed the vCPU.
    pub saved: Mutex<Option<FpuState>>,
    /// Whether another context waits for the vCPU.
    requested: AtomicBool,
}

impl ContextHandle {
    /// The handle of a context of the calling thread.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(ContextHandle {
            run_state: RunState::default(),
            tlb_generation: AtomicU64::new(0),
            process: getpid(),
            thread: gettid(),
            vcpu: Mutex::new(None),
            saved: Mutex::new(None),
            requested: AtomicBool::new(false),
        })
    }

    /// Whether `owner` is this handle.
    pub(crate) fn is(&self, owner: Option<&Arc<ContextHandle>>) -> bool {
        owner.is_some_and(|owner| std::ptr::eq(Arc::as_ptr(owner), self))
    }

    /// Sets the vCPU that holds the context, if any. Kicks no longer reach the previous one.
    pub(crate) fn set_vcpu(&self, vcpu: Option<Arc<Vcpu>>) {
        *self.vcpu.lock() = vcpu;
    }

    /// The TLB generation with which the context last entered the guest.
    pub(crate) fn tlb_generation(&self) -> u64 {
        self.tlb_generation.load(Ordering::SeqCst)
    }

    /// Records the TLB generation with which the context is about to enter the guest.
    pub(crate) fn set_tlb_generation(&self, change: u64) {
        self.tlb_generation.store(change, Ordering::SeqCst);
    }

    /// Makes the vCPU leave the guest.
    pub(crate) fn kick(&self) {
        if let Some(vcpu) = &*self.vcpu.lock() {
            // The signal stops a vCPU that is running, the flag one that is about to run.
            vcpu.immediate_exit().store(1, Ordering::SeqCst);
            kick::send(self.process, self.thread);
        }
    }

    /// Asks the context to give up its vCPU.
    pub(crate) fn request_vcpu(&self) {
        self.requested.store(true, Ordering::SeqCst);
        self.kick();
    }

    /// Takes the request for the vCPU, if there is one.
    pub(crate) fn take_request(&self) -> bool {
        self.requested.load(Ordering::Relaxed) && self.requested.swap(false, Ordering::SeqCst)
    }
}

impl Interrupter for ContextHandle {
    fn interrupt(&self) {
        if self.run_state.interrupt() {
            self.kick();
        }
    }
}
