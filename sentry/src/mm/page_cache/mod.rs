//! Pages of a file or another object: its only store (tmpfs, memfd, shared memory) or the cache of a slower source.

mod extents;
mod reclaim;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_abi::errno::Errno;
use amber_abi::time::Timespec;
use amber_platform::{FrameRange, Frames, GuestMemory, PAGE_SIZE};

use self::extents::{Extent, State, push_page};
pub(crate) use self::reclaim::PageCaches;
use super::{Mappable, Mapping};
use crate::sync::{Mutex, Rank};

/// Block size of reads from a source.
const READ_AHEAD: u64 = 128 << 10;
/// Block size for objects up to [`SMALL_SOURCE`]: programs and libraries, whose pages are accessed in no order.
const SMALL_READ_AHEAD: u64 = 512 << 10;
/// Objects up to this size are read in larger blocks.
const SMALL_SOURCE: u64 = 4 << 20;
/// Frames are allocated in extents of this size in the first megabyte of an object,
const SMALL_EXTENT: u64 = 64 << 10;
/// and of this size behind it.
const LARGE_EXTENT: u64 = 2 << 20;
/// Where large extents begin.
const LARGE_FROM: u64 = 1 << 20;
/// The lock of an object is released after this many bytes.
const STEP: u64 = 4 << 20;

/// Up to this many parts of an object are invalidated one by one.
const FEW_PARTS: usize = 64;

/// The source of a cached object's bytes.
///
/// Its methods are called with the lock of the cache held: they must not call the cache, nor take locks of lower rank.
pub(crate) trait PageSource: Send + Sync {
    /// Reads bytes from `offset` on into guest memory at `place`. Returns their number, which is smaller than `len`
    /// only at the end.
    fn read(&self, memory: &GuestMemory, place: u64, offset: u64, len: u64) -> Result<u64, Errno>;

    /// Writes `len` bytes of guest memory at `place` to `offset`.
    fn write(&self, memory: &GuestMemory, place: u64, offset: u64, len: u64) -> Result<(), Errno>;
}

/// Charges bytes of a file system in memory to its size.
pub(crate) trait Quota: Send + Sync {
    /// Charges bytes.
    ///
    /// # Errors
    /// `ENOSPC` if the file system is full.
    fn take(&self, bytes: u64) -> Result<(), Errno>;

    /// Uncharges bytes.
    fn give_back(&self, bytes: u64);
}

/// The source of an object's bytes, and the set of caches it belongs to.
struct Source {
    bytes: Box<dyn PageSource>,
    caches: Arc<PageCaches>,
}

/// The pages of one object.
pub(crate) struct PageCache {
    memory: Arc<GuestMemory>,
    source: Option<Source>,
    quota: Option<Arc<dyn Quota>>,
    /// The object may outlive processes.
    lasting: bool,
    state: Mutex<State>,
    /// The time of the last read from the source, as a tick of [`PageCaches`].
    used: AtomicU64,
}

impl PageCache {
    /// An object of `len` zero bytes in memory, which does not outlive the processes that use it.
    pub(crate) fn in_memory(memory: Arc<GuestMemory>, len: u64) -> Arc<Self> {
        Self::build(memory, None, None, false, len)
    }

    /// Like [`in_memory`](Self::in_memory), for an object that may outlive processes. Its pages are charged to `quota`,
    /// if there is one.
    pub(crate) fn lasting(memory: Arc<GuestMemory>, len: u64, quota: Option<Arc<dyn Quota>>) -> Arc<Self> {
        Self::build(memory, None, quota, true, len)
    }

    /// The cache of an object of `len` bytes with a source.
    pub(crate) fn new(
        caches: &Arc<PageCaches>,
        memory: Arc<GuestMemory>,
        bytes: Box<dyn PageSource>,
        len: u64,
    ) -> Arc<Self> {
        Self::build(memory, Some(Source { bytes, caches: caches.clone() }), None, false, len)
    }

    fn build(
        memory: Arc<GuestMemory>,
        source: Option<Source>,
        quota: Option<Arc<dyn Quota>>,
        lasting: bool,
        len: u64,
    ) -> Arc<Self> {
        let state = State {
            len,
            extents: BTreeMap::new(),
            mappings: Vec::new(),
            pages: 0,
            writable_areas: 0,
            sealed: false,
            stored: None,
        };
        let state = Mutex::new(Rank::PageCache, state);
        let cache = Arc::new(PageCache { memory, source, quota, lasting, state, used: AtomicU64::new(0) });
        if let Some(source) = &cache.source {
            source.caches.register(&cache);
        }
        cache
    }

