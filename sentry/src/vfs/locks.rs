//! File locks: record locks of processes and of open file descriptions (fcntl(2)), and whole-file locks (flock(2)).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use amber_abi::errno::Errno;
use amber_abi::stat::Device;

use crate::intervals::Intervals;
use crate::sync::{Mutex, Rank};
use crate::vfs::Inode;

mod waiters;

use waiters::Waiters;
pub(crate) use waiters::Wanted;

/// The owner of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    /// A process, identified by its descriptor table.
    Process(u64),
    /// An open file description, by its ID.
    Description(u64),
}

impl Owner {
    /// A number for each owner; [`of`](Self::of) is the inverse.
    fn number(self) -> u64 {
        match self {
            Owner::Process(table) => table << 1,
            Owner::Description(description) => description << 1 | 1,
        }
    }

    fn of(number: u64) -> Self {
        if number & 1 == 0 { Owner::Process(number >> 1) } else { Owner::Description(number >> 1) }
    }
}

/// A record lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The owner.
    pub owner: Owner,
    /// The process that set it, as `F_GETLK` reports it; -1 for a lock of a description.
    pub pid: i32,
    /// Whether it is a write lock (`F_WRLCK`), which conflicts with all locks of other owners, or a read lock, which
    /// conflicts with write locks only.
    pub exclusive: bool,
    /// The first byte.
    pub start: u64,
    /// The last byte; `i64::MAX` for a lock to the end of the file, however it grows.
    pub last: u64,
}

impl Record {
    fn overlaps(&self, other: &Record) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    fn conflicts(&self, other: &Record) -> bool {
        self.owner != other.owner && (self.exclusive || other.exclusive) && self.overlaps(other)
    }
}

/// A whole-file lock.
#[derive(Clone, Copy)]
struct Whole {
    /// The process that set it.
    pid: i32,
    exclusive: bool,
}

/// The maximum number of locks compared to find the first one for `F_GETLK`.
const COMPARED: usize = 64;

/// The maximum number of locks and waits visited in the search for a deadlock. Linux visits one lock of each owner and
/// at most eleven owners.
const SEARCHED: usize = 1024;

#[derive(Default)]
struct FileLocks {
    /// The locks of each owner by first byte; they do not overlap.
    records: BTreeMap<Owner, BTreeMap<u64, Record>>,
    /// The write locks of all owners, which do not overlap either.
    exclusive: BTreeMap<u64, Record>,
    /// The read locks of all owners, by the owner's number.
    shared: Intervals,
    /// Whole-file locks by open file description.
    whole: BTreeMap<u64, Whole>,
    /// The number of record locks.
    count: usize,
    /// The waiters for any of the locks.
    waiters: Waiters,
}

/// The records of a list without overlaps that overlap a range, in order of their first byte.
fn overlapping(list: &BTreeMap<u64, Record>, start: u64, last: u64) -> impl Iterator<Item = &Record> {
    let before = list.range(..start).next_back().filter(|(_, record)| record.last >= start);
    before.into_iter().chain(list.range(start..=last)).map(|(_, record)| record)
}

impl FileLocks {
    fn insert(&mut self, record: Record) {
        if record.exclusive {
            self.exclusive.insert(record.start, record);
        } else {
            self.shared.insert(record.start, record.last, record.owner.number());
        }
        self.records.entry(record.owner).or_default().insert(record.start, record);
        self.count += 1;
    }

    fn remove(&mut self, record: &Record) {
        if record.exclusive {
            self.exclusive.remove(&record.start);
        } else {
            self.shared.remove(record.start, record.last, record.owner.number());
        }
        if let Some(own) = self.records.get_mut(&record.owner)
            && own.remove(&record.start).is_some()
        {
            self.count -= 1;
            if own.is_empty() {
                self.records.remove(&record.owner);
            }
        }
    }

    /// The locks of all owners, including this one's, that overlap a lock such that at least one of the two is a write
    /// lock.
    fn overlapping(&self, wanted: Record) -> impl Iterator<Item = &Record> {
        let shared = wanted.exclusive.then(|| self.shared.overlapping(wanted.start, wanted.last));
        let shared = shared.into_iter().flatten().filter_map(|(owner, at)| {
            let own = self.records.get(&Owner::of(owner))?;
            overlapping(own, at, at).next()
        });
        overlapping(&self.exclusive, wanted.start, wanted.last).chain(shared)
    }

    /// The locks that conflict with one.
    fn blockers(&self, wanted: Record) -> impl Iterator<Item = &Record> {
        self.overlapping(wanted).filter(move |record| record.conflicts(&wanted))
    }

