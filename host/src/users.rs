//! Owners of host files, where this process's user namespace does not know them.

use std::sync::atomic::{AtomicU32, Ordering};

/// What the host shows in place of an owner that it cannot show; `u32::MAX` while owners are taken as they are.
static UNKNOWN: AtomicU32 = AtomicU32::new(u32::MAX);

/// From now on files whose owner the host shows as `overflow`, since this process's user namespace has no number for it,
/// belong to root. To an ordinary user nearly all files of others do, and programs such as `ssh` trust root's files only.
pub fn take_unknown_for_root(overflow: u32) {
    UNKNOWN.store(overflow, Ordering::Relaxed);
}

/// The owner of a host file, as the host tells.
pub(crate) fn owner(told: u32) -> u32 {
    if told == UNKNOWN.load(Ordering::Relaxed) && told != u32::MAX { 0 } else { told }
}
