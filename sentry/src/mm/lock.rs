//! Locked memory: mlock(2) and related calls. Amber does not swap guest pages, so locking is accounting and populating.

use amber_abi::errno::Errno;
use amber_platform::PAGE_SIZE;

use super::manager::MemoryManager;
use super::vma::{Vma, VmaFlags};
use crate::interruption::check_killed;

/// When locked pages are populated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// At once.
    Now,
    /// At the first access (`MLOCK_ONFAULT`).
    OnFault,
}

/// The flags of locked VMAs.
const LOCK_BITS: VmaFlags = VmaFlags::LOCKED.union(VmaFlags::LOCK_ON_FAULT);

impl LockMode {
    /// The VMA flags of memory locked in this mode.
    pub(crate) fn flags(self) -> VmaFlags {
        match self {
            LockMode::Now => VmaFlags::LOCKED,
            LockMode::OnFault => LOCK_BITS,
        }
    }
}

impl MemoryManager {
    /// mlock2(2); callers with `CAP_IPC_LOCK` pass `unlimited`.
    ///
    /// # Errors
    /// `EPERM` if the limit is 0, `ENOMEM` beyond `RLIMIT_MEMLOCK` or for a range with holes, `EINVAL` if the range
    /// wraps.
    pub(crate) fn lock(&self, address: u64, len: u64, mode: LockMode, unlimited: bool) -> Result<(), Errno> {
        if !unlimited && self.limits.locked() == 0 {
            return Err(Errno::EPERM.here());
        }
        let range = widened(address, len)?;
        if range.is_empty() {
            return Ok(());
        }
        self.with(|state| {
            let already: u64 = state
                .areas
                .overlapping(range.clone())
                .filter(|vma| vma.flags.contains(VmaFlags::LOCKED))
                .map(|vma| vma.clip(&range))
                .map(|part| part.end - part.start)
                .sum();
            if !self.may_lock(state, (range.end - range.start).saturating_sub(already), unlimited) {
                return Err(Errno::ENOMEM.here());
            }
            if !state.areas.covers(range.clone()) {
                return Err(Errno::ENOMEM.here());
            }
            self.check_splits(state, &range)?;
            let joined = state.areas.change(range.clone(), |vma| set_lock(vma, mode.flags()));
            state.garbage.extend(joined);
            Ok(())
        })?;
        if mode == LockMode::OnFault {
            return Ok(());
        }
        // For pages that cannot be populated (no access, past the end of a file) Linux returns ENOMEM as well.
        self.populate_all(range, None, |_| Errno::ENOMEM.here())
    }

    /// munlock(2).
    ///
    /// # Errors
    /// `ENOMEM` for a range with holes, `EINVAL` if the range wraps.
    pub(crate) fn unlock(&self, address: u64, len: u64) -> Result<(), Errno> {
        let range = widened(address, len)?;
        if range.is_empty() {
            return Ok(());
        }
        self.with(|state| {
            if !state.areas.covers(range.clone()) {
                return Err(Errno::ENOMEM.here());
            }
            self.check_splits(state, &range)?;
            let joined = state.areas.change(range, |vma| set_lock(vma, VmaFlags::empty()));
            state.garbage.extend(joined);
            Ok(())
        })
    }

    /// mlockall(2) of present mappings, future ones, or both.
    ///
    /// # Errors
    /// `EPERM` if the limit is 0, `ENOMEM` beyond `RLIMIT_MEMLOCK`; `EINTR` if the caller is killed.
    pub(crate) fn lock_all(&self, current: bool, future: bool, mode: LockMode, unlimited: bool) -> Result<(), Errno> {
        if !unlimited && self.limits.locked() == 0 {
            return Err(Errno::EPERM.here());
        }
        let ranges = self.with(|state| {
            let limit = self.limits.locked();
            if current && !unlimited && limit != u64::MAX && state.areas.sums().all > limit {
                return Err(Errno::ENOMEM.here());
            }
            state.lock_future = if future { mode.flags() } else { VmaFlags::empty() };
            if !current {
                return Ok(Vec::new());
            }
            let joined = state.areas.change(0..u64::MAX, |vma| set_lock(vma, mode.flags()));
            state.garbage.extend(joined);
            Ok(state.areas.iter().map(Vma::range).collect())
        })?;
        if mode == LockMode::Now {
            for range in ranges {
                check_killed()?;
                self.populate_range(range);
            }
        }
        Ok(())
    }

    /// munlockall(2).
    pub(crate) fn unlock_all(&self) {
        self.with(|state| {
            state.lock_future = VmaFlags::empty();
            let joined = state.areas.change(0..u64::MAX, |vma| set_lock(vma, VmaFlags::empty()));
            state.garbage.extend(joined);
        });
    }
}

fn set_lock(vma: &mut Vma, flags: VmaFlags) {
    if !vma.flags.contains(VmaFlags::SPECIAL) {
        vma.flags = (vma.flags - LOCK_BITS) | flags;
    }
}

/// The page-aligned range around a range.
fn widened(address: u64, len: u64) -> Result<std::ops::Range<u64>, Errno> {
    let start = address & !(PAGE_SIZE - 1);
    let len = len.checked_add(address - start).and_then(|len| len.checked_next_multiple_of(PAGE_SIZE));
    // As on Linux, a length that wraps to zero does nothing; an end that wraps is an error.
    let len = len.unwrap_or(0);
    let end = start.checked_add(len).ok_or_else(|| Errno::EINVAL.here())?;
    Ok(start..end)
}