    /// The time of the last store through a shared VMA since the last call. Not recorded for objects with a source,
    /// which is informed of stores.
    pub(crate) fn take_store_time(&self) -> Option<Timespec> {
        self.state.lock().stored.take()
    }

    /// Evicts all pages that can be read again. Dirty ones are written back first. Returns the number of bytes.
    pub(crate) fn evict(&self) -> u64 {
        if self.source.is_none() {
            return 0;
        }
        // Pages that cannot be written back stay dirty, and are kept.
        let _ = self.write_changed(0..u64::MAX);
        let (mappings, gone) = {
            let mut state = self.state.lock();
            let clean = state.clean();
            let gone: Vec<Frames> = clean.into_iter().flat_map(|part| self.forget(&mut state, part)).collect();
            (if gone.is_empty() { Vec::new() } else { state.mapping_list() }, gone)
        };
        for mapping in mappings {
            mapping.invalidate(self, 0, u64::MAX, false);
        }
        gone.iter().map(|frames| frames.range().len).sum()
    }

    /// Refuses new shared VMAs that may be stored to (memfd seals).
    ///
    /// # Errors
    /// `EBUSY` if there is one and `even_now` is set (`F_SEAL_WRITE`).
    pub(crate) fn seal_stores(&self, even_now: bool) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if even_now && state.writable_areas > 0 {
            return Err(Errno::EBUSY.here());
        }
        state.sealed = true;
        Ok(())
    }

    /// Bytes in present pages: `st_blocks` of an object in memory.
    pub(crate) fn present_bytes(&self) -> u64 {
        self.state.lock().pages * PAGE_SIZE
    }

    /// Reads up to the end of the object. Returns the number of bytes.
    ///
    /// # Errors
    /// Those of the source.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let want = (buf.len() as u64).min(state.len.saturating_sub(offset)) as usize;
        let mut done = 0;
        while done < want {
            let at = offset + done as u64;
            let page = at & !(PAGE_SIZE - 1);
            if self.source.is_some() && !state.is_present(page) {
                self.fill(&mut state, page)?;
            }
            let (place, run) = state.run(at, want as u64 - done as u64);
            let part = buf.get_mut(done..done + run as usize).ok_or_else(|| Errno::EIO.here())?;
            match place {
                Some(place) => self.memory.read(place, part),
                None => part.fill(0),
            }
            done += run as usize;
        }
        Ok(done)
    }

    /// Writes, and extends the object if necessary. Returns the number of bytes.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM` or those of the source, if nothing was written.
    pub(crate) fn write(&self, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let end = offset.checked_add(buf.len() as u64).ok_or_else(|| Errno::EFBIG.here())?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let page = at & !(PAGE_SIZE - 1);
            // The rest of a page that is not written whole comes from the source.
            let whole = at == page && end >= page + PAGE_SIZE;
            let ready = if self.source.is_some() && !whole && page < state.len {
                if state.is_present(page) { Ok(()) } else { self.fill(&mut state, page) }
            } else {
                self.make_present(&mut state, page)
            };
            if let Err(errno) = ready {
                if done == 0 {
                    return Err(errno);
                }
                break;
            }
            let len = (page + PAGE_SIZE - at).min((buf.len() - done) as u64);
            let (Some(place), _) = state.run(at, len) else { return Err(Errno::EIO.here()) };
            let part = buf.get(done..done + len as usize).ok_or_else(|| Errno::EIO.here())?;
            self.memory.write(place, part);
            state.mark_dirty(page, self.source.is_some());
            done += len as usize;
        }
        state.len = state.len.max(offset + done as u64);
        Ok(done)
    }

    /// Allocates zeroed frames for a page, and marks it present.
    fn make_present(&self, state: &mut State, page: u64) -> Result<(), Errno> {
        if state.claim(page) {
            return Ok(());
        }
        self.extent_for(state, page)?;
        if let Some(quota) = &self.quota {
            quota.take(PAGE_SIZE)?;
        }
        state.set_present(page);
        Ok(())
    }

    /// Reads the block around a page from the source.
    fn fill(&self, state: &mut State, page: u64) -> Result<(), Errno> {
        let Some(source) = &self.source else { return self.make_present(state, page) };
        self.used.store(source.caches.tick(), Ordering::Relaxed);
        self.extent_for(state, page)?;
        let Some((start, extent)) = state.extent(page) else { return Err(Errno::ENOMEM.here()) };
        let limit = (start + extent.len()).min(state.len.next_multiple_of(PAGE_SIZE)).max(page + PAGE_SIZE);
        let ahead = if state.len <= SMALL_SOURCE { SMALL_READ_AHEAD } else { READ_AHEAD };
        let block = page & !(ahead - 1);
        let mut from = page;
        while from > start.max(block) && !extent.present.get((from - PAGE_SIZE - start) / PAGE_SIZE) {
            from -= PAGE_SIZE;
        }
        let mut to = page + PAGE_SIZE;
        while to < limit.min(block + ahead) && !extent.present.get((to - start) / PAGE_SIZE) {
            to += PAGE_SIZE;
        }
        let place = extent.frames.range().start + (from - start);
        let got = source.bytes.read(&self.memory, place, from, to - from)?;
        // If the source ends early, the rest is zero, as fresh frames are.
        let _ = got;
        for page in (from..to).step_by(PAGE_SIZE as usize) {
            state.set_present(page);
        }
        Ok(())
    }

    /// Allocates an extent for a page, if there is none.
    fn extent_for(&self, state: &mut State, page: u64) -> Result<(), Errno> {
        if state.extent(page).is_some() {
            return Ok(());
        }
        if self.lasting {
            self.memory.admit_lasting(PAGE_SIZE)?;
        }
        let small = page < LARGE_FROM && self.source.is_none() && state.len < LARGE_FROM;
        let size = if small { SMALL_EXTENT } else { LARGE_EXTENT };
        let before = state.extents.range(..page).next_back().map(|(start, extent)| (start + extent.len(), extent));
        let low = (page & !(size - 1)).max(before.as_ref().map_or(0, |(end, _)| *end));
        let after = state.extents.range(page..).next().map_or(u64::MAX, |(&start, _)| start);
        let mut high = (page & !(size - 1)).saturating_add(size).min(after);
        if self.source.is_some() {
            high = high.min(state.len.next_multiple_of(PAGE_SIZE).max(page + PAGE_SIZE));
        }
        let hint = before.filter(|(end, _)| *end == low).map_or(u64::MAX, |(_, extent)| extent.frames.range().end());
        let wide = self.memory.allocate_near(high - low, hint).map(|frames| (low, frames));
        let narrow = || self.memory.allocate(PAGE_SIZE, PAGE_SIZE).map(|frames| (page, frames));
        let (start, frames) = wide.or_else(|_| narrow()).map_err(|_| Errno::ENOMEM.here())?;
        if let Some(source) = &self.source {
            source.caches.note_taken(frames.range().len, self.memory.limit());
        }
        state.extents.insert(start, Extent::new(frames));
        Ok(())
    }

    /// Sets the length. Truncated pages are unmapped from all address spaces; if the object grows again, they read as
    /// zero.
    pub(crate) fn set_len(&self, len: u64) {
        let (mappings, shrunk, gone) = {
            let mut state = self.state.lock();
            let old = std::mem::replace(&mut state.len, len);
            if len >= old {
                return;
            }
            let edge = len.next_multiple_of(PAGE_SIZE);
            let gone = self.forget(&mut state, edge..u64::MAX);
            self.zero_part(&mut state, len..edge);
            (state.mapping_list(), edge, gone)
        };
        for mapping in mappings {
            mapping.invalidate(self, shrunk, u64::MAX - shrunk, true);
        }
        drop(gone);
    }

    /// Frees the pages of a range, which then reads as zero. The length does not change.
    pub(crate) fn remove_range(&self, range: Range<u64>) {
        let first = range.start.next_multiple_of(PAGE_SIZE);
        let last = range.end & !(PAGE_SIZE - 1);
        let (mappings, gone) = {
            let mut state = self.state.lock();
            if first > last {
                self.zero_part(&mut state, range);
                return;
            }
            self.zero_part(&mut state, range.start..first.min(range.end));
            self.zero_part(&mut state, last.max(range.start)..range.end);
            let gone = self.forget(&mut state, first..last);
            (state.mapping_list(), gone)
        };
        for mapping in mappings {
            mapping.invalidate(self, first, last - first, false);
        }
        drop(gone);
    }

    /// Drops everything cached, because the source has changed; `len` is its new length.
    pub(crate) fn reload(&self, len: u64) {
        let (mappings, gone) = {
            let mut state = self.state.lock();
            state.len = len;
            (state.mapping_list(), self.forget(&mut state, 0..u64::MAX))
        };
        for mapping in mappings {
            mapping.invalidate(self, 0, u64::MAX, false);
        }
        drop(gone);
    }

    /// Makes the first pages of a range present (fallocate(2)), as many as one step allows, without changing the
    /// length. Returns their end, and adds those that were not present to `made`.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM`; the caller releases `made`.
    pub(crate) fn reserve_some(&self, range: Range<u64>, made: &mut Vec<Range<u64>>) -> Result<u64, Errno> {
        let mut state = self.state.lock();
        let first = range.start & !(PAGE_SIZE - 1);
        let end = range.end.min(first.saturating_add(STEP));
        let before = made.len();
        for page in (first..end).step_by(PAGE_SIZE as usize) {
            if !state.claim(page) {
                self.make_present(&mut state, page)?;
                state.set_reserved(page);
                push_page(made, page);
            }
        }
        // As on Linux, the memory is allocated and charged now.
        let new = made.get(before.saturating_sub(1)..).unwrap_or_default();
        for part in new.iter().map(|part| part.start.max(first)..part.end) {
            let mut at = part.start;
            while at < part.end {
                let (Some(place), len) = state.run(at, part.end - at) else { return Err(Errno::EIO.here()) };
                self.memory.admit_lasting(len)?;
                self.memory.commit(FrameRange { start: place, len })?;
                at += len;
            }
        }
        Ok(end)
    }

    /// Releases what [`reserve_some`](Self::reserve_some) made and has not been used since.
    pub(crate) fn release_reserved(&self, made: Vec<Range<u64>>) {
        for part in made {
            for start in part.clone().step_by(STEP as usize) {
                let mut state = self.state.lock();
                let untouched = state.reserved(&(start..part.end.min(start.saturating_add(STEP))));
                // Reserved pages are not mapped anywhere.
                let gone: Vec<Frames> = untouched.into_iter().flat_map(|part| self.forget(&mut state, part)).collect();
                drop(state);
                drop(gone);
            }
        }
    }

    /// The next offset of data, or with `hole` of a hole, from `offset` on; none past the end (lseek(2) `SEEK_DATA`).
    /// For objects in memory.
    pub(crate) fn seek_data(&self, offset: u64, hole: bool) -> Option<u64> {
        let state = self.state.lock();
        if offset >= state.len {
            return None;
        }
        let mut at = offset;
        while at < state.len {
            let page = at & !(PAGE_SIZE - 1);
            let Some((start, extent)) = state.extent(page) else {
                if hole {
                    return Some(at);
                }
                at = state.extents.range(page..).next().map_or(state.len, |(&start, _)| start);
                continue;
            };
            let pages = extent.len() / PAGE_SIZE;
            let found = extent.present.find((page - start) / PAGE_SIZE, pages, !hole);
            at = at.max(start + found * PAGE_SIZE);
            if found < pages && at < state.len {
                return Some(at);
            }
        }
        hole.then_some(state.len)
    }

    /// Zeroes a range within one page, if the page is present.
    fn zero_part(&self, state: &mut State, range: Range<u64>) {
        if range.start < range.end && state.is_present(range.start & !(PAGE_SIZE - 1)) {
            if let (Some(place), len) = state.run(range.start, range.end - range.start) {
                self.memory.zero(place, len);
            }
            state.mark_dirty(range.start & !(PAGE_SIZE - 1), self.source.is_some());
        }
    }

    /// Removes the pages of a page-aligned range. The caller drops their frames when no guest can reach them.
    fn forget(&self, state: &mut State, range: Range<u64>) -> Vec<Frames> {
        let before = state.pages;
        let gone = state.cut(range);
        if let Some(source) = &self.source {
            source.caches.note_given_back(gone.iter().map(|frames| frames.range().len).sum());
        }
        if let Some(quota) = &self.quota {
            quota.give_back((before - state.pages) * PAGE_SIZE);
        }
        gone
    }

    /// Writes dirty pages to the source. Later stores through shared VMAs mark pages dirty again.
    fn write_changed(&self, range: Range<u64>) -> Result<(), Errno> {
        let Some(source) = &self.source else { return Ok(()) };
        let page_range = (range.start & !(PAGE_SIZE - 1))..range.end;
        let (changed, mappings) = {
            let mut state = self.state.lock();
            (state.take_dirty(&page_range), state.mapping_list())
        };
        // Earlier stores are in the frames; later ones fault and mark the page again. Each invalidation costs time
        // linear in the VMAs, so very many parts are invalidated as one range.
        let step = if changed.len() > FEW_PARTS { changed.len() } else { 1 };
        for parts in changed.chunks(step) {
            let (Some(first), Some(last)) = (parts.first(), parts.last()) else { continue };
            for mapping in &mappings {
                mapping.invalidate(self, first.start, last.end - first.start, false);
            }
        }
        let mut result = Ok(());
        for part in changed {
            for start in part.clone().step_by(STEP as usize) {
                let end = part.end.min(start.saturating_add(STEP));
                let written = self.write_out(&mut self.state.lock(), &*source.bytes, start..end);
                result = result.and(written);
            }
        }
        result
    }

    /// Writes present pages to the source, dirty or not.
    fn write_out(&self, state: &mut State, source: &dyn PageSource, part: Range<u64>) -> Result<(), Errno> {
        let mut result = Ok(());
        let end = part.end.min(state.len);
        let mut at = part.start;
        while at < end {
            let (place, run) = state.run(at, end - at);
            if let Some(place) = place
                && let Err(errno) = source.write(&self.memory, place, at, run)
            {
                // The next write-back tries again.
                for page in ((at & !(PAGE_SIZE - 1))..at + run).step_by(PAGE_SIZE as usize) {
                    state.mark_dirty(page, true);
                }
                result = Err(errno);
            }
            at += run;
        }
        result
    }
}