    /// The first conflicting lock by owner and offset. If there are very many, the first of some.
    fn first_blocker(&self, wanted: Record) -> Option<Record> {
        self.blockers(wanted).take(COMPARED).min_by_key(|record| (record.owner, record.start)).copied()
    }

    /// Removes a range from an owner's locks. Returns the first and the last byte that were locked, if any was.
    fn cut(&mut self, range: &Record) -> Option<(u64, u64)> {
        let touched: Vec<Record> = match self.records.get(&range.owner) {
            Some(own) => overlapping(own, range.start, range.last).copied().collect(),
            None => return None,
        };
        for record in &touched {
            self.remove(record);
            if record.start < range.start {
                self.insert(Record { last: range.start - 1, ..*record });
            }
            if record.last > range.last {
                self.insert(Record { start: range.last + 1, ..*record });
            }
        }
        Some((range.start.max(touched.first()?.start), range.last.min(touched.last()?.last)))
    }

    /// Adds a lock in a range where its owner has none, and merges it with adjacent ones of the same type.
    fn join(&mut self, mut record: Record) {
        let like = |other: &Record| other.exclusive == record.exclusive;
        let (before, after) = match self.records.get(&record.owner) {
            Some(own) => {
                let before = own.range(..record.start).next_back().map(|(_, other)| *other);
                let after = record.last.checked_add(1).and_then(|next| own.get(&next).copied());
                let touches = |other: &Record| other.last.checked_add(1) == Some(record.start);
                (before.filter(touches).filter(like), after.filter(like))
            }
            None => (None, None),
        };
        if let Some(before) = before {
            self.remove(&before);
            record.start = before.start;
        }
        if let Some(after) = after {
            self.remove(&after);
            record.last = after.last;
        }
        self.insert(record);
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records after a lock of the list. Records precede whole-file locks.
    fn records_behind(&self, last: Option<&Listed>) -> impl Iterator<Item = &Record> {
        let last_record = last.filter(|last| !last.whole).map(|last| last.record);
        let same = last_record.and_then(|last| Some((self.records.get(&last.owner)?, last.start)));
        let same = same.into_iter().flat_map(|(own, start)| own.range((Excluded(start), Unbounded)));
        let owners = last_record.map_or(Unbounded, |last| Excluded(last.owner));
        let others = last.is_none_or(|last| !last.whole).then(|| self.records.range((owners, Unbounded)));
        same.chain(others.into_iter().flatten().flat_map(|(_, own)| own)).map(|(_, record)| record)
    }

    /// The whole-file locks after a lock of the list.
    fn whole_behind(&self, last: Option<&Listed>) -> impl Iterator<Item = (&u64, &Whole)> {
        let first = match last.filter(|last| last.whole).map(|last| last.record.owner) {
            Some(Owner::Description(description)) => Excluded(description),
            _ => Unbounded,
        };
        self.whole.range((first, Unbounded))
    }

    fn len(&self) -> usize {
        self.count + self.whole.len()
    }
}

type Key = (Device, u64);

#[derive(Default)]
struct Table {
    files: BTreeMap<Key, FileLocks>,
    /// The locks that owners wait for, by owner and number of the wait, for deadlock detection.
    waits: BTreeMap<(Owner, u64), (Key, Record)>,
}

impl Table {
    /// Whether a new wait would close a cycle: whether owners of conflicting locks wait, directly or through other
    /// owners, for the owner of the new wait. The search is limited. It follows conflicts as they are now; a lock may
    /// be free for a waiter that has not yet run to take it. Also returns the number of locks and waits visited.
    fn find_circle(&self, begun: &(Key, Record)) -> (bool, usize) {
        let mut seen = BTreeSet::new();
        let mut open = VecDeque::new();
        let mut left = SEARCHED;
        let mut follow = |(key, wanted): &(Key, Record), open: &mut VecDeque<Owner>| {
            let Some(file) = self.files.get(key) else { return false };
            for record in file.overlapping(*wanted).take(left) {
                left -= 1;
                if record.conflicts(wanted) && seen.insert(record.owner) {
                    open.push_back(record.owner);
                }
            }
            left = left.saturating_sub(1);
            left > 0
        };
        follow(begun, &mut open);
        let mut found = false;
        while let Some(owner) = open.pop_front() {
            if owner == begun.1.owner {
                found = true;
                break;
            }
            for wait in self.waits.range((owner, 0)..=(owner, u64::MAX)).map(|(_, wait)| wait) {
                if !follow(wait, &mut open) {
                    break;
                }
            }
        }
        (found, SEARCHED - left)
    }
}

/// A lock in `/proc/locks`. Its text is the line without the line number.
pub(crate) struct Listed {
    device: Device,
    number: u64,
    record: Record,
    whole: bool,
}

impl Listed {
    /// Whether `/proc/PID/fdinfo` lists the lock for a descriptor of that description in that table.
    pub(crate) fn belongs_to(&self, table: u64, description: u64) -> bool {
        matches!(self.record.owner, Owner::Process(owner) if owner == table)
            || self.record.owner == Owner::Description(description)
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { owner, pid, exclusive, start, last } = self.record;
        let class = match (self.whole, owner) {
            (true, _) => "FLOCK ",
            (false, Owner::Process(_)) => "POSIX ",
            (false, Owner::Description(_)) => "OFDLCK",
        };
        let kind = if exclusive { "WRITE" } else { "READ " };
        let Device { major, minor } = self.device;
        write!(f, "{class} ADVISORY  {kind} {pid} {major:02x}:{minor:02x}:{} {start} ", self.number)?;
        if last >= i64::MAX as u64 { f.write_str("EOF") } else { write!(f, "{last}") }
    }
}

/// The file locks of a kernel.
pub(crate) struct Locks {
    /// The number of records and whole-file locks, so that closing a file costs nothing if there are no locks.
    count: AtomicUsize,
    table: Mutex<Table>,
    next_wait: AtomicU64,
}

/// A wait in progress, registered for deadlock detection until it is dropped.
pub(crate) struct Waiting<'a> {
    locks: &'a Locks,
    id: (Owner, u64),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.locks.table.lock().waits.remove(&self.id);
    }
}

