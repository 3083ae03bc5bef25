//! Present pages, as runs of frames: the mappings of the platform.

use std::collections::BTreeMap;
use std::ops::Range;

use amber_platform::{FrameRange, Frames, Protection};

/// Who may store to the frames of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Private to this address space: stores are allowed.
    Owned,
    /// Private, but possibly shared with another address space since a fork: a store copies.
    CopyOnWrite,
    /// Frames of the object in a private VMA: a store copies.
    Cached,
    /// Frames of the object in a shared VMA: the object must be informed before a store.
    SharedRead,
    /// Frames of the object in a shared VMA, dirty for the object.
    SharedWrite,
}

impl Ownership {
    /// Whether stores are allowed without a fault.
    pub(crate) fn is_writable(self) -> bool {
        matches!(self, Ownership::Owned | Ownership::SharedWrite)
    }

    /// Whether the frames belong to the object.
    pub(crate) fn is_of_object(self) -> bool {
        matches!(self, Ownership::Cached | Ownership::SharedRead | Ownership::SharedWrite)
    }

    /// The protection to set in the platform, for a VMA with `protection`.
    pub(crate) fn limit(self, protection: Protection) -> Protection {
        Protection { write: protection.write && self.is_writable(), ..protection }
    }
}

/// Adjacent pages with adjacent frames.
#[derive(Debug)]
pub(crate) struct Run {
    /// The frames.
    pub frames: Frames,
    /// Their ownership.
    pub ownership: Ownership,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First address.
    pub start: u64,
    /// The frames of this part.
    pub frames: FrameRange,
    /// Their ownership.
    pub ownership: Ownership,
}

impl Piece {
    /// The address range.
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.start + self.frames.len
    }
}

/// The runs of an address space. They do not overlap.
#[derive(Default)]
pub(crate) struct RunMap {
    runs: BTreeMap<u64, Run>,
}

impl RunMap {
    /// The run that contains an address, with its start.
    pub(crate) fn find(&self, address: u64) -> Option<(u64, &Run)> {
        let (&start, run) = self.runs.range(..=address).next_back()?;
        (address - start < run.frames.range().len).then_some((start, run))
    }

    /// The range without runs around an address that has none, within `bounds`.
    pub(crate) fn hole(&self, address: u64, bounds: Range<u64>) -> Range<u64> {
        let before = self.runs.range(..=address).next_back().map(|(start, run)| start + run.frames.range().len);
        let after = self.runs.range(address..).next().map(|(&start, _)| start);
        bounds.start.max(before.unwrap_or(0))..bounds.end.min(after.unwrap_or(u64::MAX))
    }

    /// Splits the run that contains `at` there.
    fn split(&mut self, at: u64) {
        let Some((&start, run)) = self.runs.range(..at).next_back() else { return };
        if at - start >= run.frames.range().len {
            return;
        }
        if let Some(run) = self.runs.remove(&start) {
            let (head, tail) = run.frames.split_at(at - start);
            self.runs.insert(start, Run { frames: head, ownership: run.ownership });
            self.runs.insert(at, Run { frames: tail, ownership: run.ownership });
        }
    }

    /// The parts of runs in a range.
    pub(crate) fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> {
        let first = self.find(range.start).map_or(range.start, |(start, _)| start);
        let Range { start: low, end: high } = range;
        self.runs.range(first..high.max(first)).map(move |(&start, run)| {
            let frames = run.frames.range();
            let from = low.max(start) - start;
            let to = high.min(start + frames.len) - start;
            let part = FrameRange { start: frames.start + from, len: to - from };
            Piece { start: start + from, frames: part, ownership: run.ownership }
        })
    }

    /// Removes the parts of runs in a range, and returns them.
    pub(crate) fn take(&mut self, range: Range<u64>) -> Vec<(u64, Run)> {
        self.split(range.start);
        self.split(range.end);
        let starts: Vec<u64> = self.runs.range(range).map(|(&start, _)| start).collect();
        starts.into_iter().filter_map(|start| Some((start, self.runs.remove(&start)?))).collect()
    }

    /// Removes all runs, and returns their frames.
    pub(crate) fn take_all(&mut self) -> Vec<Frames> {
        std::mem::take(&mut self.runs).into_values().map(|run| run.frames).collect()
    }

    /// Adds a run in a range without runs, and merges it with its neighbours if addresses and frames continue.
    pub(crate) fn insert(&mut self, start: u64, run: Run) {
        let mut start = start;
        let mut run = run;
        if let Some((&before, neighbour)) = self.runs.range_mut(..start).next_back()
            && neighbour.ownership == run.ownership
            && before + neighbour.frames.range().len == start
        {
            match neighbour.frames.append(run.frames) {
                Ok(()) => {
                    let Some(whole) = self.runs.remove(&before) else { return };
                    start = before;
                    run = whole;
                }
                Err(frames) => run.frames = frames,
            }
        }
        let end = start + run.frames.range().len;
        if let Some(next) = self.runs.remove(&end) {
            let ownership = next.ownership;
            let rest =
                if ownership == run.ownership { run.frames.append(next.frames).err() } else { Some(next.frames) };
            if let Some(frames) = rest {
                self.runs.insert(end, Run { frames, ownership });
            }
        }
        self.runs.insert(start, run);
    }

    /// Changes the ownership of the runs in a range.
    pub(crate) fn set_ownership(&mut self, range: Range<u64>, change: impl Fn(Ownership) -> Ownership) {
        let needs = self.pieces(range.clone()).any(|piece| change(piece.ownership) != piece.ownership);
        if needs {
            for (start, mut run) in self.take(range) {
                run.ownership = change(run.ownership);
                self.insert(start, run);
            }
        }
    }

    /// A further reference to the frames of a piece.
    pub(crate) fn share(&self, piece: &Piece) -> Option<Frames> {
        let (start, run) = self.find(piece.start)?;
        Some(run.frames.part(piece.start - start, piece.frames.len))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use amber_platform::{GuestMemory, PAGE_SIZE};

    use super::*;

    fn owned(memory: &Arc<GuestMemory>, pages: u64, hint: u64) -> Run {
        let frames = memory.allocate_near(pages * PAGE_SIZE, hint).unwrap();
        Run { frames, ownership: Ownership::Owned }
    }

    #[test]
    fn neighbours_become_one_run() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let mut map = RunMap::default();
        let first = owned(&memory, 2, 0);
        let hint = first.frames.range().end();
        map.insert(0x10000, first);
        map.insert(0x12000, owned(&memory, 2, hint));
        assert_eq!(map.runs.len(), 1);
        let mut pieces = map.pieces(0x11000..0x13000).map(|piece| piece.range());
        assert_eq!((pieces.next(), pieces.next()), (Some(0x11000..0x13000), None));
        drop(pieces);
        assert_eq!(map.take(0x11000..0x12000).len(), 1);
        assert_eq!(map.runs.len(), 2);
        assert_eq!(map.hole(0x11800, 0..u64::MAX), 0x11000..0x12000);
        drop(map);
        assert_eq!(memory.allocated(), 0);
    }

    #[test]
    fn a_different_owner_keeps_runs_apart() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let mut map = RunMap::default();
        map.insert(0x10000, owned(&memory, 4, 0));
        map.set_ownership(0x11000..0x12000, |_| Ownership::CopyOnWrite);
        assert_eq!(map.runs.len(), 3);
        map.set_ownership(0..u64::MAX, |_| Ownership::CopyOnWrite);
        assert_eq!(map.runs.len(), 1);
    }
}
