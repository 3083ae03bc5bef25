//! Whether a context runs and whether it is to be interrupted: the common part of all platforms' interrupters.

use std::sync::atomic::{AtomicU32, Ordering};

/// Guest code runs or is about to run.
const RUNNING: u32 = 1;
/// An interrupt is pending.
const INTERRUPTED: u32 = 2;

/// The state of a context as other threads see it.
#[derive(Debug, Default)]
pub struct RunState(AtomicU32);

impl RunState {
    /// Marks the context as running, unless an interrupt is pending: then it returns false.
    pub fn start(&self) -> bool {
        // In one atomic step: a thread that sees the context as running kicks it and waits until it stops.
        let run = |state| (state & INTERRUPTED == 0).then_some(state | RUNNING);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, run).is_ok()
    }

    /// Marks the context as no longer running.
    pub fn stop(&self) {
        self.0.fetch_and(!RUNNING, Ordering::SeqCst);
    }

    /// Takes a pending interrupt. Returns whether there was one.
    pub fn take_interrupt(&self) -> bool {
        self.0.load(Ordering::SeqCst) & INTERRUPTED != 0
            && self.0.fetch_and(!INTERRUPTED, Ordering::SeqCst) & INTERRUPTED != 0
    }

    /// Whether the context may be running guest code.
    pub fn is_running(&self) -> bool {
        self.0.load(Ordering::SeqCst) & RUNNING != 0
    }

    /// Makes an interrupt pending. Returns whether guest code may be running and must be kicked.
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
