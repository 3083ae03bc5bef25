//! Whether a context runs, and whether somebody wants it back: what every platform's interrupter stands on.

use std::sync::atomic::{AtomicU32, Ordering};

/// Guest code runs, or is about to.
const RUNNING: u32 = 1;
/// Someone wants the context to come back.
const INTERRUPTED: u32 = 2;

/// The state of a context as other threads see it.
#[derive(Debug, Default)]
pub struct RunState(AtomicU32);

impl RunState {
    /// Says that guest code is about to run; not if an interruption is due.
    pub fn start(&self) -> bool {
        let free = self.0.fetch_or(RUNNING, Ordering::SeqCst) & INTERRUPTED == 0;
        if !free {
            self.stop();
        }
        free
    }

    /// Says that guest code does not run any more.
    pub fn stop(&self) {
        self.0.fetch_and(!RUNNING, Ordering::SeqCst);
    }

    /// Whether an interruption is due; it then is no more.
    pub fn take_interrupt(&self) -> bool {
        self.0.load(Ordering::SeqCst) & INTERRUPTED != 0
            && self.0.fetch_and(!INTERRUPTED, Ordering::SeqCst) & INTERRUPTED != 0
    }

    /// Whether guest code may be running.
    pub fn is_running(&self) -> bool {
        self.0.load(Ordering::SeqCst) & RUNNING != 0
    }

    /// Makes an interruption due. Returns whether guest code may be running, so that it must be brought out.
    pub fn interrupt(&self) -> bool {
        self.0.fetch_or(INTERRUPTED, Ordering::SeqCst) & RUNNING != 0
    }
}
