//! Which frames were touched, as the host reports it (`SEEK_DATA` and `SEEK_HOLE` of lseek(2)).

use nix::unistd::{Whence, lseek};

use super::{FrameRange, GuestMemory};

/// A snapshot of the frames that were touched.
pub struct Touched {
    /// Sorted, without overlaps.
    extents: Vec<FrameRange>,
}

impl GuestMemory {
    /// The frames in `ranges` that were touched since they were allocated.
    ///
    /// The host is asked for whole extents in ascending order, so many small adjacent ranges cost no more than one.
    pub fn touched(&self, ranges: impl Iterator<Item = FrameRange>) -> Touched {
        let mut ranges: Vec<FrameRange> = ranges.collect();
        ranges.sort_unstable_by_key(|range| range.start);
        // Nothing depends on the file's seek position, so concurrent callers do no harm.
        let seek = |at: u64, whence| lseek(&*self.file, at as i64, whence).map_or(u64::MAX, |found| found as u64);
        let mut extents = Vec::new();
        // Everything below this is known.
        let mut known = 0;
        for range in ranges {
            known = known.max(range.start);
            while known < range.end() {
                let start = seek(known, Whence::SeekData);
                known = start;
                if start < range.end() {
                    // An extent that was freed in between has length 0.
                    known = seek(start, Whence::SeekHole);
                    extents.push(FrameRange { start, len: known - start });
                }
            }
        }
        Touched { extents }
    }
}

impl GuestMemory {
    /// Whether all frames of a range were touched since they were allocated.
    pub fn is_filled(&self, range: FrameRange) -> bool {
        lseek(&*self.file, range.start as i64, Whence::SeekHole).is_ok_and(|hole| hole as u64 >= range.end())
    }
}

impl Touched {
    /// The touched parts of a range in ascending order. The range must be one of those given.
    pub fn parts(&self, range: FrameRange) -> impl Iterator<Item = FrameRange> {
        let first = self.extents.partition_point(|extent| extent.end() <= range.start);
        self.extents[first..].iter().take_while(move |extent| extent.start < range.end()).map(move |extent| {
            let start = extent.start.max(range.start);
            FrameRange { start, len: extent.end().min(range.end()) - start }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PAGE_SIZE;

    #[test]
    fn tells_what_was_touched_of_each_range() {
        let memory = GuestMemory::new(1 << 30).expect("the host has memory");
        let frames = memory.allocate(64 * PAGE_SIZE, PAGE_SIZE).expect("there is room");
        let page = |number: u64, count: u64| FrameRange {
            start: frames.range().start + number * PAGE_SIZE,
            len: count * PAGE_SIZE,
        };
        for touched in [3, 4, 5, 20, 40] {
            memory.write(page(touched, 1).start, b"touched");
        }
        // Unsorted, adjacent and overlapping.
        let asked = [page(30, 20), page(4, 1), page(0, 10), page(5, 16), page(60, 4)];
        let account = memory.touched(asked.into_iter());
        let parts = |range| account.parts(range).collect::<Vec<_>>();
        assert_eq!(parts(asked[0]), [page(40, 1)]);
        assert_eq!(parts(asked[1]), [page(4, 1)]);
        assert_eq!(parts(asked[2]), [page(3, 3)]);
        assert_eq!(parts(asked[3]), [page(5, 1), page(20, 1)]);
        assert_eq!(parts(asked[4]), []);
    }
}
