//! Lets work whose length a guest chooses end when its caller is killed.
//!
//! Such work is done in steps of about a millisecond, with a check here between two of them, without locks. The code
//! that does it is on a lower floor than tasks, so the check uses the caller registered for the running host thread.

use std::cell::RefCell;
use std::sync::Weak;

use amber_abi::errno::Errno;

/// A caller that may be killed during its work.
pub(crate) trait Killable: Send + Sync {
    /// Whether it was killed.
    fn is_killed(&self) -> bool;
}

thread_local! {
    static CALLER: RefCell<Option<Weak<dyn Killable>>> = const { RefCell::new(None) };
}

/// Sets the caller for the work on this host thread. Without a caller, work is never interrupted.
pub(crate) fn set_caller(caller: Option<Weak<dyn Killable>>) {
    CALLER.set(caller);
}

/// Whether the caller was killed, so that a result is of no use.
pub(crate) fn is_killed() -> bool {
    CALLER.with_borrow(|caller| caller.as_ref().and_then(Weak::upgrade).is_some_and(|caller| caller.is_killed()))
}

/// Fails if the caller was killed.
///
/// # Errors
/// `EINTR`, which guest code never sees.
pub(crate) fn check_killed() -> Result<(), Errno> {
    if is_killed() { Err(Errno::EINTR.here()) } else { Ok(()) }
}
