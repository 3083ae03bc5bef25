//! The mappings of a stub as they will be when all requested changes are applied.

use std::collections::BTreeMap;
use std::ops::Range;

use amber_platform::{FrameRange, PAGE_SIZE, Protection};

/// A contiguous mapping of contiguous frames with one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// End address.
    pub end: u64,
    /// The first frame.
    pub frames: u64,
    /// The guest's access rights.
    pub protection: Protection,
    /// Number of the last change that affected the extent.
    pub change: u64,
}

/// Bits of an address that a table of each level covers: page table, page directory, page directory pointer table. A
/// table exists where anything is mapped in that range.
const LEVELS: [u32; 3] = [21, 30, 39];
/// Host kernel memory per mapping (`vm_area_struct` and its tree nodes), in bytes.
const MAPPING_BYTES: u64 = 256;

/// The mappings of a stub by start address, without overlaps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mappings {
    list: BTreeMap<u64, Extent>,
    /// Upper bound of the number of the host's page tables for them.
    tables: u64,
}

impl Mappings {
    /// The number of extents.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Upper bound of the host kernel memory for these mappings, in bytes. The host allocates a page table on first
    /// access.
    pub(crate) fn host_bytes(&self) -> u64 {
        self.tables * PAGE_SIZE + self.list.len() as u64 * MAPPING_BYTES
    }

    /// The mapping at `address`.
    pub(crate) fn at(&self, address: u64) -> Option<Extent> {
        let (_, extent) = self.list.range(..=address).next_back()?;
        (address < extent.end).then_some(*extent)
    }

    /// Splits the extent that contains `at`, if any, in two there.
    fn split_at(&mut self, at: u64) {
        if let Some((&start, extent)) = self.list.range_mut(..at).next_back()
            && at < extent.end
        {
            let tail = Extent { frames: extent.frames + (at - start), ..*extent };
            extent.end = at;
            self.list.insert(at, tail);
        }
    }

    /// Merges the extents that meet at `at`, if they are contiguous and have the same protection.
    fn merge_at(&mut self, at: u64) {
        if let Some(&right) = self.list.get(&at)
            && let Some((&start, left)) = self.list.range_mut(..at).next_back()
            && left.end == at
            && left.protection == right.protection
            && left.frames + (at - start) == right.frames
        {
            left.end = right.end;
            left.change = left.change.max(right.change);
            self.list.remove(&at);
        }
    }

