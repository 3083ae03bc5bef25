//! VMAs: ranges of an address space with one protection, one set of flags and one backing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::{PAGE_SIZE, Protection};
use bitflags::bitflags;

use super::gaps::Gaps;
use super::{Mappable, Mapping};
use crate::vfs::FileDescription;

mod objects;

use objects::ShownObjects;

bitflags! {
    /// Flags of a VMA.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VmaFlags: u32 {
        /// Stores go to the object, and all its mappings see them.
        const SHARED = 1 << 0;
        /// The VMA grows down when an address below its start is accessed.
        const GROWS_DOWN = 1 << 1;
        /// The pages count as locked (mlock(2)).
        const LOCKED = 1 << 2;
        /// Locked pages are populated at the first access (`MLOCK_ONFAULT`).
        const LOCK_ON_FAULT = 1 << 3;
        /// Not copied to a forked child (`MADV_DONTFORK`).
        const DONT_FORK = 1 << 4;
        /// Zeroed in a forked child (`MADV_WIPEONFORK`).
        const WIPE_ON_FORK = 1 << 5;
        /// Not in core dumps (`MADV_DONTDUMP`).
        const DONT_DUMP = 1 << 6;
        /// `MADV_HUGEPAGE`.
        const HUGE_PAGES = 1 << 7;
        /// `MADV_NOHUGEPAGE`.
        const NO_HUGE_PAGES = 1 << 8;
        /// `MADV_RANDOM`.
        const RANDOM_ACCESS = 1 << 9;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL_ACCESS = 1 << 10;
        /// `MADV_MERGEABLE` (KSM).
        const MERGEABLE = 1 << 11;
        /// Not counted for overcommit (`MAP_NORESERVE`).
        const NO_RESERVE = 1 << 12;
        /// Sealed against changes (mseal(2)).
        const SEALED = 1 << 13;
        /// mprotect(2) may allow loads.
        const MAY_READ = 1 << 14;
        /// mprotect(2) may allow stores.
        const MAY_WRITE = 1 << 15;
        /// mprotect(2) may allow execution.
        const MAY_EXECUTE = 1 << 16;
        /// Mapped by the kernel, such as the vDSO; cannot be resized.
        const SPECIAL = 1 << 17;
    }
}

impl VmaFlags {
    /// All protections that mprotect(2) can set.
    pub(crate) const MAY_ALL: VmaFlags = VmaFlags::MAY_READ.union(VmaFlags::MAY_WRITE).union(VmaFlags::MAY_EXECUTE);
}

/// The registration of an address space at an object that it maps. Ends when dropped.
pub(crate) struct ObjectArea {
    /// The object.
    pub object: Arc<dyn Mappable>,
    /// The open file it was mapped from.
    pub file: Option<Arc<FileDescription>>,
    /// The name in `/proc/PID/maps` of an object that is not a file, such as `[vdso]`.
    pub label: &'static str,
    link: Arc<dyn Mapping>,
    /// Whether the object counts it as a mapping that may be stored to.
    writable: bool,
}

impl ObjectArea {
    /// Registers an address space, by its `link`, at an object; `writable` is for shared VMAs that may be stored to.
    ///
    /// # Errors
    /// `EPERM` if the object is sealed against stores.
    pub(crate) fn new(
        object: Arc<dyn Mappable>,
        file: Option<Arc<FileDescription>>,
        label: &'static str,
        link: Arc<dyn Mapping>,
        writable: bool,
    ) -> Result<Arc<Self>, Errno> {
        if writable {
            object.attach_writable(false)?;
        }
        object.attach(link.clone());
        Ok(Arc::new(ObjectArea { object, file, label, link, writable }))
    }

    /// The registration of a forked child's address space at the same object.
    ///
    /// # Errors
    /// Those of [`Mappable::attach_writable`].
    pub(crate) fn for_child(&self, link: Arc<dyn Mapping>) -> Result<Arc<Self>, Errno> {
        if self.writable {
            self.object.attach_writable(true)?;
        }
        self.object.attach(link.clone());
        let (object, file) = (self.object.clone(), self.file.clone());
        Ok(Arc::new(ObjectArea { object, file, label: self.label, link, writable: self.writable }))
    }

    fn is_same(&self, other: &ObjectArea) -> bool {
        let same_file = match (&self.file, &other.file) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same_file
            && self.writable == other.writable
            && std::ptr::addr_eq(Arc::as_ptr(&self.object), Arc::as_ptr(&other.object))
    }
}

