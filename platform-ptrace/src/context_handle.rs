//! What other threads may know of and do to a context.

use amber_platform::{Interrupter, RunState};
use parking_lot::Mutex;

use crate::trace;

/// The signal that brings a stub thread out of the guest. It is never delivered.
pub const KICK: i32 = libc::SIGUSR1;

/// A context as seen by other threads.
#[derive(Default)]
pub struct ContextHandle {
    state: RunState,
    /// The stub process and thread to kick.
    target: Mutex<Option<(i32, i32)>>,
}

impl ContextHandle {
    /// Sets the stub thread that runs the context, or that there is none. No kick reaches the one before any more.
    pub fn set_target(&self, target: Option<(i32, i32)>) {
        *self.target.lock() = target;
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

    /// Makes guest code stop for a moment.
    pub fn kick(&self) {
        if let Some((pid, tid)) = *self.target.lock() {
            trace::signal_thread(pid, tid, KICK);
        }
    }
}

impl Interrupter for ContextHandle {
    fn interrupt(&self) {
        if self.state.interrupt() {
            self.kick();
        }
    }
}
