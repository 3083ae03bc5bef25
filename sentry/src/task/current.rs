//! The task that a host thread serves, for files whose content depends on the reader.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::interruption::{self, Killable};
use crate::task::Task;

thread_local! {
    static CURRENT: RefCell<Weak<Task>> = const { RefCell::new(Weak::new()) };
}

/// Assigns `task` to this host thread.
pub(super) fn set_current(task: &Arc<Task>) {
    CURRENT.set(Arc::downgrade(task));
    let task: Arc<dyn Killable> = task.clone();
    interruption::set_caller(Some(Arc::downgrade(&task)));
}

/// Called when the task on this host thread ends: the remaining work for it is completed, even if it was killed.
pub(super) fn finish_current() {
    interruption::set_caller(None);
}

/// The task that this host thread serves; `None` on a thread of the sentry's own.
pub(crate) fn current() -> Option<Arc<Task>> {
    CURRENT.with_borrow(Weak::upgrade)
}
