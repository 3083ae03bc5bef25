//! What other threads see of a context, and how they interrupt it.

use amber_platform::{Interrupter, RunState};
use parking_lot::Mutex;

use crate::trace;

/// The signal that makes a stub thread stop. It is never delivered to the stub.
pub(crate) const KICK: i32 = libc::SIGUSR1;

/// The part of a context that other threads share.
#[derive(Default)]
pub(crate) struct ContextHandle {
    /// Whether the context runs, and whether an interrupt is pending.
    pub run_state: RunState,
    /// The process and thread ID of the stub thread that runs the context.
    target: Mutex<Option<(i32, i32)>>,
}

impl ContextHandle {
    /// Sets the stub thread that runs the context, if any. Kicks no longer reach the previous one.
    pub(crate) fn set_target(&self, target: Option<(i32, i32)>) {
        *self.target.lock() = target;
    }

    /// Makes the stub thread stop if it runs guest code.
    pub(crate) fn kick(&self) {
        if let Some((pid, tid)) = *self.target.lock() {
            trace::signal_thread(pid, tid, KICK);
        }
    }
}

impl Interrupter for ContextHandle {
    fn interrupt(&self) {
        if self.run_state.interrupt() {
            self.kick();
        }
    }
}
