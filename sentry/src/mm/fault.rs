//! Page faults: make the page of an address present, or return a signal.

use std::cell::Cell;
use std::ops::Range;

use amber_abi::errno::Errno;
use amber_platform::{Access, FrameRange, Frames, PAGE_SIZE, Protection};

use super::manager::{MemoryManager, State};
use super::runs::{Ownership, Run};
use super::vma::{Backing, STACK_GUARD_GAP, Vma, VmaFlags};

/// Zeroed memory is populated in aligned chunks of at most this size …
const CHUNK: u64 = 2 << 20;
/// … or of up to this size if as much memory before the chunk is populated already.
const MOST_CHUNK: u64 = 16 << 20;
/// A store to copy-on-write pages copies an aligned block of this size.
pub(super) const COPY_BLOCK: u64 = 32 << 10;
/// A fault on an object's page also maps the pages before it in the aligned block of this size.
const FAULT_AROUND: u64 = 64 << 10;
/// Private VMAs of objects up to this size are data segments: after a load a store is likely.
const DATA_AREA: u64 = 1 << 20;
/// Stacks grow in steps of this size.
const STACK_STEP: u64 = 64 << 10;

/// Why an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No VMA: SIGSEGV with `SEGV_MAPERR`.
    Unmapped,
    /// The VMA does not allow the access: SIGSEGV with `SEGV_ACCERR`.
    Denied,
    /// Beyond the end of the object, or its page cannot be read: SIGBUS with `BUS_ADRERR`.
    NoPage,
    /// No memory is left. Linux kills a process.
    OutOfMemory,
}

impl Fault {
    /// The signal number and its `si_code`.
    pub(crate) fn signal(self) -> (i32, i32) {
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
    /// The last fault of this host thread whose page was mapped correctly: address space, page, generation.
    static NEEDLESS: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
}

fn page_of(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// Whether a protection allows an access. As on x86, stores and fetches imply loads.
fn allows(protection: Protection, access: Access) -> bool {
    match access {
        Access::Read => protection.read || protection.write || protection.execute,
        Access::Write => protection.write,
        Access::Execute => protection.execute,
    }
}

impl MemoryManager {
    /// Handles a page fault of the guest. `access` is what the platform reports: [`Access::Read`] may be any access.
    ///
    /// # Errors
    /// The reason for a signal, see [`Fault::signal`].
    pub(crate) fn fault(&self, address: u64, access: Access) -> Result<(), Fault> {
        log::trace!("page fault at {address:#x}: {access:?}");
        self.with(|state| {
            let (area, page) = self.locate(state, address)?;
            if !allows(area.protection, access) {
                return Err(Fault::Denied);
            }
            let Some((_, run)) = state.runs.find(page) else {
                return self.populate(state, &area, page, access == Access::Write);
            };
            // A present page can be read. So if the VMA allows stores and the mapping does not, the access was a store.
            let ownership = run.ownership;
            if area.protection.write && !ownership.is_writable() && access != Access::Execute {
                return self.make_writable(state, &area, page);
            }
            // The mapping is correct: either a fault of another thread has made it, or the VMA does not allow the
            // access, which the platform reports as a load. In the latter case the same fault follows without any
            // change in between.
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

    /// Makes a page present, and writable if `write`. The caller has checked the protection of the VMA.
    pub(super) fn bring(&self, state: &mut State, area: &Vma, page: u64, write: bool) -> Result<(), Fault> {
        match state.runs.find(page) {
            None => self.populate(state, area, page, write),
            Some((_, run)) if write && !run.ownership.is_writable() => self.make_writable(state, area, page),
            Some(_) => Ok(()),
        }
    }

    /// The VMA and the page of an address. Stacks grow down to the address.
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

    /// The new start of a stack after an access to `page`, if the limits and the VMA below allow it.
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
        // As on Linux, the accessed page decides, not the rounded step.
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
                // The load is often the first half of a store. The copy now saves a second fault.
                let soon = area.protection.write && area.size() <= DATA_AREA && copies_blocks(area);
                if write || soon {
                    self.populate_copy(state, area, page)
                } else {
                    self.populate_object(state, area, page, false)
                }
            }
        }
    }

    /// Populates zeroed frames around a page, as many as are useful.
    fn populate_zero(&self, state: &mut State, area: &Vma, page: u64) -> Result<(), Fault> {
        let hole = state.runs.hole(page, area.range());
        let chunk = page & !(CHUNK - 1);
        // After a large populated range, populate as much again.
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

    /// The offset in the memfd that would continue the frames of the page before `start`.
    fn hint(&self, state: &State, start: u64) -> u64 {
        match start.checked_sub(PAGE_SIZE).and_then(|before| state.runs.find(before)) {
            Some((_, run)) if run.ownership == Ownership::Owned => run.frames.range().end(),
            _ => u64::MAX,
        }
    }

    /// Maps the object's own frames, with those resident around the page.
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
        // Resident pages before this one are mapped as well.
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
                // Mapping the pages before is optional.
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

    /// Copies the object's pages around a page for a private VMA.
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

    /// Copies frames, for the address `at`.
    fn copy(&self, state: &State, at: u64, from: FrameRange) -> Result<Frames, Fault> {
        let copy = self.memory.allocate_to_fill(from.len, self.hint(state, at)).map_err(|_| Fault::OutOfMemory)?;
        self.memory.copy(from.start, copy.range().start, from.len);
        Ok(copy)
    }

    /// Makes a present page writable: copies it, takes it over, or informs the object of the store.
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

    /// Makes copy-on-write pages without other holders private again.
    fn take_over(&self, state: &mut State, area: &Vma, range: Range<u64>) {
        state.runs.set_ownership(range.clone(), |_| Ownership::Owned);
        state.generation += 1;
        self.space.protect(range, area.protection);
    }
}

/// Whether pages around a copied one may be copied too. A private page that has not been stored to shows later writes
/// to the file. Programs that map files they can write may depend on that; for programs and libraries it does not
/// matter.
fn copies_blocks(area: &Vma) -> bool {
    area.object().and_then(|area| area.file.as_ref()).is_none_or(|file| !file.is_writable())
}

/// The fault for a page that an object cannot provide.
fn no_page(errno: Errno) -> Fault {
    if errno == Errno::ENOMEM { Fault::OutOfMemory } else { Fault::NoPage }
}
