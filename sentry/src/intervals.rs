//! An index of intervals that finds those that overlap a range. A list sorted by start does not suffice: any interval
//! before the range may extend into it.
//!
//! The numbers are divided recursively into halves, the blocks. An interval belongs to the smallest block that contains
//! it, so it contains the middle of that block, and one comparison decides whether it overlaps a range on either side
//! of the middle. A search visits one or two blocks of each size in use, and no other interval that does not overlap.

use std::collections::{BTreeMap, BTreeSet};

/// An end of an interval, in the order of blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    /// The block has 2 to this power numbers; at most 64.
    level: u32,
    block: u64,
    at: u64,
    id: u64,
}

/// Intervals of numbers, which may overlap. Each has an ID, which need not be unique.
#[derive(Default)]
pub(crate) struct Intervals {
    starts: BTreeSet<End>,
    lasts: BTreeSet<End>,
    /// Number of intervals of each level.
    levels: BTreeMap<u32, usize>,
}

fn block_of(level: u32, at: u64) -> u64 {
    at.checked_shr(level).unwrap_or(0)
}

/// The first number of the upper half of a block. For a block of one number the result is not used.
fn middle(level: u32, block: u64) -> u64 {
    level.checked_sub(1).map_or(0, |half| block.checked_shl(level).unwrap_or(0) | 1 << half)
}

/// The two ends of an interval.
fn ends(start: u64, last: u64, id: u64) -> (End, End) {
    let level = u64::BITS - (start ^ last).leading_zeros();
    let block = block_of(level, start);
    (End { level, block, at: start, id }, End { level, block, at: last, id })
}

impl Intervals {
    /// Adds an interval that is not present.
    pub(crate) fn insert(&mut self, start: u64, last: u64, id: u64) {
        let (start, last) = ends(start, last, id);
        *self.levels.entry(start.level).or_insert(0) += 1;
        self.starts.insert(start);
        self.lasts.insert(last);
    }

    /// Removes an interval that is present.
    pub(crate) fn remove(&mut self, start: u64, last: u64, id: u64) {
        let (start, last) = ends(start, last, id);
        if self.starts.remove(&start)
            && self.lasts.remove(&last)
            && let Some(count) = self.levels.get_mut(&start.level)
        {
            *count -= 1;
            if *count == 0 {
                self.levels.remove(&start.level);
            }
        }
    }

    /// Whether there are no intervals.
    pub(crate) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The intervals that overlap an inclusive range, unordered: the ID of each, and its first or its last number.
    pub(crate) fn overlapping(&self, start: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        self.levels.keys().flat_map(move |&level| {
            let end = |block, at, id| End { level, block, at, id };
            let (low, high) = (block_of(level, start), block_of(level, last));
            let reach_up = (low < high || last >= middle(level, low))
                .then(|| self.lasts.range(end(low, start, 0)..=end(low, u64::MAX, u64::MAX)));
            let begin = if low < high { Some(low + 1) } else { reach_up.is_none().then_some(low) };
            let begin_before = begin.map(|block| self.starts.range(end(block, 0, 0)..=end(high, last, u64::MAX)));
            let found = reach_up.into_iter().flatten().chain(begin_before.into_iter().flatten());
            found.map(|end| (end.id, end.at))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..40, Just(i64::MAX as u64), Just(u64::MAX - 1), Just(u64::MAX), any::<u64>()]
    }

    proptest! {
        #[test]
        fn the_index_finds_the_same_as_a_full_walk(
            pairs in proptest::collection::vec((number(), number()), 0..60),
            taken in 0usize..60,
            ranges in proptest::collection::vec((number(), number()), 1..20),
        ) {
            let mut index = Intervals::default();
            let mut all: Vec<(u64, u64, u64)> =
                pairs.iter().zip(0..).map(|(&(a, b), id)| (a.min(b), a.max(b), id)).collect();
            all.iter().for_each(|&(start, last, id)| index.insert(start, last, id));
            for (start, last, id) in all.drain(..taken.min(pairs.len())) {
                index.remove(start, last, id);
            }
            for (a, b) in ranges {
                let (low, high) = (a.min(b), a.max(b));
                let mut found: Vec<u64> = index.overlapping(low, high).map(|(id, _)| id).collect();
                found.sort_unstable();
                let wanted = all.iter().filter(|(start, last, _)| *start <= high && low <= *last);
                prop_assert_eq!(found, wanted.map(|&(_, _, id)| id).collect::<Vec<_>>());
            }
            all.iter().for_each(|&(start, last, id)| index.remove(start, last, id));
            prop_assert!(index.is_empty() && index.levels.is_empty());
        }
    }
}
