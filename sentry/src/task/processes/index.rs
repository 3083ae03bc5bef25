//! Indexes of processes by parent, process group and session. The cost of a look-up does not depend on the number of
//! processes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// PIDs of children, oldest first: in the order in which they were added to their parent or to one of its threads.
#[derive(Default)]
pub(crate) struct Children {
    last: u64,
    places: HashMap<i32, u64>,
    all: BTreeMap<u64, i32>,
    ended: BTreeMap<u64, i32>,
}

impl Children {
    /// All children.
    pub(crate) fn iter(&self) -> impl Iterator<Item = i32> {
        self.all.values().copied()
    }

    /// The zombies among them.
    pub(crate) fn ended(&self) -> impl Iterator<Item = i32> {
        self.ended.values().copied()
    }

    /// Adds the youngest.
    pub(super) fn insert(&mut self, pid: i32) {
        self.last += 1;
        self.places.insert(pid, self.last);
        self.all.insert(self.last, pid);
    }

    /// Marks one as a zombie.
    pub(super) fn note_end(&mut self, pid: i32) {
        if let Some(&place) = self.places.get(&pid) {
            self.ended.insert(place, pid);
        }
    }

    /// Removes one.
    pub(super) fn remove(&mut self, pid: i32) {
        if let Some(place) = self.places.remove(&pid) {
            self.all.remove(&place);
            self.ended.remove(&place);
        }
    }
}

/// The children of each thread, by thread ID.
#[derive(Default)]
pub(super) struct ThreadsChildren(HashMap<i32, Children>);

impl ThreadsChildren {
    pub(super) fn insert(&mut self, tid: i32, child: i32) {
        self.0.entry(tid).or_default().insert(child);
    }

    pub(super) fn remove(&mut self, tid: i32, child: i32) {
        if let Some(children) = self.0.get_mut(&tid) {
            children.remove(child);
            if children.all.is_empty() {
                self.0.remove(&tid);
            }
        }
    }

    pub(super) fn of(&self, tid: i32) -> impl Iterator<Item = i32> {
        self.0.get(&tid).into_iter().flat_map(Children::iter)
    }

    /// Moves the children of the thread `old` to `new`, and returns them.
    pub(super) fn renumber(&mut self, old: i32, new: i32) -> Vec<i32> {
        let moved: Vec<i32> = self.0.remove(&old).iter().flat_map(Children::iter).collect();
        for &child in &moved {
            self.insert(new, child);
        }
        moved
    }
}

#[derive(Default)]
struct Group {
    living: BTreeSet<i32>,
    ended: BTreeSet<i32>,
}

/// The members of each process group, by its ID.
#[derive(Default)]
pub(super) struct Groups(HashMap<i32, Group>);

impl Groups {
    pub(super) fn exists(&self, pgid: i32) -> bool {
        self.0.contains_key(&pgid)
    }

    pub(super) fn join(&mut self, pgid: i32, pid: i32) {
        self.0.entry(pgid).or_default().living.insert(pid);
    }

    pub(super) fn note_end(&mut self, pgid: i32, pid: i32) {
        if let Some(group) = self.0.get_mut(&pgid)
            && group.living.remove(&pid)
        {
            group.ended.insert(pid);
        }
    }

    pub(super) fn leave(&mut self, pgid: i32, pid: i32) {
        if let Some(group) = self.0.get_mut(&pgid) {
            group.living.remove(&pid);
            group.ended.remove(&pid);
            if group.living.is_empty() && group.ended.is_empty() {
                self.0.remove(&pgid);
            }
        }
    }

    pub(super) fn living(&self, pgid: i32) -> impl Iterator<Item = &i32> {
        self.0.get(&pgid).into_iter().flat_map(|group| &group.living)
    }

    /// All members, zombies included.
    pub(super) fn members(&self, pgid: i32) -> impl Iterator<Item = &i32> {
        self.0.get(&pgid).into_iter().flat_map(|group| group.living.iter().chain(&group.ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_in_the_order_in_which_they_came() {
        let mut children = Children::default();
        [7, 3, 5].iter().for_each(|&pid| children.insert(pid));
        [5, 7].iter().for_each(|&pid| children.note_end(pid));
        children.note_end(99);
        assert_eq!(children.iter().collect::<Vec<_>>(), [7, 3, 5]);
        assert_eq!(children.ended().collect::<Vec<_>>(), [7, 5]);
        children.remove(7);
        children.insert(7);
        assert_eq!(children.iter().collect::<Vec<_>>(), [3, 5, 7]);
        assert_eq!(children.ended().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_group_lasts_as_long_as_its_last_zombie() {
        let mut groups = Groups::default();
        groups.join(4, 4);
        groups.join(4, 9);
        groups.note_end(4, 4);
        assert_eq!(groups.living(4).copied().collect::<Vec<_>>(), [9]);
        assert_eq!(groups.members(4).copied().collect::<Vec<_>>(), [9, 4]);
        groups.leave(4, 9);
        assert!(groups.exists(4));
        groups.leave(4, 4);
        assert!(!groups.exists(4));
    }

    #[test]
    fn children_of_a_thread_follow_its_number() {
        let mut children = ThreadsChildren::default();
        [(2, 10), (2, 11), (3, 12)].iter().for_each(|&(tid, child)| children.insert(tid, child));
        assert_eq!(children.renumber(2, 3), [10, 11]);
        assert_eq!(children.of(3).collect::<Vec<_>>(), [12, 10, 11]);
        assert_eq!(children.of(2).count(), 0);
        [10, 11, 12].iter().for_each(|&child| children.remove(3, child));
        assert!(children.0.is_empty());
    }
}
