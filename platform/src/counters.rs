//! Counts of exits from guest code by reason, and of system calls served without an exit.

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
    /// A kick, for an interrupt or for the platform's own purposes.
    Kick,
    /// An event of the host that has no meaning for the guest.
    Other,
}

impl Reason {
    /// The reason for a trap; `None` if there was none, which means that the context was kicked.
    pub fn of(trap: Option<&Trap>) -> Self {
        match trap {
            Some(Trap::Syscall | Trap::Syscall32) => Reason::Syscall,
            Some(Trap::PageFault { .. }) => Reason::PageFault,
            Some(Trap::Exception { .. }) => Reason::Exception,
            Some(Trap::Interrupted) | None => Reason::Kick,
        }
    }
}

/// The names of the reasons in metrics, in the order of [`Reason`].
const NAMES: [&str; 5] = ["exits.syscall", "exits.page_fault", "exits.exception", "exits.kick", "exits.other"];

/// Counts of exits by reason, and of calls served without an exit.
#[derive(Debug, Default)]
pub struct Counters {
    exits: [AtomicU64; NAMES.len()],
}

impl Counters {
    /// Counts an exit.
    pub fn count(&self, reason: Reason) {
        self.exits[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All counts with their names.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        NAMES.into_iter().zip(&self.exits).map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect()
    }
}
