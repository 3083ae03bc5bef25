//! Changes of protection: mprotect(2), mseal(2).

use std::ops::Range;

use amber_abi::errno::Errno;
use amber_platform::{PAGE_SIZE, Protection};

use super::flags::given;
use super::manager::{MemoryManager, State};
use super::map::whole_pages;
use super::runs::RunMap;
use super::vma::{Vma, VmaFlags};

/// The extent of a change of protection beyond its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// None.
    Exact,
    /// Down to the start of the VMA, which must be one that grows down (`PROT_GROWSDOWN`).
    GrowsDown,
}

impl MemoryManager {
    /// mprotect(2). With `reading_executes` (personality(2) `READ_IMPLIES_EXEC`), readable memory becomes executable
    /// too.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned address, `ENOMEM` for a range with holes or too many VMAs, `EACCES` if the VMA or
    /// `PR_SET_MDWE` does not allow the protection, `EPERM` if it is sealed.
    pub(crate) fn protect(
        &self,
        address: u64,
        len: u64,
        protection: Protection,
        reach: Reach,
        reading_executes: bool,
    ) -> Result<(), Errno> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL.here());
        }
        if len == 0 {
            return Ok(());
        }
        let len = whole_pages(len)?;
        let end = address.checked_add(len).filter(|&end| end <= self.limit).ok_or_else(|| Errno::ENOMEM.here())?;
        self.with(|state| {
            let mut range = address..end;
            let first =
                state.areas.find_from(address).filter(|vma| vma.start < end).ok_or_else(|| Errno::ENOMEM.here())?;
            if reach == Reach::GrowsDown {
                if !first.flags.contains(VmaFlags::GROWS_DOWN) {
                    return Err(Errno::EINVAL.here());
                }
                range.start = first.start;
            } else if first.start > address {
                return Err(Errno::ENOMEM.here());
            }
            self.check_sealed(state, &range)?;
            // As on Linux, the VMAs before the first hole or refusal are changed.
            let (good, result) = self.protectable(state, &range, protection, reading_executes);
            if good > range.start {
                let part = range.start..good;
                self.check_splits(state, &part)?;
                self.change_protection(state, part, protection, reading_executes);
            }
            result
        })
    }

    /// The end of the part of a range that can get the protection, and why the rest cannot.
    fn protectable(
        &self,
        state: &State,
        range: &Range<u64>,
        requested: Protection,
        reading_executes: bool,
    ) -> (u64, Result<(), Errno>) {
        let mut at = range.start;
        let mut data = state.areas.sums().data;
        for vma in state.areas.overlapping(range.clone()) {
            if vma.start > at {
                break;
            }
            let flags = vma.flags;
            let protection = given(vma, requested, reading_executes);
            if let Err(errno) = self.check_exec_gain(vma.protection, protection) {
                return (at, Err(errno));
            }
            if (protection.read && !flags.contains(VmaFlags::MAY_READ))
                || (protection.write && !flags.contains(VmaFlags::MAY_WRITE))
                || (protection.execute && !flags.contains(VmaFlags::MAY_EXECUTE))
            {
                return (at, Err(Errno::EACCES.here()));
            }
            let becomes_data = !vma.is_data() && vma.is_data_with(protection);
            if becomes_data {
                let part = vma.clip(range);
                data = data.saturating_add(part.end - part.start);
                if data > self.limits.data() {
                    return (at, Err(Errno::ENOMEM.here()));
                }
            }
            at = vma.end.min(range.end);
        }
        (at, if at < range.end { Err(Errno::ENOMEM.here()) } else { Ok(()) })
    }

    fn change_protection(&self, state: &mut State, range: Range<u64>, requested: Protection, reading_executes: bool) {
        let new = |vma: &Vma| given(vma, requested, reading_executes);
        let changed = state.areas.overlapping(range.clone()).filter(|vma| vma.protection != new(vma));
        let mapped = changed.filter(|vma| self.protect_pages(&state.runs, vma.clip(&range), new(vma))).count() > 0;
        state.generation += u64::from(mapped);
        let joined = state.areas.change(range, |vma| vma.protection = new(vma));
        state.garbage.extend(joined);
    }

    /// Changes the protection in the platform, in one call if all runs of the range become alike. Returns whether there
    /// are any.
    fn protect_pages(&self, runs: &RunMap, range: Range<u64>, new: Protection) -> bool {
        let mut change: Option<(Range<u64>, Protection)> = None;
        for piece in runs.pieces(range) {
            let limit = piece.ownership.limit(new);
            match &mut change {
                // Nothing is mapped in between.
                Some((reach, protection)) if *protection == limit => reach.end = piece.range().end,
                _ => {
                    if let Some((reach, protection)) = change.replace((piece.range(), limit)) {
                        self.space.protect(reach, protection);
                    }
                }
            }
        }
        let Some((reach, protection)) = change else { return false };
        self.space.protect(reach, protection);
        true
    }

    /// mseal(2): seals the VMAs of a range against changes.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned or wrapping range, `ENOMEM` for one with holes.
    pub(crate) fn seal(&self, address: u64, len: u64) -> Result<(), Errno> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL.here());
        }
        let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| Errno::EINVAL.here())?;
        let end = address.checked_add(len).ok_or_else(|| Errno::EINVAL.here())?;
        if len == 0 {
            return Ok(());
        }
        self.with(|state| {
            let range = address..end;
            if !state.areas.covers(range.clone()) {
                return Err(Errno::ENOMEM.here());
            }
            self.check_splits(state, &range)?;
            let joined = state.areas.change(range, |vma| vma.flags |= VmaFlags::SEALED);
            state.garbage.extend(joined);
            Ok(())
        })
    }
}
