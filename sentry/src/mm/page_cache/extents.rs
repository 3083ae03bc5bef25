//! The pages of an object, and their frames.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use amber_abi::time::Timespec;
use amber_platform::{Frames, PAGE_SIZE};

use crate::mm::Mapping;

/// One bit for each page of an extent.
#[derive(Clone, Default)]
pub(super) struct PageBits(Vec<u64>);

impl PageBits {
    pub(super) fn get(&self, page: u64) -> bool {
        self.0.get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 != 0)
    }

    fn set(&mut self, page: u64, value: bool) {
        let at = (page / 64) as usize;
        if value && at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word = if value { *word | 1 << (page % 64) } else { *word & !(1 << (page % 64)) };
        }
    }

    /// The first page of `from..to` whose bit is `value`, or `to`.
    pub(super) fn find(&self, from: u64, to: u64, value: bool) -> u64 {
        let mut page = from;
        while page < to {
            let word = self.0.get((page / 64) as usize).copied().unwrap_or(0);
            let alike = (if value { word } else { !word }) >> (page % 64);
            if alike != 0 {
                return to.min(page + u64::from(alike.trailing_zeros()));
            }
            page = (page / 64 + 1) * 64;
        }
        to
    }

    fn any(&self) -> bool {
        self.0.iter().any(|&word| word != 0)
    }
}

/// Frames for a range of the object.
pub(super) struct Extent {
    pub(super) frames: Frames,
    /// Pages that hold the object's bytes. The others are holes, or not read yet.
    pub(super) present: PageBits,
    /// Pages changed since they were read or written back.
    dirty: PageBits,
    /// Pages that fallocate(2) has reserved and that were not used since: not stored to, and not mapped.
    reserved: PageBits,
}

impl Extent {
    pub(super) fn new(frames: Frames) -> Self {
        Extent { frames, present: PageBits::default(), dirty: PageBits::default(), reserved: PageBits::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.frames.range().len
    }
}

/// Appends a page to a list of ranges in ascending order.
pub(super) fn push_page(parts: &mut Vec<Range<u64>>, page: u64) {
    match parts.last_mut() {
        Some(last) if last.end == page => last.end += PAGE_SIZE,
        _ => parts.push(page..page + PAGE_SIZE),
    }
}

/// The state behind the lock of a cache.
pub(super) struct State {
    pub(super) len: u64,
    /// By offset. Extents do not overlap and are page aligned.
    pub(super) extents: BTreeMap<u64, Extent>,
    /// Address spaces that map the object, with the number of their VMAs.
    pub(super) mappings: Vec<(Arc<dyn Mapping>, usize)>,
    /// Number of present pages.
    pub(super) pages: u64,
    /// Number of shared VMAs that may be stored to.
    pub(super) writable_areas: usize,
    /// No such VMA can be added any more.
    pub(super) sealed: bool,
    /// Time of the last store through a shared VMA, until it is read.
    pub(super) stored: Option<Timespec>,
}

impl State {
    /// The extent that contains an offset, with its start.
    pub(super) fn extent(&self, offset: u64) -> Option<(u64, &Extent)> {
        let (&start, extent) = self.extents.range(..=offset).next_back()?;
        (offset - start < extent.len()).then_some((start, extent))
    }

    fn extent_mut(&mut self, offset: u64) -> Option<(u64, &mut Extent)> {
        let (&start, extent) = self.extents.range_mut(..=offset).next_back()?;
        (offset - start < extent.len()).then_some((start, extent))
    }

    pub(super) fn is_present(&self, page: u64) -> bool {
        self.extent(page).is_some_and(|(start, extent)| extent.present.get((page - start) / PAGE_SIZE))
    }

    /// Whether a page is present. A present page is no longer only reserved.
    pub(super) fn claim(&mut self, page: u64) -> bool {
        let Some((start, extent)) = self.extent_mut(page) else { return false };
        let at = (page - start) / PAGE_SIZE;
        extent.reserved.set(at, false);
        extent.present.get(at)
    }

    /// Marks the pages of a range in one extent as no longer only reserved.
    pub(super) fn claim_all(&mut self, range: Range<u64>) {
        if let Some((start, extent)) = self.extent_mut(range.start)
            && extent.reserved.any()
        {
            for at in range.step_by(PAGE_SIZE as usize) {
                extent.reserved.set((at - start) / PAGE_SIZE, false);
            }
        }
    }

    /// Marks a present page as only reserved.
    pub(super) fn set_reserved(&mut self, page: u64) {
        if let Some((start, extent)) = self.extent_mut(page) {
            extent.reserved.set((page - start) / PAGE_SIZE, true);
        }
    }

