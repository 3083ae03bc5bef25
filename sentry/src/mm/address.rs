//! Selection of addresses for new VMAs, and the limits that new VMAs must respect.

use std::ops::Range;

use amber_abi::errno::Errno;
use amber_platform::{PAGE_SIZE, Protection};

use super::manager::{MemoryManager, State};
use super::vma::{Vma, VmaFlags};

/// Where to search for free addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    /// Anywhere, from `mmap_base` downwards.
    Usual,
    /// In the second gigabyte (`MAP_32BIT`).
    Low32,
}

impl MemoryManager {
    /// The lowest address that may be mapped (`vm.mmap_min_addr`).
    fn lowest(&self) -> u64 {
        let lowest = self.limits.system().mmap_min_addr.count();
        lowest.checked_next_multiple_of(PAGE_SIZE).unwrap_or(self.limit).min(self.limit)
    }

    /// Finds `len` free bytes, at `hint` if that range is free.
    pub(super) fn find_room(&self, state: &State, hint: u64, len: u64, region: Region) -> Result<u64, Errno> {
        if len > self.limit {
            return Err(Errno::ENOMEM.here());
        }
        if region == Region::Low32 {
            let room = state.areas.gap_above(len, 1 << 30, 1 << 31);
            return room.ok_or_else(|| Errno::ENOMEM.here());
        }
        let hint = hint.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0);
        if hint != 0 {
            let hint = hint.max(self.lowest());
            if let Some(end) = hint.checked_add(len)
                && end <= self.limit
                && state.areas.is_free(&(hint..end))
            {
                return Ok(hint);
            }
        }
        let below = state.areas.gap_below(len, self.lowest(), state.layout.mmap_base);
        // As on Linux, then search upwards from a third of the address space.
        let above = || state.areas.gap_above(len, (self.limit / 3) & !(PAGE_SIZE - 1), self.limit);
        below.or_else(above).ok_or_else(|| Errno::ENOMEM.here())
    }

    /// Checks a fixed range: aligned, not below the lowest address, not above the limit.
    pub(super) fn check_fixed(&self, at: u64, len: u64) -> Result<Range<u64>, Errno> {
        if !at.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL.here());
        }
        let end = at.checked_add(len).filter(|&end| end <= self.limit).ok_or_else(|| Errno::ENOMEM.here())?;
        if at < self.lowest() {
            return Err(Errno::EPERM.here());
        }
        Ok(at..end)
    }

    /// Checks `RLIMIT_AS`, `RLIMIT_DATA`, the overcommit heuristic and the number of VMAs for `len` bytes of a new VMA,
    /// which replaces `freed` bytes.
    pub(super) fn check_growth(&self, state: &State, vma: &Vma, len: u64, freed: u64) -> Result<(), Errno> {
        if state.areas.sums().all.saturating_sub(freed).saturating_add(len) > self.limits.address_space() {
            return Err(Errno::ENOMEM.here());
        }
        let data_limit = self.limits.data();
        if vma.is_data() && state.areas.sums().data.saturating_add(len) > data_limit {
            return Err(Errno::ENOMEM.here());
        }
        // The heuristic refuses only what can never fit.
        let heuristic = self.limits.system().overcommit.get() == 0;
        let accounted = is_accounted(vma) && !vma.flags.contains(VmaFlags::NO_RESERVE);
        if heuristic && accounted && len > self.memory.limit() {
            return Err(Errno::ENOMEM.here());
        }
        if state.areas.count() >= self.most_areas() {
            return Err(Errno::ENOMEM.here());
        }
        Ok(())
    }

    /// Checks `RLIMIT_MEMLOCK` for `len` more locked bytes; callers with `CAP_IPC_LOCK` pass `unlimited`.
    pub(super) fn may_lock(&self, state: &State, len: u64, unlimited: bool) -> bool {
        unlimited || state.areas.sums().locked.saturating_add(len) <= self.limits.locked()
    }
}

/// Whether a VMA counts for overcommit: private and writable.
fn is_accounted(vma: &Vma) -> bool {
    vma.protection.write && !vma.is_shared()
}

/// Whether a protection allows any access.
pub(super) fn is_accessible(protection: Protection) -> bool {
    protection.read || protection.write || protection.execute
}
