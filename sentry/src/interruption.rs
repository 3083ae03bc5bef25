//! How work whose length a guest chooses finds out that its caller is not to go on with it.
//!
//! Such work goes in steps of about a millisecond. Between two of them it holds no lock and asks here. The code that does
//! it lies below tasks and names none, so it asks for the caller of the running host thread.

use std::cell::RefCell;
use std::sync::Weak;

use amber_abi::errno::Errno;

/// A caller that may be killed meanwhile.
pub trait Killable: Send + Sync {
    /// Whether its end is certain.
    fn is_killed(&self) -> bool;
}

thread_local! {
    static CALLER: RefCell<Option<Weak<dyn Killable>>> = const { RefCell::new(None) };
}

/// Work on this host thread is done for `caller` from now on; for none, it is done to its end.
pub fn set_caller(caller: Option<Weak<dyn Killable>>) {
    CALLER.set(caller);
}

/// Whether the end of the caller is certain: a result would reach nobody.
pub fn is_killed() -> bool {
    CALLER.with_borrow(|caller| caller.as_ref().and_then(Weak::upgrade).is_some_and(|caller| caller.is_killed()))
}

/// Refuses to go on for a caller that was killed.
///
/// # Errors
/// `EINTR`, which no program sees.
pub fn check_killed() -> Result<(), Errno> {
    if is_killed() { Err(Errno::EINTR.here()) } else { Ok(()) }
}
