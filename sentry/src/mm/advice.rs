//! madvise(2).

use std::ops::Range;

use amber_abi::errno::Errno;
use amber_abi::mm::MemoryAdvice;
use amber_platform::PAGE_SIZE;

use super::address::is_accessible;
use super::fault::Fault;
use super::manager::{MemoryManager, State};
use super::report::AREAS_AT_ONCE;
use super::vma::{Backing, Vma, VmaFlags};
use crate::interruption::check_killed;

impl MemoryManager {
    /// madvise(2). Valid advice without a meaning here is accepted and ignored, as Linux may do.
    ///
    /// # Errors
    /// As in the man page; `EINTR` if the caller is killed.
    pub(crate) fn advise(&self, address: u64, len: u64, advice: MemoryAdvice) -> Result<(), Errno> {
        if !is_known(advice) || !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL.here());
        }
        let rounded = len.checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| Errno::EINVAL.here())?;
        let end = address.checked_add(rounded).ok_or_else(|| Errno::EINVAL.here())?;
        if rounded == 0 {
            return Ok(());
        }
        let range = address..end;
        match advice {
            MemoryAdvice::MADV_POPULATE_READ => return self.advise_populate(range, false),
            MemoryAdvice::MADV_POPULATE_WRITE => return self.advise_populate(range, true),
            MemoryAdvice::MADV_REMOVE => return self.advise_remove(range),
            MemoryAdvice::MADV_WILLNEED => return self.advise_will_need(range),
            _ => {}
        }
        self.with(|state| {
            let mut at = range.start;
            // The changes may merge or split VMAs, but never beyond the end of those found.
            while at < range.end {
                let rest = at..range.end;
                let areas: Vec<Vma> = state.areas.overlapping(rest.clone()).take(AREAS_AT_ONCE).cloned().collect();
                let Some(last) = areas.last() else { break };
                at = last.end;
                for vma in &areas {
                    let part = vma.clip(&rest);
                    if part.start < part.end {
                        self.advise_part(state, vma, part, advice)?;
                    }
                }
                check_killed()?;
            }
            // Like Linux, report holes only after all other work.
            if state.areas.covers(range.clone()) { Ok(()) } else { Err(Errno::ENOMEM.here()) }
        })
    }

    fn advise_part(&self, state: &mut State, vma: &Vma, part: Range<u64>, advice: MemoryAdvice) -> Result<(), Errno> {
        let locked = vma.flags.contains(VmaFlags::LOCKED);
        let special = vma.flags.contains(VmaFlags::SPECIAL);
        let anonymous = matches!(vma.backing, Backing::Anonymous);
        let sealed = vma.flags.contains(VmaFlags::SEALED) && anonymous && !vma.protection.write;
        let (add, take) = match advice {
            MemoryAdvice::MADV_DONTNEED | MemoryAdvice::MADV_DONTNEED_LOCKED => {
                if special || (locked && advice == MemoryAdvice::MADV_DONTNEED) {
                    return Err(Errno::EINVAL.here());
                }
                if sealed {
                    return Err(Errno::EPERM.here());
                }
                self.drop_pages(state, part);
                return Ok(());
            }
            MemoryAdvice::MADV_FREE => {
                // Linux frees the pages at any later time; freeing them at once is permitted.
                if !anonymous || locked {
                    return Err(Errno::EINVAL.here());
                }
                if sealed {
                    return Err(Errno::EPERM.here());
                }
                self.drop_pages(state, part);
                return Ok(());
            }
            MemoryAdvice::MADV_COLD | MemoryAdvice::MADV_PAGEOUT => {
                return if locked || special { Err(Errno::EINVAL.here()) } else { Ok(()) };
            }
            MemoryAdvice::MADV_HWPOISON | MemoryAdvice::MADV_SOFT_OFFLINE => return Err(Errno::EINVAL.here()),
            // There are no huge pages.
            MemoryAdvice::MADV_COLLAPSE => return Err(Errno::EINVAL.here()),
            MemoryAdvice::MADV_NORMAL => (VmaFlags::empty(), VmaFlags::RANDOM_ACCESS | VmaFlags::SEQUENTIAL_ACCESS),
            MemoryAdvice::MADV_RANDOM => (VmaFlags::RANDOM_ACCESS, VmaFlags::SEQUENTIAL_ACCESS),
            MemoryAdvice::MADV_SEQUENTIAL => (VmaFlags::SEQUENTIAL_ACCESS, VmaFlags::RANDOM_ACCESS),
            MemoryAdvice::MADV_DONTFORK => (VmaFlags::DONT_FORK, VmaFlags::empty()),
            MemoryAdvice::MADV_DOFORK if special => return Err(Errno::EINVAL.here()),
            MemoryAdvice::MADV_DOFORK => (VmaFlags::empty(), VmaFlags::DONT_FORK),
            MemoryAdvice::MADV_DONTDUMP => (VmaFlags::DONT_DUMP, VmaFlags::empty()),
            MemoryAdvice::MADV_DODUMP if special => return Err(Errno::EINVAL.here()),
            MemoryAdvice::MADV_DODUMP => (VmaFlags::empty(), VmaFlags::DONT_DUMP),
            MemoryAdvice::MADV_WIPEONFORK if !anonymous || vma.is_shared() => return Err(Errno::EINVAL.here()),
            MemoryAdvice::MADV_WIPEONFORK => (VmaFlags::WIPE_ON_FORK, VmaFlags::empty()),
            MemoryAdvice::MADV_KEEPONFORK => (VmaFlags::empty(), VmaFlags::WIPE_ON_FORK),
            MemoryAdvice::MADV_MERGEABLE => (VmaFlags::MERGEABLE, VmaFlags::empty()),
            MemoryAdvice::MADV_UNMERGEABLE => (VmaFlags::empty(), VmaFlags::MERGEABLE),
            MemoryAdvice::MADV_HUGEPAGE => (VmaFlags::HUGE_PAGES, VmaFlags::NO_HUGE_PAGES),
            MemoryAdvice::MADV_NOHUGEPAGE => (VmaFlags::NO_HUGE_PAGES, VmaFlags::HUGE_PAGES),
            _ => return Err(Errno::EINVAL.here()),
        };
        self.check_splits(state, &part)?;
        let joined = state.areas.change(part, |vma| vma.flags = (vma.flags - take) | add);
        state.garbage.extend(joined);
        Ok(())
    }

    fn advise_populate(&self, range: Range<u64>, write: bool) -> Result<(), Errno> {
        self.populate_all(range, Some(write), |fault| match fault {
            Fault::Unmapped | Fault::OutOfMemory => Errno::ENOMEM.here(),
            Fault::Denied => Errno::EINVAL.here(),
            Fault::NoPage => Errno::EFAULT.here(),
        })
    }

    /// `MADV_WILLNEED`: reads pages of objects in, without the lock of the address space.
    fn advise_will_need(&self, range: Range<u64>) -> Result<(), Errno> {
        let mut at = range.start;
        let mut holes = false;
        while at < range.end {
            check_killed()?;
            let Some(vma) = self.area_from(at).filter(|vma| vma.start < range.end) else { break };
            let part = vma.clip(&range);
            holes |= vma.start > at;
            at = vma.end;
            if let Some(area) = vma.object() {
                // Pages are read, not mapped. An access reports an error again.
                let _ = area.object.frames(vma.offset_of(part.start), part.end - part.start, false);
            }
        }
        if holes || at < range.end { Err(Errno::ENOMEM.here()) } else { Ok(()) }
    }

    /// `MADV_REMOVE`: punches a hole into the object of a shared writable VMA.
    fn advise_remove(&self, range: Range<u64>) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            check_killed()?;
            let (area, from, part) = self.with(|state| {
                let vma = state.areas.find(at).ok_or_else(|| Errno::ENOMEM.here())?;
                let area = vma.object().cloned().ok_or_else(|| Errno::EINVAL.here())?;
                if vma.flags.contains(VmaFlags::LOCKED) {
                    return Err(Errno::EINVAL.here());
                }
                if !vma.is_shared() || !vma.flags.contains(VmaFlags::MAY_WRITE) || !is_accessible(vma.protection) {
                    return Err(Errno::EACCES.here());
                }
                Ok((area, vma.offset_of(at), vma.clip(&(at..range.end))))
            })?;
            // Without the lock: the object unmaps the pages from all address spaces, this one included.
            area.object.punch_hole(from, part.end - part.start)?;
            at = part.end;
        }
        Ok(())
    }
}

fn is_known(advice: MemoryAdvice) -> bool {
    let raw = advice.raw();
    raw <= 4 || (8..=25).contains(&raw) || raw == 100 || raw == 101
}
