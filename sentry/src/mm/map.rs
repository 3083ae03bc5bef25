//! Adding and removing VMAs: mmap(2), munmap(2), brk(2).

use std::ops::Range;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::{PAGE_SIZE, Protection};

use super::address::Region;
use super::manager::{MemoryManager, State};
use super::prefault::is_prefaulted;
use super::runs::Ownership;
use super::vma::{Backing, ObjectArea, Vma, VmaFlags};
use super::{Mappable, fault::Fault};
use crate::interruption::check_killed;
use crate::vfs::FileDescription;

/// mmap(2) and the like populate at most this many bytes before they release the lock of the address space.
const POPULATED: u64 = 1 << 20;

/// The address of a new VMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this address if it is free, else anywhere. 0 is no hint.
    Hint(u64),
    /// In the second gigabyte (`MAP_32BIT`).
    Low32,
    /// Exactly at this address, replacing other mappings (`MAP_FIXED`).
    Fixed(u64),
    /// Exactly at this address, else `EEXIST` (`MAP_FIXED_NOREPLACE`).
    FixedFree(u64),
}

/// The backing of a new VMA.
#[derive(Clone)]
pub(crate) enum Backed {
    /// Zeroed memory.
    Anonymous,
    /// An object, an offset in bytes, and the open file or the name to show in `/proc/PID/maps`.
    Object(Arc<dyn Mappable>, u64, Option<Arc<FileDescription>>, &'static str),
}

/// A request for a mapping. The caller has checked the arguments against the file.
pub(crate) struct MapRequest {
    /// The address.
    pub place: Place,
    /// Length in bytes, rounded up to pages.
    pub len: u64,
    /// The protection.
    pub protection: Protection,
    /// Flags, with the protections that mprotect(2) may set later.
    pub flags: VmaFlags,
    /// The backing.
    pub backed: Backed,
    /// Whether to populate all pages now (`MAP_POPULATE`).
    pub populate: bool,
    /// Whether `RLIMIT_MEMLOCK` does not apply (`CAP_IPC_LOCK`).
    pub may_lock_any: bool,
}

/// Rounds a length up to whole pages.
///
/// # Errors
/// `ENOMEM` on overflow.
pub(super) fn whole_pages(len: u64) -> Result<u64, Errno> {
    len.checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| Errno::ENOMEM.here())
}

impl MemoryManager {
    /// Adds a mapping and returns its address.
    ///
    /// # Errors
    /// Those of mmap(2), except those about the descriptor.
    pub(crate) fn map(&self, request: MapRequest) -> Result<u64, Errno> {
        if request.len == 0 {
            return Err(Errno::EINVAL.here());
        }
        let len = whole_pages(request.len)?;
        self.check_exec_gain(request.protection, request.protection)?;
        let (backing, offset) = match request.backed {
            Backed::Anonymous => (Backing::Anonymous, 0),
            Backed::Object(object, offset, file, label) => {
                offset.checked_add(len).ok_or_else(|| Errno::EOVERFLOW.here())?;
                let writable = request.flags.contains(VmaFlags::SHARED | VmaFlags::MAY_WRITE);
                (Backing::Object(ObjectArea::new(object, file, label, self.link.clone(), writable)?), offset)
            }
        };
        let (start, populate) = self.with(|state| {
            let at = match request.place {
                Place::Hint(hint) => self.find_room(state, hint, len, Region::Usual)?,
                Place::Low32 => self.find_room(state, 0, len, Region::Low32)?,
                Place::Fixed(at) | Place::FixedFree(at) => self.check_fixed(at, len)?.start,
            };
            let range = at..at + len;
            let over: u64 = state
                .areas
                .overlapping(range.clone())
                .map(|vma| {
                    let part = vma.clip(&range);
                    part.end - part.start
                })
                .sum();
            if over > 0 && matches!(request.place, Place::FixedFree(_)) {
                return Err(Errno::EEXIST.here());
            }
            let vma = Vma {
                start: range.start,
                end: range.end,
                protection: request.protection,
                flags: request.flags | state.lock_future,
                backing,
                offset,
                name: None,
            };
            if vma.flags.contains(VmaFlags::LOCKED) && !self.may_lock(state, len, request.may_lock_any) {
                return Err(Errno::EAGAIN.here());
            }
            self.check_sealed(state, &range)?;
            self.check_growth(state, &vma, len, over)?;
            if over > 0 {
                self.check_splits(state, &range)?;
                self.remove(state, range.clone());
            }
            let locked = vma.flags.contains(VmaFlags::LOCKED) && !vma.flags.contains(VmaFlags::LOCK_ON_FAULT);
            let cached = !vma.is_shared()
                && super::address::is_accessible(vma.protection)
                && vma.object().is_some_and(|area| offset < area.object.len() && area.object.is_resident(offset));
            self.add(state, vma);
            if cached && let Some(area) = state.areas.find(at).cloned() {
                // A program is about to access the file it maps. Mapping its cached pages now saves a fault.
                let part = Vma { start: at, end: at + len, offset, ..area };
                let _ = self.bring(state, &part, at, false);
            }
            Ok((at, request.populate || locked))
        })?;
        if populate {
            self.populate_range(start..start + len);
        }
        Ok(start)
    }

    /// The address that a mapping of `len` bytes would get.
    ///
    /// # Errors
    /// `ENOMEM` if there is no free range.
    pub(crate) fn free_room(&self, len: u64) -> Result<u64, Errno> {
        let len = whole_pages(len)?;
        self.with(|state| self.find_room(state, 0, len, Region::Usual))
    }