impl Drop for ObjectArea {
    fn drop(&mut self) {
        self.object.detach(&self.link);
        if self.writable {
            self.object.detach_writable();
        }
    }
}

/// The backing of a VMA.
#[derive(Clone)]
pub(crate) enum Backing {
    /// Zeroed memory.
    Anonymous,
    /// The pages of an object.
    Object(Arc<ObjectArea>),
}

/// A virtual memory area (VMA).
#[derive(Clone)]
pub(crate) struct Vma {
    /// First address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// The protection.
    pub protection: Protection,
    /// The flags.
    pub flags: VmaFlags,
    /// The backing.
    pub backing: Backing,
    /// Offset of `start` in the object in bytes; 0 for anonymous VMAs.
    pub offset: u64,
    /// The name set by prctl(2) `PR_SET_VMA_ANON_NAME`.
    pub name: Option<Arc<str>>,
}

impl Vma {
    /// Length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.end - self.start
    }

    /// The address range.
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether other mappings of the object see stores.
    pub(crate) fn is_shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }

    /// The mapped object.
    pub(crate) fn object(&self) -> Option<&Arc<ObjectArea>> {
        match &self.backing {
            Backing::Anonymous => None,
            Backing::Object(area) => Some(area),
        }
    }

    /// The part of a range that lies in the VMA.
    pub(crate) fn clip(&self, range: &Range<u64>) -> Range<u64> {
        self.start.max(range.start)..self.end.min(range.end)
    }

    /// Offset in the object of an address in the VMA.
    pub(crate) fn offset_of(&self, address: u64) -> u64 {
        self.offset.wrapping_add(address - self.start)
    }

    /// Whether the VMA counts for `RLIMIT_DATA`: private, writable and not a stack.
    pub(crate) fn is_data(&self) -> bool {
        self.is_data_with(self.protection)
    }

    /// Whether it would count for `RLIMIT_DATA` with this protection.
    pub(crate) fn is_data_with(&self, protection: Protection) -> bool {
        protection.write && !self.flags.intersects(VmaFlags::SHARED | VmaFlags::GROWS_DOWN)
    }

    /// The lowest address that the VMA reserves. Stacks reserve a gap below their start.
    pub(crate) fn guarded_start(&self) -> u64 {
        if self.flags.contains(VmaFlags::GROWS_DOWN) { self.start.saturating_sub(STACK_GUARD_GAP) } else { self.start }
    }

    fn split_off(&mut self, at: u64) -> Vma {
        let mut tail = self.clone();
        tail.start = at;
        if matches!(tail.backing, Backing::Object(_)) {
            tail.offset = self.offset_of(at);
        }
        self.end = at;
        tail
    }

    fn joins(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.protection == next.protection
            && self.flags == next.flags
            && !self.flags.contains(VmaFlags::SPECIAL)
            && self.name == next.name
            && match (&self.backing, &next.backing) {
                (Backing::Anonymous, Backing::Anonymous) => true,
                (Backing::Object(a), Backing::Object(b)) => a.is_same(b) && self.offset_of(self.end) == next.offset,
                _ => false,
            }
    }
}

/// Minimum distance between a stack and the VMA below, as on Linux.
pub(crate) const STACK_GUARD_GAP: u64 = 256 * PAGE_SIZE;

/// With this many VMAs, gaps are found by an index.
const MANY: usize = 256;

/// Number of VMAs walked before the index is used.
const NEAR: usize = 32;

/// Sums over VMAs in bytes. They are updated by each change, so that no check of a limit walks the VMAs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// All VMAs (`RLIMIT_AS`).
    pub all: u64,
    /// VMAs that count for `RLIMIT_DATA`.
    pub data: u64,
    /// Locked VMAs (`RLIMIT_MEMLOCK`).
    pub locked: u64,
}

impl Sums {
    fn of(vma: &Vma) -> Self {
        let if_so = |counts| if counts { vma.size() } else { 0 };
        Sums { all: vma.size(), data: if_so(vma.is_data()), locked: if_so(vma.flags.contains(VmaFlags::LOCKED)) }
    }

    fn add(&mut self, vma: &Vma) {
        let of = Sums::of(vma);
        self.all += of.all;
        self.data += of.data;
        self.locked += of.locked;
    }

