//! The contexts that are attached to an address space.
//!
//! See docs/internals/tlb-generations.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::context_handle::ContextHandle;

/// The contexts whose last run was in one address space.
#[derive(Default)]
pub(crate) struct ActiveContexts {
    handles: Mutex<Vec<Arc<ContextHandle>>>,
    /// How often a context entered or left.
    epoch: AtomicU64,
}

impl ActiveContexts {
    /// A context will run in the space.
    pub(crate) fn enter(&self, handle: &Arc<ContextHandle>) {
        self.handles.lock().push(handle.clone());
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// A context will run in another space.
    pub(crate) fn leave(&self, handle: &Arc<ContextHandle>) {
        self.handles.lock().retain(|other| !Arc::ptr_eq(other, handle));
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The number of contexts.
    pub(crate) fn count(&self) -> usize {
        self.handles.lock().len()
    }

    /// A number that changes whenever a context enters or leaves; never 0 while there are any.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The oldest TLB generation that a running context may still have entries of; `u64::MAX` if none is running.
    pub(crate) fn oldest_generation(&self) -> u64 {
        let handles = self.handles.lock();
        handles
            .iter()
            .filter(|handle| handle.run_state.is_running())
            .map(|handle| handle.tlb_generation())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Kicks the running contexts that entered with a generation before this one. Returns whether there are any.
    pub(crate) fn kick_all_before(&self, generation: u64) -> bool {
        let handles = self.handles.lock();
        let late =
            handles.iter().filter(|handle| handle.run_state.is_running() && handle.tlb_generation() < generation);
        late.map(|handle| handle.kick()).count() > 0
    }
}
