//! Which task a host thread serves, for files whose answers depend on who asks.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::interruption::{self, Killable};
use crate::task::Task;

thread_local! {
    static CURRENT: RefCell<Weak<Task>> = const { RefCell::new(Weak::new()) };
}

/// This host thread serves `task` from now on.
pub(super) fn set_current(task: &Arc<Task>) {
    CURRENT.set(Arc::downgrade(task));
    let task: Arc<dyn Killable> = task.clone();
    interruption::set_caller(Some(Arc::downgrade(&task)));
}

/// The task on this host thread ends: what is left to do for it is done whole, killed or not.
pub(super) fn finish_current() {
    interruption::set_caller(None);
}

/// The task this host thread serves; none on a thread of the sentry's own.
pub fn current() -> Option<Arc<Task>> {
    CURRENT.with_borrow(Weak::upgrade)
}