    fn subtract(&mut self, vma: &Vma) {
        let of = Sums::of(vma);
        self.all -= of.all;
        self.data -= of.data;
        self.locked -= of.locked;
    }
}

/// The VMAs of an address space. They do not overlap.
#[derive(Default)]
pub(crate) struct VmaMap {
    areas: BTreeMap<u64, Vma>,
    sums: Sums,
    /// The gaps between them, if there are many VMAs.
    gaps: Option<Box<Gaps>>,
    objects: ShownObjects,
}

impl VmaMap {
    /// The number of VMAs.
    pub(crate) fn count(&self) -> usize {
        self.areas.len()
    }

    /// Sums over the VMAs, in bytes.
    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    /// All VMAs by address.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.areas.values()
    }

    /// The VMA that contains an address.
    pub(crate) fn find(&self, address: u64) -> Option<&Vma> {
        self.areas.range(..=address).next_back().map(|(_, vma)| vma).filter(|vma| vma.end > address)
    }

    /// The first VMA that ends above an address.
    pub(crate) fn find_from(&self, address: u64) -> Option<&Vma> {
        self.find(address).or_else(|| self.areas.range(address..).next().map(|(_, vma)| vma))
    }

    /// The last VMA that starts below an address.
    pub(crate) fn find_below(&self, address: u64) -> Option<&Vma> {
        self.areas.range(..address).next_back().map(|(_, vma)| vma)
    }

    /// The VMAs that overlap a range.
    pub(crate) fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Vma> {
        let first = self.find(range.start).map_or(range.start, |vma| vma.start);
        self.areas.range(first..range.end.max(first)).map(|(_, vma)| vma)
    }

    /// Whether VMAs cover the whole range.
    pub(crate) fn covers(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        for vma in self.overlapping(range.clone()) {
            if vma.start > at {
                return false;
            }
            at = vma.end;
        }
        at >= range.end
    }

    /// Adds a VMA in a free range.
    pub(crate) fn insert(&mut self, vma: Vma) {
        self.sums.add(&vma);
        self.objects.note(&vma);
        self.reshape(vma.range(), |areas| areas.insert(vma.start, vma));
    }

    /// Changes which addresses of a range are covered, and updates the gaps. No VMA may cross an end of the range.
    fn reshape<T>(&mut self, range: Range<u64>, change: impl FnOnce(&mut BTreeMap<u64, Vma>) -> T) -> T {
        let Some(mut gaps) = self.gaps.take() else {
            let result = change(&mut self.areas);
            if self.areas.len() >= MANY {
                let mut gaps = Box::new(Gaps::new());
                self.gaps_around(&(0..u64::MAX)).for_each(|gap| gaps.note(gap));
                self.gaps = Some(gaps);
            }
            return result;
        };
        self.gaps_around(&range).for_each(|gap| gaps.forget(gap));
        let result = change(&mut self.areas);
        self.gaps_around(&range).for_each(|gap| gaps.note(gap));
        self.gaps = Some(gaps);
        result
    }

    /// The gaps in a range and next to it.
    fn gaps_around(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut floor = self.find_below(range.start).map_or(0, |vma| vma.end);
        let inside = self.areas.range(range.clone()).chain(self.areas.range(range.end..).take(1));
        let starts = inside.map(|(_, vma)| (vma.guarded_start(), vma.end));
        let last = self.areas.range(range.end..).next().is_none().then_some((u64::MAX, u64::MAX));
        starts.chain(last).map(move |(ceiling, end)| std::mem::replace(&mut floor, end)..ceiling)
    }

    /// The number of VMAs that splitting at the ends of `range` adds.
    pub(crate) fn splits_of(&self, range: &Range<u64>) -> usize {
        let inside = |at: u64| self.find(at).is_some_and(|vma| vma.start < at);
        usize::from(inside(range.start)) + usize::from(inside(range.end))
    }

    fn split(&mut self, at: u64) {
        if let Some((_, vma)) = self.areas.range_mut(..at).next_back()
            && vma.end > at
        {
            self.objects.forget(vma);
            let tail = vma.split_off(at);
            self.objects.note(vma);
            self.objects.note(&tail);
            self.areas.insert(at, tail);
        }
    }

    /// Removes the parts of VMAs in a range, and returns them.
    pub(crate) fn take(&mut self, range: Range<u64>) -> Vec<Vma> {
        self.split(range.start);
        self.split(range.end);
        let starts: Vec<u64> = self.areas.range(range.clone()).map(|(&start, _)| start).collect();
        let remove = |areas: &mut BTreeMap<u64, Vma>| starts.iter().filter_map(|start| areas.remove(start)).collect();
        let taken: Vec<Vma> = self.reshape(range, remove);
        taken.iter().for_each(|vma| self.sums.subtract(vma));
        taken.iter().for_each(|vma| self.objects.forget(vma));
        taken
    }

    /// Changes the parts of VMAs in a range, then merges VMAs that have become alike. Returns merged VMAs, which are to
    /// be dropped without locks.
    pub(crate) fn change(&mut self, range: Range<u64>, mut change: impl FnMut(&mut Vma)) -> Vec<Vma> {
        self.split(range.start);
        self.split(range.end);
        for (_, vma) in self.areas.range_mut(range.clone()) {
            self.sums.subtract(vma);
            change(vma);
            self.sums.add(vma);
        }
        self.join(range)
    }

    /// Merges adjacent VMAs that are alike, in a range and at its ends.
    pub(crate) fn join(&mut self, range: Range<u64>) -> Vec<Vma> {
        let mut joined = Vec::new();
        let first = self.areas.range(..range.start).next_back().map_or(range.start, |(&start, _)| start);
        let starts: Vec<u64> = self.areas.range(first..=range.end).map(|(&start, _)| start).collect();
        let mut current = None;
        for start in starts {
            let joins = current
                .and_then(|at| self.areas.get(&at))
                .zip(self.areas.get(&start))
                .is_some_and(|(before, after)| before.joins(after));
            if joins
                && let Some(tail) = self.areas.remove(&start)
                && let Some(before) = current.and_then(|at| self.areas.get_mut(&at))
            {
                self.objects.forget(before);
                self.objects.forget(&tail);
                before.end = tail.end;
                self.objects.note(before);
                joined.push(tail);
            } else {
                current = Some(start);
            }
        }
        joined
    }

    /// Moves the start of the VMA at `start` down to `to`.
    pub(crate) fn grow_down(&mut self, start: u64, to: u64) {
        let Some(vma) = self.areas.get(&start) else { return };
        let grown = Vma { start: to, ..vma.clone() };
        self.objects.forget(vma);
        self.objects.note(&grown);
        self.sums.subtract(vma);
        self.sums.add(&grown);
        self.reshape(to..grown.end, |areas| {
            areas.remove(&start);
            areas.insert(to, grown)
        });
    }

    /// The highest address for `len` bytes in `low..high`, or with very many VMAs a high one.
    pub(crate) fn gap_below(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut ceiling = high;
        for (walked, vma) in self.areas.range(..high).rev().map(|(_, vma)| vma).enumerate() {
            if walked == NEAR
                && let Some(gaps) = &self.gaps
            {
                // The gap above this VMA may extend above `high`; gaps that begin below the VMA cannot.
                let here = ceiling.checked_sub(len).filter(|&place| place >= low && place >= vma.end);
                return here.or_else(|| gaps.high_place(len, low, vma.start));
            }
            let place = ceiling.checked_sub(len)?;
            if place < low {
                return None;
            }
            if place >= vma.end {
                return Some(place);
            }
            ceiling = ceiling.min(vma.guarded_start());
        }
        ceiling.checked_sub(len).filter(|&place| place >= low)
    }

    /// The lowest address for `len` bytes in `low..high`, or with very many VMAs a low one.
    pub(crate) fn gap_above(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut floor = low;
        for (walked, vma) in self.overlapping(low..high).enumerate() {
            if walked == NEAR
                && let Some(gaps) = &self.gaps
            {
                // The walk has covered everything below `floor`.
                return gaps.low_place(len, floor, high);
            }
            if floor.checked_add(len)? <= vma.guarded_start() {
                return Some(floor);
            }
            floor = floor.max(vma.end);
        }
        (floor.checked_add(len)? <= high).then_some(floor)
    }

    /// Whether `range` is free, including the gaps of stacks.
    pub(crate) fn is_free(&self, range: &Range<u64>) -> bool {
        self.find_from(range.start).is_none_or(|vma| vma.start >= range.end && vma.guarded_start() >= range.end)
    }
}

#[cfg(test)]
mod tests;
