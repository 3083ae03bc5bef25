//! Page faults: from an address to a mapped page, or a signal.

use std::cell::Cell;
use std::ops::Range;

use amber_abi::errno::Errno;
use amber_platform::{Access, FrameRange, Frames, PAGE_SIZE, Protection};

use super::manager::{MemoryManager, State};
use super::runs::{Ownership, Run};
use super::vma::{Backing, STACK_GUARD_GAP, Vma, VmaFlags};

/// Zeroed memory comes in pieces of at most this, aligned to it …
const CHUNK: u64 = 2 << 20;
/// … or, where as much lies directly before, of at most this.
const MOST_CHUNK: u64 = 16 << 20;
/// A store to shared pages copies this much around it, aligned to it.
pub(super) const COPY_BLOCK: u64 = 32 << 10;
/// A touch of an object's page maps this much before it.
const FAULT_AROUND: u64 = 64 << 10;
/// Private areas of objects up to this size are data of programs: what is read there is written soon.
const DATA_AREA: u64 = 1 << 20;
/// A stack grows by this much at once.
const STACK_STEP: u64 = 64 << 10;

/// Why a touch of memory is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is mapped there: SIGSEGV with `SEGV_MAPERR`.
    Unmapped,
    /// The area does not allow it: SIGSEGV with `SEGV_ACCERR`.
    Denied,
    /// The object ends before, or its page cannot be read: SIGBUS with `BUS_ADRERR`.
    NoPage,
    /// No memory is left; Linux kills the process.
    OutOfMemory,
}

impl Fault {
    /// Signal number and `si_code`.
    pub fn signal(self) -> (i32, i32) {
        const SIGBUS: i32 = 7;
        const SIGKILL: i32 = 9;
        const SIGSEGV: i32 = 11;
        const SI_KERNEL: i32 = 0x80;
        match self {
            Fault::Unmapped => (SIGSEGV, 1),
            Fault::Denied => (SIGSEGV, 2),
            Fault::NoPage => (SIGBUS, 2),
            Fault::OutOfMemory => (SIGKILL, SI_KERNEL),
        }
    }
}

thread_local! {
    /// The last fault of this host thread that found everything in place: address space, page, its generation.
    static NEEDLESS: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
}

