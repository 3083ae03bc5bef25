//! An index of VMAs by the parts of objects that they map. A change of an object finds its VMAs without a walk over all
//! of them.

use std::collections::HashMap;
use std::ops::Range;

use super::{MANY, Mappable, Vma, VmaMap};
use crate::intervals::Intervals;

/// The VMAs of each object (by its address), by the range they map. A VMA's number is its first address.
type Index = HashMap<usize, Intervals>;

/// The index, which is built by the first search among many VMAs. Programs whose objects do not change do not pay for
/// it.
#[derive(Default)]
pub(super) struct ShownObjects(Option<Box<Index>>);

fn address(object: &dyn Mappable) -> usize {
    std::ptr::from_ref(object).cast::<()>().addr()
}

/// The key of a VMA: the address of its object, the first and the last offset it maps.
fn place(vma: &Vma) -> Option<(usize, u64, u64)> {
    let object = address(&*vma.object()?.object);
    Some((object, vma.offset, vma.offset.saturating_add(vma.size() - 1)))
}

fn note(index: &mut Index, vma: &Vma) {
    if let Some((object, first, last)) = place(vma) {
        index.entry(object).or_default().insert(first, last, vma.start);
    }
}

impl ShownObjects {
    /// Adds a VMA.
    pub(super) fn note(&mut self, vma: &Vma) {
        if let Some(index) = &mut self.0 {
            note(index, vma);
        }
    }

    /// Removes a VMA that is unmapped or about to change.
    pub(super) fn forget(&mut self, vma: &Vma) {
        if let Some(index) = &mut self.0
            && let Some((object, first, last)) = place(vma)
            && let Some(areas) = index.get_mut(&object)
        {
            areas.remove(first, last, vma.start);
            if areas.is_empty() {
                index.remove(&object);
            }
        }
    }
}

impl Vma {
    /// The addresses at which it maps some of a range of an object.
    fn showing(&self, object: &dyn Mappable, range: &Range<u64>) -> Option<Range<u64>> {
        let from = range.start.saturating_sub(self.offset);
        let to = range.end.saturating_sub(self.offset).min(self.size());
        let shows = from < to && address(&*self.object()?.object) == address(object);
        shows.then(|| self.start + from..self.start + to)
    }
}

impl VmaMap {
    /// The addresses that map some of a range of an object: parts of VMAs, unordered.
    pub(crate) fn showing(&mut self, object: &dyn Mappable, range: Range<u64>) -> Vec<Range<u64>> {
        if self.objects.0.is_none() && self.areas.len() >= MANY {
            let mut index = Box::<Index>::default();
            self.areas.values().for_each(|vma| note(&mut index, vma));
            self.objects.0 = Some(index);
        }
        let Some(index) = &self.objects.0 else {
            return self.areas.values().filter_map(|vma| vma.showing(object, &range)).collect();
        };
        let Some((areas, last)) = index.get(&address(object)).zip(range.end.checked_sub(1)) else { return Vec::new() };
        let found = areas.overlapping(range.start.min(last), last).filter_map(|(start, _)| self.areas.get(&start));
        found.filter_map(|vma| vma.showing(object, &range)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use amber_platform::{Frames, PAGE_SIZE, Protection};
    use proptest::prelude::*;

    use super::super::{Backing, ObjectArea, VmaFlags};
    use super::*;
    use crate::mm::{Errno, Mapping};

    /// An object that is never read.
    struct Object;

    impl Mappable for Object {
        fn frames(&self, _: u64, _: u64, _: bool) -> Result<Frames, Errno> {
            Err(Errno::EFAULT)
        }

        fn len(&self) -> u64 {
            0
        }

        fn attach(&self, _: Arc<dyn Mapping>) {}

        fn detach(&self, _: &Arc<dyn Mapping>) {}

        fn write_back(&self, _: u64, _: u64) -> Result<(), Errno> {
            Ok(())
        }
    }

    impl Mapping for Object {
        fn invalidate(&self, _: &dyn Mappable, _: u64, _: u64, _: bool) {}
    }

    proptest! {
        #[test]
        fn the_index_finds_the_same_as_a_full_walk(
            changes in proptest::collection::vec((0u8..4, 0u64..1000, 1u64..20, 0u64..1000), 1..80),
            ranges in proptest::collection::vec((0u64..1100, 0u64..1100), 1..20),
        ) {
            let p = PAGE_SIZE;
            let objects: [Arc<dyn Mappable>; 2] = [Arc::new(Object), Arc::new(Object)];
            let shown = objects.each_ref().map(|object| {
                ObjectArea::new(object.clone(), None, "", Arc::new(Object), false).unwrap()
            });
            let area = |at: u64, len: u64, offset: u64, which: usize| Vma {
                start: at * p,
                end: (at + len) * p,
                protection: Protection { read: true, write: true, execute: false },
                flags: VmaFlags::MAY_ALL,
                backing: shown.get(which).map_or(Backing::Anonymous, |area| Backing::Object(area.clone())),
                offset: if which < 2 { offset * p } else { 0 },
                name: None,
            };
            let mut map = VmaMap::default();
            // The pages between are free.
            (0..MANY as u64).for_each(|at| map.insert(area(at * 2, 1, at * 3, (at % 3) as usize)));
            map.showing(&*objects[0], 0..1);
            prop_assert!(map.objects.0.is_some());
            for (kind, at, len, offset) in changes {
                let range = at * p..(at + len) * p;
                match kind {
                    0 => drop(map.take(range)),
                    1 => {
                        map.take(range.clone());
                        map.insert(area(at, len, offset, (offset % 3) as usize));
                        map.join(range);
                    }
                    2 => drop(map.change(range, |vma| vma.protection.write = !vma.protection.write)),
                    _ => drop(map.change(range, |vma| vma.protection.write = true)),
                }
            }
            for (a, b) in ranges {
                for object in &objects {
                    let range = a.min(b) * p..a.max(b) * p;
                    let mut found = map.showing(&**object, range.clone());
                    found.sort_by_key(|range| range.start);
                    let all: Vec<_> = map.iter().filter_map(|vma| vma.showing(&**object, &range)).collect();
                    prop_assert_eq!(found, all);
                }
            }
            map.take(0..u64::MAX);
            prop_assert!(map.objects.0.is_some_and(|index| index.is_empty()));
        }
    }
}
