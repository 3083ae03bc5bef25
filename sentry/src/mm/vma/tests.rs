//! Tests of VMAs.

use proptest::prelude::*;

use super::*;

fn area(start: u64, end: u64) -> Vma {
    Vma {
        start: start * PAGE_SIZE,
        end: end * PAGE_SIZE,
        protection: Protection { read: true, write: true, execute: false },
        flags: VmaFlags::MAY_ALL,
        backing: Backing::Anonymous,
        offset: 0,
        name: None,
    }
}

fn shape(map: &VmaMap) -> Vec<(u64, u64)> {
    map.iter().map(|v| (v.start / PAGE_SIZE, v.end / PAGE_SIZE)).collect()
}

#[test]
fn equal_neighbours_join_and_changes_split() {
    let mut map = VmaMap::default();
    map.insert(area(10, 20));
    map.insert(area(20, 30));
    map.join(20 * PAGE_SIZE..30 * PAGE_SIZE);
    assert_eq!(shape(&map), [(10, 30)]);
    map.change(12 * PAGE_SIZE..14 * PAGE_SIZE, |v| v.protection.write = false);
    assert_eq!(shape(&map), [(10, 12), (12, 14), (14, 30)]);
    map.change(12 * PAGE_SIZE..14 * PAGE_SIZE, |v| v.protection.write = true);
    assert_eq!(shape(&map), [(10, 30)]);
    assert_eq!(map.sums().all, 20 * PAGE_SIZE);
}

#[test]
fn taking_leaves_the_rest() {
    let mut map = VmaMap::default();
    map.insert(area(10, 20));
    assert_eq!(map.splits_of(&(12 * PAGE_SIZE..15 * PAGE_SIZE)), 2);
    let taken = map.take(12 * PAGE_SIZE..15 * PAGE_SIZE);
    assert_eq!(taken.len(), 1);
    assert_eq!(shape(&map), [(10, 12), (15, 20)]);
    assert!(!map.covers(10 * PAGE_SIZE..20 * PAGE_SIZE));
    assert!(map.covers(16 * PAGE_SIZE..20 * PAGE_SIZE));
}

fn counted(map: &VmaMap) -> Sums {
    let mut sums = Sums::default();
    map.iter().for_each(|vma| sums.add(vma));
    sums
}

#[test]
fn totals_follow_each_change() {
    let mut map = VmaMap::default();
    (0..20).for_each(|at| map.insert(area(at * 20, at * 20 + 12)));
    let p = PAGE_SIZE;
    assert_eq!(map.sums(), Sums { all: 240 * p, data: 240 * p, locked: 0 });
    map.change(3 * p..85 * p, |vma| vma.flags |= VmaFlags::LOCKED);
    assert_eq!(map.sums(), Sums { all: 240 * p, data: 240 * p, locked: 50 * p });
    map.change(21 * p..46 * p, |vma| vma.protection.write = false);
    assert_eq!(map.sums(), Sums { all: 240 * p, data: 223 * p, locked: 50 * p });
    map.take(30 * p..62 * p);
    assert_eq!(map.sums(), counted(&map));
    map.change(0..u64::MAX, |vma| vma.flags |= VmaFlags::GROWS_DOWN);
    map.grow_down(100 * p, 95 * p);
    assert_eq!(map.sums(), Sums { data: 0, ..counted(&map) });
    map.change(0..u64::MAX, |vma| vma.flags = VmaFlags::MAY_ALL);
    assert_eq!(map.sums(), counted(&map));
    map.take(0..u64::MAX);
    assert_eq!(map.sums(), Sums::default());
}

/// The same VMAs without the index of gaps.
fn without_index(map: &VmaMap) -> VmaMap {
    VmaMap { areas: map.areas.clone(), sums: map.sums, gaps: None, objects: ShownObjects::default() }
}

proptest! {
    #[test]
    fn the_index_finds_the_same_as_a_full_walk(
        changes in proptest::collection::vec((0u64..3, 0u64..6000, 1u64..8), 1..60),
        wanted in proptest::collection::vec((1u64..40, 0u64..6000, 0u64..6000), 1..20),
    ) {
        let p = PAGE_SIZE;
        let mut map = VmaMap::default();
        // Gaps of one page, so that only changed places have larger ones.
        (0..MANY as u64 + 100).for_each(|at| map.insert(area(at * 12 + 1, at * 12 + 12)));
        assert!(map.gaps.is_some());
        for (kind, at, len) in changes {
            let range = at * p..(at + len) * p;
            match kind {
                0 => drop(map.take(range)),
                1 if map.is_free(&range) => map.insert(area(at, at + len)),
                _ => if let Some((start, below)) = map.find(at * p).map(|vma| vma.start).zip(Some(at)) {
                    let floor = map.find_below(start).map_or(0, |vma| vma.end);
                    map.grow_down(start, floor.max(start.saturating_sub((below % 3) * p)));
                },
            }
        }
        assert_eq!(map.sums(), counted(&map));
        let plain = without_index(&map);
        for (len, a, b) in wanted {
            let (low, high) = (a.min(b) * p, a.max(b) * p);
            assert_eq!(map.gap_below(len * p, low, high), plain.gap_below(len * p, low, high));
            assert_eq!(map.gap_above(len * p, low, high), plain.gap_above(len * p, low, high));
        }
    }
}

#[test]
fn gaps_are_found_from_both_ends() {
    let mut map = VmaMap::default();
    map.insert(area(10, 20));
    map.insert(area(25, 30));
    let p = PAGE_SIZE;
    assert_eq!(map.gap_below(5 * p, p, 30 * p), Some(20 * p));
    assert_eq!(map.gap_below(6 * p, p, 30 * p), Some(4 * p));
    assert_eq!(map.gap_below(10 * p, p, 30 * p), None);
    assert_eq!(map.gap_above(5 * p, 10 * p, 100 * p), Some(20 * p));
    assert_eq!(map.gap_above(6 * p, 10 * p, 100 * p), Some(30 * p));
    assert_eq!(map.gap_above(71 * p, 10 * p, 100 * p), None);
}