impl Mappable for PageCache {
    fn frames(&self, offset: u64, most: u64, write: bool) -> Result<Frames, Errno> {
        let mut state = self.state.lock();
        if offset >= state.len {
            return Err(Errno::EFAULT.here());
        }
        let last = state.len.next_multiple_of(PAGE_SIZE);
        if !state.is_present(offset) {
            self.fill(&mut state, offset)?;
            if self.source.is_none() {
                // Neighbouring pages become present too: without a quota, as many as requested.
                let along = if self.quota.is_some() { most.min(SMALL_EXTENT) } else { most };
                let end = state.extent(offset).map_or(offset, |(start, extent)| start + extent.len());
                let end = end.min(offset.saturating_add(along)).min(last);
                for page in (offset + PAGE_SIZE..end).step_by(PAGE_SIZE as usize) {
                    if self.make_present(&mut state, page).is_err() {
                        break;
                    }
                }
            }
        }
        let mut end = offset + PAGE_SIZE;
        let limit = offset.saturating_add(most).min(last);
        let (start, extent) = state.extent(offset).ok_or_else(|| Errno::ENOMEM.here())?;
        let extent_end = start + extent.len();
        while end < limit.min(extent_end) && extent.present.get((end - start) / PAGE_SIZE) {
            end += PAGE_SIZE;
        }
        let frames = extent.frames.part(offset - start, end - offset);
        state.claim_all(offset..end);
        if write && self.source.is_none() && self.quota.is_some() {
            state.stored = Some(crate::vfs::now());
        }
        if write && self.source.is_some() {
            for page in (offset..end).step_by(PAGE_SIZE as usize) {
                state.mark_dirty(page, true);
            }
        }
        Ok(frames)
    }

