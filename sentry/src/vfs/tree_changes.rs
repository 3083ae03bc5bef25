//! Detection of changes of the tree, on which walks that may not leave a directory depend.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts renames and changes of mounts.
#[derive(Default)]
pub(super) struct TreeChanges {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl TreeChanges {
    /// Runs a change, which must be short.
    pub(super) fn make<T>(&self, change: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let result = change();
        self.ended.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// The present state; none during a change.
    pub(super) fn state(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        (begun == ended).then_some(begun)
    }

    /// Whether no change has begun since the tree was in this state.
    pub(super) fn none_since(&self, state: Option<u64>) -> bool {
        state == Some(self.begun.load(Ordering::SeqCst))
    }
}