    /// The parts of a range that are only reserved.
    pub(super) fn reserved(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let first = self.extent(range.start).map_or(range.start, |(start, _)| start);
        let mut parts: Vec<Range<u64>> = Vec::new();
        for (&start, extent) in self.extents.range(first..range.end).filter(|(_, extent)| extent.reserved.any()) {
            let from = range.start.max(start);
            for at in (from..range.end.min(start + extent.len())).step_by(PAGE_SIZE as usize) {
                if extent.reserved.get((at - start) / PAGE_SIZE) {
                    push_page(&mut parts, at);
                }
            }
        }
        parts
    }

    pub(super) fn set_present(&mut self, page: u64) {
        if let Some((start, extent)) = self.extent_mut(page)
            && !extent.present.get((page - start) / PAGE_SIZE)
        {
            extent.present.set((page - start) / PAGE_SIZE, true);
            self.pages += 1;
        }
    }

    pub(super) fn mark_dirty(&mut self, page: u64, tracked: bool) {
        if tracked && let Some((start, extent)) = self.extent_mut(page) {
            extent.dirty.set((page - start) / PAGE_SIZE, true);
        }
    }

    /// The frame offset of the bytes from `at` on, or none for a hole, and the number of contiguous bytes of that kind,
    /// at most `most`.
    pub(super) fn run(&self, at: u64, most: u64) -> (Option<u64>, u64) {
        let page = at & !(PAGE_SIZE - 1);
        let present = self.is_present(page);
        let mut end = page + PAGE_SIZE;
        let extent_end = self.extent(page).map_or(end, |(start, extent)| start + extent.len());
        while end < at.saturating_add(most).min(extent_end) && self.is_present(end) == present {
            end += PAGE_SIZE;
        }
        let len = most.min(end - at);
        let place = self.extent(page).filter(|_| present);
        (place.map(|(start, extent)| extent.frames.range().start + (at - start)), len)
    }

    pub(super) fn mapping_list(&self) -> Vec<Arc<dyn Mapping>> {
        self.mappings.iter().map(|(mapping, _)| mapping.clone()).collect()
    }

    /// Removes a page-aligned range and returns its frames.
    pub(super) fn cut(&mut self, range: Range<u64>) -> Vec<Frames> {
        let first = self.extent(range.start).map_or(range.start, |(start, _)| start);
        let starts: Vec<u64> = self.extents.range(first..range.end).map(|(&start, _)| start).collect();
        let mut gone = Vec::new();
        for start in starts {
            let Some(extent) = self.extents.remove(&start) else { continue };
            let Extent { frames, present, dirty, reserved } = extent;
            let bits = [&present, &dirty, &reserved];
            let (mut rest, mut at) = (frames, start);
            let end = at + rest.range().len;
            if at < range.start {
                let (head, tail) = rest.split_at(range.start - at);
                self.keep(start, start, head, bits);
                (rest, at) = (tail, range.start);
            }
            if end > range.end {
                let (middle, tail) = rest.split_at(range.end - at);
                self.keep(start, range.end, tail, bits);
                rest = middle;
            }
            let from = (at - start) / PAGE_SIZE;
            let count = rest.range().len / PAGE_SIZE;
            self.pages -= (from..from + count).filter(|&page| present.get(page)).count() as u64;
            gone.push(rest);
        }
        gone
    }

    /// Puts back a part of an extent that began at `origin`.
    fn keep(&mut self, origin: u64, at: u64, frames: Frames, [present, dirty, reserved]: [&PageBits; 3]) {
        let shift = (at - origin) / PAGE_SIZE;
        let mut part = Extent::new(frames);
        for page in 0..part.len() / PAGE_SIZE {
            part.present.set(page, present.get(page + shift));
            part.dirty.set(page, dirty.get(page + shift));
            part.reserved.set(page, reserved.get(page + shift));
        }
        self.extents.insert(at, part);
    }

    /// The dirty parts of a range, which are clean afterwards.
    pub(super) fn take_dirty(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        let first = self.extent(range.start).map_or(range.start, |(start, _)| start);
        for (&start, extent) in self.extents.range_mut(first..range.end.max(first)) {
            if !extent.dirty.any() {
                continue;
            }
            for page in 0..extent.len() / PAGE_SIZE {
                let at = start + page * PAGE_SIZE;
                if range.contains(&at) && extent.dirty.get(page) {
                    extent.dirty.set(page, false);
                    push_page(&mut parts, at);
                }
            }
        }
        parts
    }

    /// The clean parts: whole extents without dirty pages, and the clean pages of others.
    pub(super) fn clean(&self) -> Vec<Range<u64>> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        for (&start, extent) in &self.extents {
            if !extent.dirty.any() {
                parts.push(start..start + extent.len());
                continue;
            }
            for page in (0..extent.len() / PAGE_SIZE).filter(|&page| !extent.dirty.get(page)) {
                let at = start + page * PAGE_SIZE;
                push_page(&mut parts, at);
            }
        }
        parts
    }
}
