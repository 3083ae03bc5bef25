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
        // Never for a moment only: who sees it running waits until it is told otherwise.
        let run = |state| (state & INTERRUPTED == 0).then_some(state | RUNNING);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, run).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_interrupted_is_not_seen_to_run() {
        let state = RunState::default();
        assert!(!state.interrupt());
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| (0..1_000_000).all(|_| !state.start()));
            while !starting.is_finished() {
                assert!(!state.is_running());
            }
            assert!(starting.join().unwrap());
        });
        assert!(state.take_interrupt() && state.start() && state.is_running());
    }
}
