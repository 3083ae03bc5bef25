//! Which task a host thread serves, for files whose answers depend on who asks.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::task::Task;

thread_local! {
    static CURRENT: RefCell<Weak<Task>> = const { RefCell::new(Weak::new()) };
}

/// This host thread serves `task` from now on.
pub(super) fn set_current(task: &Arc<Task>) {
    CURRENT.set(Arc::downgrade(task));
}

/// The task this host thread serves; none on a thread of the sentry's own.
pub fn current() -> Option<Arc<Task>> {
    CURRENT.with_borrow(Weak::upgrade)
}