    /// Adds a VMA in a free range, and populates it if it is small and private.
    pub(super) fn add(&self, state: &mut State, vma: Vma) {
        let range = vma.range();
        let prefault = is_prefaulted(&vma);
        state.areas.insert(vma);
        let joined = state.areas.join(range.clone());
        state.garbage.extend(joined);
        state.peak = state.peak.max(state.areas.sums().all);
        if prefault {
            self.bring_zero(state, range);
        }
    }

    /// Populates a range as far as possible. Like Linux, mmap(2) reports no errors of this.
    pub(super) fn populate_range(&self, range: Range<u64>) {
        let _ = self.populate_all(range, None, |_| Errno::ENOMEM.here());
    }

    /// Populates a range: for stores in private writable VMAs, or as `write` specifies.
    ///
    /// # Errors
    /// The errno that `refusal` returns for the first page that cannot be populated; `EINTR` if the caller is killed.
    pub(super) fn populate_all(
        &self,
        range: Range<u64>,
        write: Option<bool>,
        refusal: impl Fn(Fault) -> Errno,
    ) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            at = self.populate_some(at..range.end.min(at.saturating_add(POPULATED)), write).map_err(&refusal)?;
            check_killed()?;
        }
        Ok(())
    }

    /// Populates the first page of a range and those that are made present with it. Returns the end of the present
    /// pages.
    fn populate_some(&self, range: Range<u64>, write: Option<bool>) -> Result<u64, Fault> {
        self.with(|state| {
            let at = range.start;
            let area = state.areas.find(at).cloned().ok_or(Fault::Unmapped)?;
            let write = write.unwrap_or(area.protection.write && !area.is_shared());
            let allowed = if write { area.protection.write } else { super::address::is_accessible(area.protection) };
            if !allowed {
                return Err(Fault::Denied);
            }
            self.bring(state, &area, at, write)?;
            let piece = state.runs.pieces(at..range.end.min(area.end)).next().ok_or(Fault::NoPage)?;
            if piece.ownership == Ownership::Owned {
                self.memory.commit(piece.frames).map_err(|_| Fault::OutOfMemory)?;
            }
            Ok(piece.range().end)
        })
    }

    /// Refuses a change of VMAs that mseal(2) has sealed.
    pub(super) fn check_sealed(&self, state: &State, range: &Range<u64>) -> Result<(), Errno> {
        let sealed = state.areas.overlapping(range.clone()).any(|vma| vma.flags.contains(VmaFlags::SEALED));
        if sealed { Err(Errno::EPERM.here()) } else { Ok(()) }
    }

    /// Refuses a change that would exceed the maximum number of VMAs.
    pub(super) fn check_splits(&self, state: &State, range: &Range<u64>) -> Result<(), Errno> {
        let splits = state.areas.splits_of(range);
        if state.areas.count() + splits > self.most_areas() { Err(Errno::ENOMEM.here()) } else { Ok(()) }
    }

    /// munmap(2).
    ///
    /// # Errors
    /// `EINVAL` for an invalid range, `ENOMEM` if too many VMAs would remain, `EPERM` if sealed.
    pub(crate) fn unmap(&self, address: u64, len: u64) -> Result<(), Errno> {
        let len = whole_pages(len).map_err(|_| Errno::EINVAL.here())?;
        let end = address.checked_add(len).filter(|&end| end <= self.limit).ok_or_else(|| Errno::EINVAL.here())?;
        if !address.is_multiple_of(PAGE_SIZE) || len == 0 {
            return Err(Errno::EINVAL.here());
        }
        self.with(|state| {
            let range = address..end;
            self.check_sealed(state, &range)?;
            self.check_splits(state, &range)?;
            self.remove(state, range);
            Ok(())
        })
    }

    /// brk(2): moves the end of the heap if possible, and returns it.
    pub(crate) fn set_break(&self, to: u64, may_lock_any: bool) -> u64 {
        let (brk, lock) = self.with(|state| {
            let layout = &state.layout;
            let old = layout.brk;
            if to < layout.start_brk || to > self.limit - PAGE_SIZE {
                return (old, None);
            }
            let data = to - layout.start_brk + layout.end_data.saturating_sub(layout.start_data);
            if self.limits.data() != u64::MAX && data > self.limits.data() {
                return (old, None);
            }
            let (from_page, to_page) = (old.next_multiple_of(PAGE_SIZE), to.next_multiple_of(PAGE_SIZE));
            if to_page < from_page {
                if self.check_sealed(state, &(to_page..from_page)).is_err() {
                    return (old, None);
                }
                self.remove(state, to_page..from_page);
            } else if to_page > from_page {
                let vma = Vma {
                    start: from_page,
                    end: to_page,
                    protection: Protection { read: true, write: true, execute: false },
                    flags: VmaFlags::MAY_ALL | state.lock_future,
                    backing: Backing::Anonymous,
                    offset: 0,
                    name: None,
                };
                let len = vma.size();
                let locked = vma.flags.contains(VmaFlags::LOCKED);
                let free = state.areas.is_free(&(from_page..to_page));
                if !free
                    || self.check_growth(state, &vma, len, 0).is_err()
                    || (locked && !self.may_lock(state, len, may_lock_any))
                {
                    return (old, None);
                }
                let now = locked && !vma.flags.contains(VmaFlags::LOCK_ON_FAULT);
                self.add(state, vma);
                state.layout.brk = to;
                return (to, now.then_some(from_page..to_page));
            }
            state.layout.brk = to;
            (to, None)
        });
        if let Some(range) = lock {
            self.populate_range(range);
        }
        brk
    }
}