impl Locks {
    pub(super) fn new() -> Self {
        let table = Mutex::new(Rank::Leaf, Table::default());
        Locks { count: AtomicUsize::new(0), table, next_wait: AtomicU64::new(1) }
    }

    fn with<T>(&self, key: Key, work: impl FnOnce(&mut FileLocks) -> T) -> T {
        let mut table = self.table.lock();
        let file = table.files.entry(key).or_default();
        let before = file.len();
        let result = work(file);
        let after = file.len();
        if file.is_empty() && file.waiters.is_empty() {
            table.files.remove(&key);
        }
        if after >= before {
            self.count.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.count.fetch_sub(before - after, Ordering::Relaxed);
        }
        result
    }

    /// The first record lock that conflicts with one, if there is any.
    pub(crate) fn blocker(&self, inode: &dyn Inode, wanted: &Record) -> Result<Option<Record>, Errno> {
        let key = inode.identity()?;
        Ok(self.with(key, |file| file.first_blocker(*wanted)))
    }

    /// Sets a record lock, replacing the owner's locks in the range.
    ///
    /// # Errors
    /// `EAGAIN` if a lock of another owner conflicts.
    pub(crate) fn set_record(&self, inode: &dyn Inode, wanted: Record) -> Result<(), Errno> {
        let key = inode.identity()?;
        let free = self.with(key, |file| {
            if file.blockers(wanted).next().is_some() {
                return Err(Errno::EAGAIN.here());
            }
            let weakened = file.cut(&wanted);
            file.join(wanted);
            Ok(weakened.map_or_else(Vec::new, |(start, last)| file.record_waiters(start, last)))
        })?;
        waiters::wake(&free);
        Ok(())
    }

    /// Removes the owner's record locks in a range.
    pub(crate) fn clear_record(&self, inode: &dyn Inode, range: Record) -> Result<(), Errno> {
        let key = inode.identity()?;
        let free = self.with(key, |file| match file.cut(&range) {
            Some((start, last)) => file.record_waiters(start, last),
            None => Vec::new(),
        });
        waiters::wake(&free);
        Ok(())
    }

