//! The allocator of guest memory: which frames are in use, and which are free.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::FrameRange;
use crate::PAGE_SIZE;

/// Up to this many bytes of freed frames stay *warm*: they keep the host's memory …
const WARM_BYTES: u64 = 2 << 20;
/// … if they are freed in runs of at most this size.
pub(super) const WARM_RUN: u64 = 256 << 10;

/// Free runs of frames, by offset and by size.
#[derive(Default)]
struct FreeRuns {
    /// Start → end.
    by_place: BTreeMap<u64, u64>,
    /// Length and start of each run.
    by_size: BTreeSet<(u64, u64)>,
}

impl FreeRuns {
    fn insert(&mut self, range: Range<u64>) {
        if range.start < range.end {
            self.by_place.insert(range.start, range.end);
            self.by_size.insert((range.end - range.start, range.start));
        }
    }

    /// Adds a free run and merges it with its neighbours. Returns the merged run.
    fn merge(&mut self, range: Range<u64>) -> Range<u64> {
        let mut range = range;
        if let Some((&start, &end)) = self.by_place.range(..range.start).next_back()
            && end == range.start
        {
            self.remove(start);
            range.start = start;
        }
        if let Some(end) = self.remove(range.end) {
            range.end = end;
        }
        self.insert(range.clone());
        range
    }

    /// The smallest run that can hold `len` bytes at an aligned offset; returns the offset.
    fn fit(&self, len: u64, align: u64) -> Option<u64> {
        self.by_size.range((len, 0)..).find_map(|&(size, start)| {
            let at = start.next_multiple_of(align);
            (at + len <= start + size).then_some(at)
        })
    }

    fn remove(&mut self, start: u64) -> Option<u64> {
        let end = self.by_place.remove(&start)?;
        self.by_size.remove(&(end - start, start));
        Some(end)
    }

    /// Removes `range` from the free run that contains it. Returns false if there is none.
    fn take_from(&mut self, range: Range<u64>) -> bool {
        let holder = self.by_place.range(..=range.start).next_back().map(|(&start, &end)| (start, end));
        match holder {
            Some((start, end)) if range.end <= end => {
                self.remove(start);
                self.insert(start..range.start);
                self.insert(range.end..end);
                true
            }
            _ => false,
        }
    }
}

/// Which frames are in use, with their reference counts.
#[derive(Default)]
pub(super) struct Ledger {
    /// Start of each run in use → its end, and the reference count of each of its frames. Runs do not overlap.
    used: BTreeMap<u64, (u64, u32)>,
    free: FreeRuns,
    /// Frames without references that still have the host's memory, with the bytes of their last owner.
    warm: FreeRuns,
    warm_bytes: u64,
    /// Offset of the first frame that was never used.
    top: u64,
}

impl Ledger {
    /// Splits the run that contains `at`, if any, in two there.
    fn split(&mut self, at: u64) {
        if let Some((&start, &mut (ref mut end, refs))) = self.used.range_mut(..at).next_back()
            && *end > at
            && start < at
        {
            let tail = *end;
            *end = at;
            self.used.insert(at, (tail, refs));
        }
    }

    /// Takes free frames below `limit`.
    pub(super) fn find(&mut self, len: u64, align: u64, limit: u64) -> Option<u64> {
        if let Some(at) = self.free.fit(len, align) {
            self.free.take_from(at..at + len);
            return Some(at);
        }
        let at = self.top.checked_next_multiple_of(align)?;
        if at.checked_add(len)? > limit {
            return None;
        }
        self.free.insert(self.top..at);
        self.top = at + len;
        Some(at)
    }

    /// The same, preferably at `hint`.
    pub(super) fn find_near(&mut self, len: u64, hint: u64, limit: u64) -> Option<u64> {
        self.find_at(hint, len, limit).or_else(|| self.find(len, PAGE_SIZE, limit))
    }

    fn find_at(&mut self, at: u64, len: u64, limit: u64) -> Option<u64> {
        let end = at.checked_add(len)?;
        if at == self.top && end <= limit {
            self.top = end;
            return Some(at);
        }
        self.free.take_from(at..end).then_some(at)
    }

    /// Takes warm frames, preferably at `hint`.
    pub(super) fn find_warm(&mut self, len: u64, hint: u64) -> Option<u64> {
        let end = hint.checked_add(len);
        let at = match end {
            Some(end) if self.warm.take_from(hint..end) => hint,
            _ => {
                let at = self.warm.fit(len, PAGE_SIZE)?;
                self.warm.take_from(at..at + len);
                at
            }
        };
        self.warm_bytes -= len;
        Some(at)
    }

    /// Gives frames that were taken their first reference.
    pub(super) fn hold(&mut self, range: FrameRange) {
        self.used.insert(range.start, (range.end(), 1));
    }

    /// Adds a reference to frames.
    pub(super) fn add_reference(&mut self, range: FrameRange) {
        self.split(range.start);
        self.split(range.end());
        for (_, (_, refs)) in self.used.range_mut(range.start..range.end()) {
            *refs += 1;
        }
    }

    /// Removes a reference from frames. Returns the runs that have none left, which are then neither free nor in use.
    pub(super) fn remove_reference(&mut self, range: FrameRange) -> Vec<FrameRange> {
        self.split(range.start);
        self.split(range.end());
        let mut freed: Vec<FrameRange> = Vec::new();
        for (&start, (end, refs)) in self.used.range_mut(range.start..range.end()) {
            *refs -= 1;
            if *refs == 0 {
                match freed.last_mut() {
                    Some(last) if last.end() == start => last.len += *end - start,
                    _ => freed.push(FrameRange { start, len: *end - start }),
                }
            }
        }
        for run in &freed {
            let dead: Vec<u64> = self.used.range(run.start..run.end()).map(|(&start, _)| start).collect();
            for start in dead {
                self.used.remove(&start);
            }
        }
        freed
    }

    /// The highest reference count of any frame in a range.
    pub(super) fn max_references(&self, range: FrameRange) -> u32 {
        let first = self.used.range(..=range.start).next_back().map_or(range.start, |(&start, _)| start);
        self.used.range(first..range.end()).map(|(_, &(_, refs))| refs).max().unwrap_or(0)
    }

    /// Keeps frames without references warm, if there is room. Returns whether it does.
    pub(super) fn keep_warm(&mut self, run: FrameRange) -> bool {
        let room = run.len <= WARM_RUN && self.warm_bytes + run.len <= WARM_BYTES;
        if room {
            self.warm.merge(run.start..run.end());
            self.warm_bytes += run.len;
        }
        room
    }

    /// Takes all warm frames, which are then neither free nor in use.
    pub(super) fn take_warm(&mut self) -> Vec<FrameRange> {
        self.warm_bytes = 0;
        let warm = std::mem::take(&mut self.warm);
        warm.by_place.iter().map(|(&start, &end)| FrameRange { start, len: end - start }).collect()
    }

    /// Makes frames free that have no memory.
    pub(super) fn give_back(&mut self, run: FrameRange) {
        let whole = self.free.merge(run.start..run.end());
        if whole.end == self.top {
            self.free.remove(whole.start);
            self.top = whole.start;
        }
    }
}
