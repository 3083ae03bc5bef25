//! Noticing that the tree of names was changed: what a walk that may not leave a directory depends on.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the moves of entries and the changes of mounts.
#[derive(Default)]
pub(super) struct TreeChanges {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl TreeChanges {
    /// Makes a change, which is short.
    pub(super) fn make<T>(&self, change: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let result = change();
        self.ended.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// The state of now; none while a change is being made.
    pub(super) fn state(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        (begun == ended).then_some(begun)
    }

    /// Whether no change was begun since the tree was in this state.
    pub(super) fn none_since(&self, state: Option<u64>) -> bool {
        state == Some(self.begun.load(Ordering::SeqCst))
    }
}