    fn is_write_noticed(&self) -> bool {
        self.source.is_some()
    }

    fn len(&self) -> u64 {
        self.state.lock().len
    }

    fn attach(&self, mapping: Arc<dyn Mapping>) {
        let mut state = self.state.lock();
        match state.mappings.iter_mut().find(|(known, _)| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(&mapping)))
        {
            Some((_, count)) => *count += 1,
            None => state.mappings.push((mapping, 1)),
        }
    }

    fn detach(&self, mapping: &Arc<dyn Mapping>) {
        let mut state = self.state.lock();
        let known =
            |(known, _): &(Arc<dyn Mapping>, usize)| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(mapping));
        if let Some(at) = state.mappings.iter().position(known)
            && let Some((_, count)) = state.mappings.get_mut(at)
        {
            *count -= 1;
            if *count == 0 {
                state.mappings.swap_remove(at);
            }
        }
    }

    fn attach_writable(&self, inherited: bool) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.sealed && !inherited {
            return Err(Errno::EPERM.here());
        }
        state.writable_areas += 1;
        Ok(())
    }

    fn detach_writable(&self) {
        self.state.lock().writable_areas -= 1;
    }

    fn write_back(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.write_changed(offset..offset.saturating_add(len))
    }

    fn is_resident(&self, offset: u64) -> bool {
        self.state.lock().is_present(offset & !(PAGE_SIZE - 1))
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<(), Errno> {
        if self.source.is_some() {
            return Err(Errno::EOPNOTSUPP.here());
        }
        self.remove_range(offset..offset.saturating_add(len));
        Ok(())
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            source.caches.note_given_back(self.state.lock().extents.values().map(Extent::len).sum());
        }
        if let Some(quota) = &self.quota {
            quota.give_back(self.state.lock().pages * PAGE_SIZE);
        }
    }
}
