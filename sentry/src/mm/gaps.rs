//! An index by length of the free ranges between VMAs, which finds addresses for new mappings without a walk over all
//! VMAs.

use std::collections::BTreeMap;
use std::ops::Range;

use amber_platform::PAGE_SIZE;

/// Number of size classes: powers of two of a length in pages.
const CLASSES: usize = 53;

/// Number of gaps tried in the size class of a length. Only some of those are long enough; all gaps of higher classes
/// are.
const TRIES: usize = 64;

/// The gaps of an address space by size class, each from its start to its end.
pub(super) struct Gaps {
    classes: [BTreeMap<u64, u64>; CLASSES],
}

fn class_of(len: u64) -> usize {
    (len / PAGE_SIZE).max(1).ilog2() as usize
}

impl Gaps {
    /// An empty index.
    pub(super) fn new() -> Self {
        Gaps { classes: [const { BTreeMap::new() }; CLASSES] }
    }

    fn class(&mut self, gap: &Range<u64>) -> Option<&mut BTreeMap<u64, u64>> {
        let len = gap.end.checked_sub(gap.start).filter(|&len| len >= PAGE_SIZE)?;
        self.classes.get_mut(class_of(len))
    }

    /// Adds a gap. Empty ranges are ignored.
    pub(super) fn note(&mut self, gap: Range<u64>) {
        if let Some(class) = self.class(&gap) {
            class.insert(gap.start, gap.end);
        }
    }

    /// Removes a gap.
    pub(super) fn forget(&mut self, gap: Range<u64>) {
        if let Some(class) = self.class(&gap) {
            class.remove(&gap.start);
        }
    }

    /// A high address for `len` bytes, not below `low`, in gaps that begin below `bound`. It is the highest, unless
    /// many gaps above it are slightly too short.
    pub(super) fn high_place(&self, len: u64, low: u64, bound: u64) -> Option<u64> {
        let places = |gaps: &BTreeMap<u64, u64>, tries: usize| {
            let mut tried = gaps.range(..bound).rev().take(tries).map(|(&start, &end)| (start, end.checked_sub(len)));
            tried.find_map(|(start, place)| place.filter(|&place| place >= start && place >= low))
        };
        let (own, higher) = self.classes.get(class_of(len)..)?.split_first()?;
        let sure = higher.iter().filter_map(|gaps| places(gaps, 1));
        sure.chain(places(own, TRIES)).max().or_else(|| places(own, usize::MAX))
    }

    /// A low address for `len` bytes that end at `high` or below, in gaps that begin at `from` or above. It is the
    /// lowest, unless many gaps below it are slightly too short.
    pub(super) fn low_place(&self, len: u64, from: u64, high: u64) -> Option<u64> {
        let places = |gaps: &BTreeMap<u64, u64>, tries: usize| {
            let mut tried = gaps.range(from..).take(tries).map(|(&start, &end)| (start, start.checked_add(len), end));
            tried.find_map(|(start, to, end)| to.filter(|&to| to <= end && to <= high).map(|_| start))
        };
        let (own, higher) = self.classes.get(class_of(len)..)?.split_first()?;
        let sure = higher.iter().filter_map(|gaps| places(gaps, 1));
        sure.chain(places(own, TRIES)).min().or_else(|| places(own, usize::MAX))
    }
}
