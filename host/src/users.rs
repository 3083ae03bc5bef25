//! Owners of host files that have no ID in this process's user namespace.

use std::sync::atomic::{AtomicU32, Ordering};

/// The ID that the host shows for them; `u32::MAX` if owners are not translated.
static UNKNOWN: AtomicU32 = AtomicU32::new(u32::MAX);

/// Makes files belong to root whose owner the host shows as `overflow`, because this process's user namespace has no ID
/// for it. For an ordinary user, that is nearly every file of other users, and programs such as `ssh` only trust files
/// of root.
pub fn take_unknown_for_root(overflow: u32) {
    UNKNOWN.store(overflow, Ordering::Relaxed);
}

/// Translates the owner of a host file.
pub(crate) fn owner(told: u32) -> u32 {
    if told == UNKNOWN.load(Ordering::Relaxed) && told != u32::MAX { 0 } else { told }
}