    /// Registers a wait for a lock.
    ///
    /// # Errors
    /// `EDEADLK` if an owner of a conflicting lock waits for the same owner, directly or over other owners.
    pub(crate) fn begin_wait(&self, inode: &dyn Inode, wanted: Record) -> Result<Waiting<'_>, Errno> {
        let wait = (inode.identity()?, wanted);
        let mut table = self.table.lock();
        // Only processes are checked: a description may be shared, so a cycle is not necessarily a deadlock.
        if matches!(wanted.owner, Owner::Process(_)) && table.find_circle(&wait).0 {
            return Err(Errno::EDEADLK.here());
        }
        let id = (wanted.owner, self.next_wait.fetch_add(1, Ordering::Relaxed));
        table.waits.insert(id, wait);
        Ok(Waiting { locks: self, id })
    }

    /// Sets a whole-file lock of an open file description (flock(2)), or changes its type.
    ///
    /// # Errors
    /// `EAGAIN` if a lock of another description conflicts. The old lock is lost then, as on Linux.
    pub(crate) fn set_whole(
        &self,
        inode: &dyn Inode,
        description: u64,
        pid: i32,
        exclusive: bool,
    ) -> Result<(), Errno> {
        let key = inode.identity()?;
        let (result, free) = self.with(key, |file| {
            if file.whole.get(&description).is_some_and(|w| w.exclusive == exclusive) {
                return (Ok(()), Vec::new());
            }
            let had = file.whole.remove(&description).is_some();
            // There is at most one exclusive lock, and then no other.
            if file.whole.values().next().is_some_and(|w| exclusive || w.exclusive) {
                return (Err(Errno::EAGAIN.here()), if had { file.whole_waiters() } else { Vec::new() });
            }
            file.whole.insert(description, Whole { pid, exclusive });
            (Ok(()), if had { file.whole_waiters() } else { Vec::new() })
        });
        waiters::wake(&free);
        result
    }

    /// Removes the lock that [`set_whole`](Self::set_whole) set.
    pub(crate) fn clear_whole(&self, inode: &dyn Inode, description: u64) -> Result<(), Errno> {
        let key = inode.identity()?;
        let free = self.with(key, |file| match file.whole.remove(&description) {
            Some(_) => file.whole_waiters(),
            None => Vec::new(),
        });
        waiters::wake(&free);
        Ok(())
    }

    /// Whether there is any lock.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Removes the record locks of a process on the file, because it closed a descriptor of it.
    pub(crate) fn release_process(&self, inode: &dyn Inode, owner: Owner) {
        // A file without an identity has no locks.
        let _ = self.clear_record(inode, Record { owner, pid: 0, exclusive: true, start: 0, last: i64::MAX as u64 });
    }

    /// Removes all locks of an open file description, because it was released.
    pub(crate) fn release_description(&self, inode: &dyn Inode, description: u64) {
        self.release_process(inode, Owner::Description(description));
        let _ = self.clear_whole(inode, description);
    }

    /// The first `most` locks after `last`, or from the beginning, of all files or of one.
    pub(crate) fn listed(&self, inode: Option<&dyn Inode>, last: Option<&Listed>, most: usize) -> Vec<Listed> {
        let Ok(only) = inode.map(Inode::identity).transpose() else { return Vec::new() };
        let first = last.map(|last| (last.device, last.number)).or(only).map_or(Unbounded, Included);
        let table = self.table.lock();
        let files = table.files.range((first, Unbounded)).take_while(|(key, _)| only.is_none_or(|only| only == **key));
        let locks = files.flat_map(|(&(device, number), file)| {
            let last = last.filter(|last| (last.device, last.number) == (device, number));
            let records = file.records_behind(last);
            let records = records.map(move |&record| Listed { device, number, record, whole: false });
            let whole = file.whole_behind(last).map(move |(&description, &Whole { pid, exclusive })| {
                let owner = Owner::Description(description);
                let record = Record { owner, pid, exclusive, start: 0, last: i64::MAX as u64 };
                Listed { device, number, record, whole: true }
            });
            records.chain(whole)
        });
        locks.take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_and_joining() {
        let owner = Owner::Process(1);
        let record = |start, last, exclusive| Record { owner, pid: 1, exclusive, start, last };
        let mut locks = FileLocks::default();
        let set = |locks: &mut FileLocks, record: Record| {
            locks.cut(&record);
            locks.join(record);
            locks.records[&owner].values().copied().collect::<Vec<_>>()
        };
        assert_eq!(set(&mut locks, record(0, 99, false)), [record(0, 99, false)]);
        let parts = [record(0, 9, false), record(10, 19, true), record(20, 99, false)];
        assert_eq!(set(&mut locks, record(10, 19, true)), parts);
        assert_eq!((locks.count, locks.exclusive.len(), locks.shared.overlapping(0, 99).count()), (3, 1, 2));
        assert_eq!(set(&mut locks, record(10, 19, false)), [record(0, 99, false)]);
        assert_eq!(locks.cut(&record(50, u64::MAX, true)), Some((50, 99)));
        assert_eq!(locks.cut(&record(0, u64::MAX, true)), Some((0, 49)));
        assert!(locks.cut(&record(0, u64::MAX, true)).is_none() && locks.is_empty());
        assert!(locks.records.is_empty() && locks.shared.is_empty() && locks.exclusive.is_empty());
    }

    /// The key of the file with that number.
    fn key(number: u64) -> Key {
        (Device { major: 0, minor: 1 }, number)
    }

    fn of_process(process: u64, start: u64, exclusive: bool) -> Record {
        Record { owner: Owner::Process(process), pid: 1, exclusive, start, last: start }
    }

    #[test]
    fn locks_of_other_places_are_not_looked_at() {
        let mut locks = FileLocks::default();
        (0..10_000).for_each(|at| locks.join(of_process(at, at, false)));
        assert_eq!(locks.overlapping(of_process(1, 7000, true)).count(), 1);
        assert_eq!(locks.first_blocker(of_process(1, 7000, true)), Some(of_process(7000, 7000, false)));
        assert_eq!(
            locks.first_blocker(Record { last: 9000, ..of_process(1, 7000, true) }).map(|r| r.start),
            Some(7000)
        );
        assert_eq!(locks.first_blocker(of_process(7000, 7000, true)), None);
    }

    #[test]
    fn circles_are_found_and_the_search_for_them_ends() {
        const EACH: u64 = 200;
        let mut table = Table::default();
        // Three groups of processes: the third holds the second file; the second holds the first file and waits for the
        // second.
        for process in 0..EACH {
            table.files.entry(key(2)).or_default().join(of_process(process, 0, false));
            table.files.entry(key(1)).or_default().join(of_process(EACH + process, 0, false));
            let owner = Owner::Process(EACH + process);
            table.waits.insert((owner, process), (key(2), of_process(EACH + process, 0, true)));
        }
        let begun = (key(1), of_process(2 * EACH, 0, true));
        let (found, looked_at) = table.find_circle(&begun);
        assert!(!found && looked_at <= SEARCHED, "{looked_at}");
        // A process of the third group waits for a lock of the second group.
        table.waits.insert((Owner::Process(7), EACH), (key(1), of_process(7, 0, true)));
        assert!(table.find_circle(&(key(2), of_process(EACH, 0, true))).0);
        assert!(!table.find_circle(&(key(3), of_process(EACH, 0, true))).0);
    }

    #[test]
    fn lists_go_on_behind_any_lock() {
        let record = |owner, start| Record { owner, pid: 1, exclusive: false, start, last: start };
        let (one, two) = (Owner::Process(1), Owner::Description(2));
        let mut locks = FileLocks::default();
        let all = [record(one, 0), record(one, 5), record(two, 0)];
        all.iter().for_each(|record| locks.insert(*record));
        locks.whole.extend([3, 4].map(|description| (description, Whole { pid: 1, exclusive: false })));
        let listed = |record: Record, whole| Listed { device: Device::default(), number: 1, record, whole };
        let behind = |last: Option<Listed>| {
            let records: Vec<Record> = locks.records_behind(last.as_ref()).copied().collect();
            (records, locks.whole_behind(last.as_ref()).map(|(description, _)| *description).collect::<Vec<_>>())
        };
        assert_eq!(behind(None), (all.to_vec(), vec![3, 4]));
        assert_eq!(behind(Some(listed(all[0], false))), (all[1..].to_vec(), vec![3, 4]));
        // A lock that was removed in the meantime, together with its owner.
        assert_eq!(behind(Some(listed(record(Owner::Process(9), 7), false))), (all[2..].to_vec(), vec![3, 4]));
        assert_eq!(behind(Some(listed(all[2], false))), (vec![], vec![3, 4]));
        assert_eq!(behind(Some(listed(record(Owner::Description(3), 0), true))), (vec![], vec![4]));
    }

    #[test]
    fn locks_of_others_stand_in_the_way() {
        let record = |owner, start, last, exclusive| Record { owner, pid: 1, exclusive, start, last };
        let (one, two) = (Owner::Process(1), Owner::Process(2));
        let mut locks = FileLocks::default();
        locks.join(record(one, 0, 9, true));
        locks.join(record(one, 10, 19, false));
        let blocked = |wanted| locks.blockers(wanted).next().map(|r| r.start);
        assert_eq!(blocked(record(one, 0, 99, true)), None);
        assert_eq!(blocked(record(two, 5, 30, false)), Some(0));
        assert_eq!(blocked(record(two, 10, 30, false)), None);
        assert_eq!(blocked(record(two, 15, 30, true)), Some(10));
        assert_eq!(blocked(record(two, 20, 30, true)), None);
    }
}
