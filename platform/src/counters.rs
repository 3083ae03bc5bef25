//! How often guest code was left, and why; and how often that was spared.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::contract::Trap;

/// Why guest code was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A system call.
    Syscall,
    /// A page fault.
    PageFault,
    /// Another exception.
    Exception,
    /// Someone wanted the processor back.
    Kick,
    /// Something of the host's own, of no meaning to the guest.
    Other,
}

impl Reason {
    /// The reason that goes with a trap; without one, the guest did nothing and somebody else wanted something.
    pub fn of(trap: Option<&Trap>) -> Self {
        match trap {
            Some(Trap::Syscall | Trap::Syscall32) => Reason::Syscall,
            Some(Trap::PageFault { .. }) => Reason::PageFault,
            Some(Trap::Exception { .. }) => Reason::Exception,
            Some(Trap::Interrupted) | None => Reason::Kick,
        }
    }
}

/// The names by which metrics know the reasons, in their order.
const NAMES: [&str; 5] = ["exits.syscall", "exits.page_fault", "exits.exception", "exits.kick", "exits.other"];

/// Counts of exits by reason, and of what came without one.
#[derive(Debug, Default)]
pub struct Counters {
    exits: [AtomicU64; NAMES.len()],
    handed_over: AtomicU64,
}

impl Counters {
    /// Counts an exit.
    pub fn count(&self, reason: Reason) {
        self.exits[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a system call that the sentry served while the guest stayed where it was.
    pub fn count_handed_over(&self) {
        self.handed_over.fetch_add(1, Ordering::Relaxed);
    }

    /// All counts, with their names.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        let exits = NAMES.into_iter().zip(&self.exits);
        let all = exits.chain([("calls.handed_over", &self.handed_over)]);
        all.map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect()
    }
}