    /// Removes all mappings in `range`. Returns whether there were any.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> bool {
        self.split_at(range.start);
        self.split_at(range.end);
        let gone: Vec<Range<u64>> = self.list.range(range).map(|(&start, extent)| start..extent.end).collect();
        for extent in &gone {
            self.list.remove(&extent.start);
        }
        self.tables -= self.tables_for(&gone);
        !gone.is_empty()
    }

    /// The number of page tables that exist only for `parts`. These are sorted, and the map has no extents in or
    /// between them.
    fn tables_for(&self, parts: &[Range<u64>]) -> u64 {
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return 0 };
        let before = self.list.range(..first.start).next_back().map(|(_, extent)| extent.end - 1);
        let after = self.list.range(last.end..).next().map(|(&start, _)| start);
        let count = |level: u32| {
            let after = after.map_or(u64::MAX, |start| start >> level);
            // The first table that is not counted yet.
            let mut next = before.map_or(0, |last| (last >> level) + 1);
            let mut count = 0;
            for part in parts {
                let start = (part.start >> level).max(next);
                let end = (((part.end - 1) >> level) + 1).min(after);
                count += end.saturating_sub(start);
                next = next.max(end);
            }
            count
        };
        LEVELS.map(count).iter().sum()
    }

    /// Maps `frames` at `at`. Returns false if they already were, with the same protection.
    pub(crate) fn insert(&mut self, at: u64, frames: FrameRange, protection: Protection, change: u64) -> bool {
        let end = at + frames.len;
        if let Some((&start, extent)) = self.list.range(..=at).next_back()
            && end <= extent.end
            && extent.protection == protection
            && extent.frames + (at - start) == frames.start
        {
            return false;
        }
        self.remove(at..end);
        self.tables += self.tables_for(std::slice::from_ref(&(at..end)));
        self.list.insert(at, Extent { end, frames: frames.start, protection, change });
        self.merge_at(at);
        self.merge_at(end);
        true
    }

    /// Changes the protection of the mappings in `range`. Returns the ranges whose protection was different.
    pub(crate) fn protect(&mut self, range: Range<u64>, protection: Protection, change: u64) -> Vec<Range<u64>> {
        self.split_at(range.start);
        self.split_at(range.end);
        let mut changed: Vec<Range<u64>> = Vec::new();
        let mut borders = vec![range.start, range.end];
        for (&start, extent) in self.list.range_mut(range) {
            borders.push(start);
            if extent.protection != protection {
                extent.protection = protection;
                extent.change = change;
                match changed.last_mut() {
                    Some(last) if last.end == start => last.end = extent.end,
                    _ => changed.push(start..extent.end),
                }
            }
        }
        for border in borders {
            self.merge_at(border);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Protection = Protection { read: true, write: false, execute: false };
    const WRITE: Protection = Protection { read: true, write: true, execute: false };

    fn frames(start: u64, len: u64) -> FrameRange {
        FrameRange { start, len }
    }

    #[test]
    fn neighbours_join_and_are_cut_again() {
        let mut mappings = Mappings::default();
        assert!(mappings.insert(0x1000, frames(0x5000, 0x1000), READ, 1));
        assert!(mappings.insert(0x2000, frames(0x6000, 0x1000), READ, 2));
        assert_eq!(mappings.at(0x1000), Some(Extent { end: 0x3000, frames: 0x5000, protection: READ, change: 2 }));
        assert!(!mappings.insert(0x2000, frames(0x6000, 0x1000), READ, 3));
        assert!(mappings.remove(0x1000..0x2000));
        assert!(!mappings.remove(0x1000..0x2000));
        assert_eq!(mappings.at(0x1fff), None);
        assert_eq!(mappings.at(0x2000).map(|extent| extent.frames), Some(0x6000));
    }

    #[test]
    fn protection_leaves_holes_alone() {
        let mut mappings = Mappings::default();
        mappings.insert(0x1000, frames(0, 0x1000), READ, 1);
        mappings.insert(0x3000, frames(0x2000, 0x2000), READ, 2);
        assert_eq!(mappings.protect(0..0x4000, WRITE, 3), vec![0x1000..0x2000, 0x3000..0x4000]);
        assert_eq!(mappings.protect(0..0x5000, WRITE, 4), vec![0x4000..0x5000]);
        assert_eq!(mappings.at(0x3000).map(|extent| extent.end), Some(0x5000));
        assert_eq!(mappings.at(0x2000), None);
    }

    #[test]
    fn tables_are_counted_once() {
        const REGION: u64 = 2 << 20;
        let mut mappings = Mappings::default();
        let page = |number: u64| frames(number << 32, 0x1000);
        mappings.insert(0, page(1), READ, 1);
        assert_eq!(mappings.tables, 3);
        // In the same 2 MiB region, in the next, and across a boundary.
        mappings.insert(0x5000, page(2), READ, 2);
        assert_eq!(mappings.tables, 3);
        mappings.insert(REGION + 0x3000, page(3), READ, 3);
        assert_eq!(mappings.tables, 4);
        mappings.insert(3 * REGION - 0x1000, frames(4 << 32, 0x2000), READ, 4);
        assert_eq!(mappings.tables, 6);
        // Far away at all levels; then a long mapping over many existing tables.
        mappings.insert(5 << 39, page(5), READ, 5);
        assert_eq!(mappings.tables, 9);
        mappings.insert(0x2000, frames(6 << 32, 8 * REGION), WRITE, 6);
        assert_eq!(mappings.tables, 14);
        // A different protection in the middle changes nothing, nor does a hole within a region.
        mappings.protect(0x4000..REGION, READ, 7);
        mappings.remove(REGION + 0x1000..2 * REGION - 0x1000);
        assert_eq!(mappings.tables, 14);
        mappings.remove(REGION..3 * REGION);
        assert_eq!(mappings.tables, 12);
        mappings.remove(0..u64::MAX);
        assert_eq!(mappings.tables, 0);
    }
}