fn page_of(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// Whether an area's protection allows an access. As on x86, stores and fetches imply loads.
fn allows(protection: Protection, access: Access) -> bool {
    match access {
        Access::Read => protection.read || protection.write || protection.execute,
        Access::Write => protection.write,
        Access::Execute => protection.execute,
    }
}

impl MemoryManager {
    /// Serves a page fault of the guest. `access` is what is known: a load may have been any access.
    ///
    /// # Errors
    /// The signal to send.
    pub fn fault(&self, address: u64, access: Access) -> Result<(), Fault> {
        log::trace!("page fault at {address:#x}: {access:?}");
        self.with(|state| {
            let (area, page) = self.locate(state, address)?;
            if !allows(area.protection, access) {
                return Err(Fault::Denied);
            }
            let Some((_, run)) = state.runs.find(page) else {
                return self.populate(state, &area, page, access == Access::Write);
            };
            // The page is mapped for loads. So if the area allows stores that the page does not, it was a store.
            let ownership = run.ownership;
            if area.protection.write && !ownership.is_writable() && access != Access::Execute {
                return self.make_writable(state, &area, page);
            }
            // Everything was in place: either another thread's fault came first, or the access was one that the
            // platform could not tell and the area does not allow. Only the latter comes back unchanged.
            let now = (self.id(), page, state.generation);
            if NEEDLESS.replace(now) == now {
                return Err(Fault::Denied);
            }
            self.space.map(page, self.frame_at(state, page), ownership.limit(area.protection));
            Ok(())
        })
    }

    fn frame_at(&self, state: &State, page: u64) -> FrameRange {
        let piece = state.runs.pieces(page..page + PAGE_SIZE).next();
        piece.map_or(FrameRange { start: 0, len: 0 }, |piece| piece.frames)
    }

    /// Makes a page present, for a store if `write`, whatever the area's protection says (the caller checked it).
    pub(super) fn bring(&self, state: &mut State, area: &Vma, page: u64, write: bool) -> Result<(), Fault> {
        match state.runs.find(page) {
            None => self.populate(state, area, page, write),
            Some((_, run)) if write && !run.ownership.is_writable() => self.make_writable(state, area, page),
            Some(_) => Ok(()),
        }
    }

    /// The area and page of an address; a stack grows to it.
    pub(super) fn locate(&self, state: &mut State, address: u64) -> Result<(Vma, u64), Fault> {
        let page = page_of(address);
        if let Some(area) = state.areas.find(address) {
            return Ok((area.clone(), page));
        }
        let (start, grown) = match state.areas.find_from(address) {
            Some(area) if area.flags.contains(VmaFlags::GROWS_DOWN) => {
                (area.start, self.grown_start(state, area, page).ok_or(Fault::Unmapped)?)
            }
            _ => return Err(Fault::Unmapped),
        };
        state.areas.grow_down(start, grown);
        state.peak = state.peak.max(state.areas.sums().all);
        state.areas.find(address).map(|area| (area.clone(), page)).ok_or(Fault::Unmapped)
    }

    /// Where a stack that is touched at `page` begins from then on, if limits and its neighbour below allow it.
    fn grown_start(&self, state: &State, area: &Vma, page: u64) -> Option<u64> {
        const LOWEST: u64 = 65536;
        let below = state.areas.find_below(area.start);
        let floor = match below {
            Some(below) if below.flags.contains(VmaFlags::GROWS_DOWN) => below.end,
            Some(below) if below.protection == Protection::default() => below.end,
            Some(below) => below.end.checked_add(STACK_GUARD_GAP)?,
            None => LOWEST,
        };
        let by_limit = area.end.saturating_sub(self.limits.stack());
        let room = self.limits.address_space().saturating_sub(state.areas.sums().all);
        let lowest = floor.max(by_limit).max(area.start.saturating_sub(room)).max(LOWEST);
        // As Linux, refuse by the touched page, not by the step taken ahead.
        if page < lowest {
            return None;
        }
        Some((page & !(STACK_STEP - 1)).max(lowest.next_multiple_of(PAGE_SIZE)))
    }

    fn populate(&self, state: &mut State, area: &Vma, page: u64, write: bool) -> Result<(), Fault> {
        match &area.backing {
            Backing::Anonymous => self.populate_zero(state, area, page),
            Backing::Object(_) if area.is_shared() => self.populate_object(state, area, page, write),
            Backing::Object(_) => {
                // A load there is often the first half of a store, and then saves the second fault.
                let soon = area.protection.write && area.size() <= DATA_AREA && copies_blocks(area);
                if write || soon {
                    self.populate_copy(state, area, page)
                } else {
                    self.populate_object(state, area, page, false)
                }
            }
        }
    }

    /// Brings zeroed frames for as much as makes sense around a page.
    fn populate_zero(&self, state: &mut State, area: &Vma, page: u64) -> Result<(), Fault> {
        let hole = state.runs.hole(page, area.range());
        let chunk = page & !(CHUNK - 1);
        // Who filled that much goes on.
        let before = match chunk.checked_sub(PAGE_SIZE).and_then(|before| state.runs.find(before)) {
            Some((_, run)) if run.ownership == Ownership::Owned => run.frames.range().len,
            _ => 0,
        };
        let size = (before & !(CHUNK - 1)).clamp(CHUNK, MOST_CHUNK);
        let wide = hole.start.max(chunk)..hole.end.min(chunk.saturating_add(size));
        let ahead = self.memory.ahead();
        let wide = match (page / ahead).checked_mul(ahead) {
            Some(block) if ahead < CHUNK => wide.start.max(block)..wide.end.min(block.saturating_add(ahead)),
            _ => wide,
        };
        let hint = self.hint(state, wide.start);
        if self.bring_for_use(state, area, &wide, hint) {
            return Ok(());
        }
        let (at, frames) = match self.memory.allocate_near(wide.end - wide.start, hint) {
            Ok(frames) => (wide.start, frames),
            Err(_) => (page, self.memory.allocate(PAGE_SIZE, PAGE_SIZE).map_err(|_| Fault::OutOfMemory)?),
        };
        self.install(state, area, at, Run { frames, ownership: Ownership::Owned });
        Ok(())
    }

    /// Where in the memfd the frames of `start` would follow those of the page before.
    fn hint(&self, state: &State, start: u64) -> u64 {
        match start.checked_sub(PAGE_SIZE).and_then(|before| state.runs.find(before)) {
            Some((_, run)) if run.ownership == Ownership::Owned => run.frames.range().end(),
            _ => u64::MAX,
        }
    }

    /// Maps the object's own frames, with what else is at hand around the page.
    fn populate_object(&self, state: &mut State, area: &Vma, page: u64, write: bool) -> Result<(), Fault> {
        let Some(object) = area.object().map(|area| area.object.clone()) else { return Err(Fault::NoPage) };
        let write = area.is_shared() && (write || (area.protection.write && !object.is_write_noticed()));
        let ownership = match (area.is_shared(), write) {
            (false, _) => Ownership::Cached,
            (true, false) => Ownership::SharedRead,
            (true, true) => Ownership::SharedWrite,
        };
        let hole = state.runs.hole(page, area.range());
        let most = if write { FAULT_AROUND } else { CHUNK };
        let block = page & !(FAULT_AROUND - 1);
        let mut at = hole.start.max(block);
        // Whatever lies before and is in memory already comes along.
        let floor = hole.start.max(page & !(CHUNK - 1));
        while !write && at > floor {
            let before = at.saturating_sub(FAULT_AROUND).max(floor);
            if !object.is_resident(area.offset_of(before)) {
                break;
            }
            at = before;
        }
        let end = hole.end.min(block.saturating_add(most));
        while at <= page {
            let frames = match object.frames(area.offset_of(at), end - at, write) {
                Ok(frames) if frames.range().len > 0 => frames,
                Ok(_) => return Err(Fault::NoPage),
                // What is before the page is only a help.
                Err(_) if at < page => {
                    at = page;
                    continue;
                }
                Err(errno) => return Err(no_page(errno)),
            };
            let len = frames.range().len;
            self.install(state, area, at, Run { frames, ownership });
            at += len;
        }
        Ok(())
    }

    /// Copies the object's pages around a page for a private area.
    fn populate_copy(&self, state: &mut State, area: &Vma, page: u64) -> Result<(), Fault> {
        let Some(object) = area.object().map(|area| area.object.clone()) else { return Err(Fault::NoPage) };
        let hole = state.runs.hole(page, area.range());
        let size = if copies_blocks(area) { COPY_BLOCK } else { PAGE_SIZE };
        let block = page & !(size - 1);
        let mut at = hole.start.max(block);
        let end = hole.end.min(block.saturating_add(size));
        while at < end {
            let original = match object.frames(area.offset_of(at), end - at, false) {
                Ok(frames) if frames.range().len > 0 => frames,
                Ok(_) => return Err(Fault::NoPage),
                Err(_) if at < page => {
                    at = page;
                    continue;
                }
                Err(_) if at > page => return Ok(()),
                Err(errno) => return Err(no_page(errno)),
            };
            let len = original.range().len;
            let frames = self.copy(state, at, original.range())?;
            self.install(state, area, at, Run { frames, ownership: Ownership::Owned });
            at += len;
        }
        Ok(())
    }

    /// A copy of frames, for the address `at`.
    fn copy(&self, state: &State, at: u64, from: FrameRange) -> Result<Frames, Fault> {
        let copy = self.memory.allocate_to_fill(from.len, self.hint(state, at)).map_err(|_| Fault::OutOfMemory)?;
        self.memory.copy(from.start, copy.range().start, from.len);
        Ok(copy)
    }

    /// Makes a page writable that is present but not the area's own, or of an object that must know first.
    fn make_writable(&self, state: &mut State, area: &Vma, page: u64) -> Result<(), Fault> {
        let Some((start, run)) = state.runs.find(page) else { return Err(Fault::NoPage) };
        let whole = area.clip(&(start..start + run.frames.range().len));
        let alone = run.ownership == Ownership::Cached && !copies_blocks(area);
        let size = if alone { PAGE_SIZE } else { COPY_BLOCK };
        let block = page & !(size - 1);
        let part = whole.start.max(block)..whole.end.min(block.saturating_add(size));
        if run.ownership == Ownership::CopyOnWrite {
            state.precopy.note(page);
        }
        let unshared = |range: &Range<u64>| run.frames.holders(range.start - start, range.end - range.start) <= 1;
        match run.ownership {
            Ownership::Owned | Ownership::SharedWrite => Ok(()),
            Ownership::CopyOnWrite if unshared(&whole) => {
                self.take_over(state, area, whole);
                Ok(())
            }
            Ownership::CopyOnWrite if unshared(&part) => {
                self.take_over(state, area, part);
                Ok(())
            }
            Ownership::CopyOnWrite | Ownership::Cached => {
                let from =
                    FrameRange { start: run.frames.range().start + (part.start - start), len: part.end - part.start };
                let frames = self.copy(state, part.start, from)?;
                self.replace(state, area, part.start, Run { frames, ownership: Ownership::Owned });
                Ok(())
            }
            Ownership::SharedRead => {
                let Some(object) = area.object().map(|area| area.object.clone()) else { return Err(Fault::NoPage) };
                let mut at = part.start;
                while at < part.end {
                    let frames = object.frames(area.offset_of(at), part.end - at, true).map_err(no_page)?;
                    let len = frames.range().len;
                    if len == 0 {
                        return Err(Fault::NoPage);
                    }
                    self.replace(state, area, at, Run { frames, ownership: Ownership::SharedWrite });
                    at += len;
                }
                Ok(())
            }
        }
    }

    /// What was shared since a fork is ours alone again.
    fn take_over(&self, state: &mut State, area: &Vma, range: Range<u64>) {
        state.runs.set_ownership(range.clone(), |_| Ownership::Owned);
        state.generation += 1;
        self.space.protect(range, area.protection);
    }
}

/// Whether pages around a copied one may be copied too. Pages not yet stored to still show what is written to the file;
/// that can be told only where someone writes files he maps, not where programs are run.
fn copies_blocks(area: &Vma) -> bool {
    area.object().and_then(|area| area.file.as_ref()).is_none_or(|file| !file.is_writable())
}

/// The fault for an object that has no page.
fn no_page(errno: Errno) -> Fault {
    if errno == Errno::ENOMEM { Fault::OutOfMemory } else { Fault::NoPage }
}
