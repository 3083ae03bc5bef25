//! File locks: record locks of processes and of open file descriptions (fcntl(2)), and whole-file locks (flock(2)).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use amber_abi::errno::Errno;
use amber_abi::stat::Device;

use crate::sync::{Mutex, Rank};
use crate::vfs::Inode;

mod waiters;

use waiters::Waiters;
pub use waiters::{Wanted, while_waiting};

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A process, by the number of its descriptor table.
    Process(u64),
    /// An open file description, by its number.
    Description(u64),
}

/// A record lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it.
    pub owner: Owner,
    /// The process that made it, as `F_GETLK` tells; -1 for a description's.
    pub pid: i32,
    /// Nobody else may have any lock there; else nobody may have such a one.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// Last byte, `i64::MAX` for all that may come.
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

/// A lock of a whole file.
#[derive(Clone, Copy)]
struct Whole {
    /// The process that made it.
    pid: i32,
    exclusive: bool,
}

#[derive(Default)]
struct FileLocks {
    /// Those of each owner by their first byte; they do not overlap.
    records: BTreeMap<Owner, BTreeMap<u64, Record>>,
    /// The exclusive ones of all owners, which do not overlap either.
    exclusive: BTreeMap<u64, Record>,
    /// How many shared ones each owner has that has any.
    sharers: BTreeMap<Owner, usize>,
    /// Whole-file locks by the open file description that holds them.
    whole: BTreeMap<u64, Whole>,
    /// How many record locks there are.
    count: usize,
    /// The waiters for any of them.
    waiters: Waiters,
}

/// The records of a list without overlaps that overlap a range, from the first byte on.
fn overlapping(list: &BTreeMap<u64, Record>, start: u64, last: u64) -> impl Iterator<Item = &Record> {
    let before = list.range(..start).next_back().filter(|(_, record)| record.last >= start);
    before.into_iter().chain(list.range(start..=last)).map(|(_, record)| record)
}

impl FileLocks {
    fn insert(&mut self, record: Record) {
        if record.exclusive {
            self.exclusive.insert(record.start, record);
        } else {
            *self.sharers.entry(record.owner).or_insert(0) += 1;
        }
        self.records.entry(record.owner).or_default().insert(record.start, record);
        self.count += 1;
    }

    fn remove(&mut self, record: &Record) {
        if record.exclusive {
            self.exclusive.remove(&record.start);
        } else if let Some(count) = self.sharers.get_mut(&record.owner) {
            *count -= 1;
            if *count == 0 {
                self.sharers.remove(&record.owner);
            }
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

    /// The locks that stand in the way of one.
    fn blockers(&self, wanted: Record) -> impl Iterator<Item = &Record> {
        let sharers = self.sharers.keys().filter(move |_| wanted.exclusive);
        let shared = sharers
            .filter_map(|owner| self.records.get(owner))
            .flat_map(move |own| overlapping(own, wanted.start, wanted.last));
        let all = overlapping(&self.exclusive, wanted.start, wanted.last).chain(shared.filter(|r| !r.exclusive));
        all.filter(move |record| record.conflicts(&wanted))
    }

    /// Takes a range out of an owner's locks; answers the first and the last byte that were locked, if any was.
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

    /// Adds a lock where its owner has none, joined with those of its kind that touch it.
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

    fn len(&self) -> usize {
        self.count + self.whole.len()
    }
}

type Key = (Device, u64);

/// How many records and whole-file locks there are, so that closing a file of a system without locks costs nothing.
static LOCKS: AtomicUsize = AtomicUsize::new(0);
static TABLE: Mutex<Option<Table>> = Mutex::new(Rank::Leaf, None);

#[derive(Default)]
struct Table {
    files: HashMap<Key, FileLocks>,
    /// Which locks who waits for, by a number of each wait, to find circles.
    waits: BTreeMap<(Owner, u64), (Key, Record)>,
}

impl Table {
    /// Who stands in the way of a lock at this moment.
    fn blockers(&self, (key, wanted): &(Key, Record)) -> impl Iterator<Item = Owner> {
        let wanted = *wanted;
        self.files.get(key).into_iter().flat_map(move |file| file.blockers(wanted)).map(|record| record.owner)
    }
}

/// A wait under way, for the search of circles; it ends when dropped.
pub struct Waiting((Owner, u64));

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(table) = TABLE.lock().as_mut() {
            table.waits.remove(&self.0);
        }
    }
}

fn with<T>(key: Key, work: impl FnOnce(&mut FileLocks) -> T) -> T {
    let mut guard = TABLE.lock();
    let table = guard.get_or_insert_default();
    let file = table.files.entry(key).or_default();
    let before = file.len();
    let result = work(file);
    let after = file.len();
    if file.is_empty() && file.waiters.is_empty() {
        table.files.remove(&key);
    }
    if after >= before {
        LOCKS.fetch_add(after - before, Ordering::Relaxed);
    } else {
        LOCKS.fetch_sub(before - after, Ordering::Relaxed);
    }
    result
}

/// Who stands in the way of a record lock, if somebody does.
pub fn blocker(inode: &dyn Inode, wanted: &Record) -> Result<Option<Record>, Errno> {
    let key = inode.identity()?;
    Ok(with(key, |file| file.blockers(*wanted).next().copied()))
}

/// Sets a record lock in place of what the owner had there.
///
/// # Errors
/// `EAGAIN` if another owner stands in the way.
pub fn set_record(inode: &dyn Inode, wanted: Record) -> Result<(), Errno> {
    let key = inode.identity()?;
    let free = with(key, |file| {
        if file.blockers(wanted).next().is_some() {
            return Err(Errno::EAGAIN);
        }
        let weakened = file.cut(&wanted);
        file.join(wanted);
        Ok(weakened.map_or_else(Vec::new, |(start, last)| file.record_waiters(start, last)))
    })?;
    waiters::wake(&free);
    Ok(())
}

/// Takes the owner's record locks in a range away.
pub fn clear_record(inode: &dyn Inode, range: Record) -> Result<(), Errno> {
    let key = inode.identity()?;
    let free = with(key, |file| match file.cut(&range) {
        Some((start, last)) => file.record_waiters(start, last),
        None => Vec::new(),
    });
    waiters::wake(&free);
    Ok(())
}

/// Notes that somebody waits for a lock.
///
/// # Errors
/// `EDEADLK` if who stands in the way waits for the same owner, over however many others.
pub fn begin_wait(inode: &dyn Inode, wanted: Record) -> Result<Waiting, Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let wait = (inode.identity()?, wanted);
    let mut guard = TABLE.lock();
    let table = guard.get_or_insert_default();
    // Only processes are looked at: a description may be shared, so a circle is none for sure.
    if matches!(wanted.owner, Owner::Process(_)) {
        let mut open: Vec<Owner> = table.blockers(&wait).collect();
        let mut seen: BTreeSet<Owner> = open.iter().copied().collect();
        while let Some(owner) = open.pop() {
            if owner == wanted.owner {
                return Err(Errno::EDEADLK);
            }
            // A lock may have been freed for somebody who has not yet run to take it: what counts is who blocks now.
            for wait in table.waits.range((owner, 0)..=(owner, u64::MAX)).map(|(_, wait)| wait) {
                open.extend(table.blockers(wait).filter(|next| seen.insert(*next)));
            }
        }
    }
    let id = (wanted.owner, NEXT.fetch_add(1, Ordering::Relaxed));
    table.waits.insert(id, wait);
    Ok(Waiting(id))
}

/// Locks the whole file for an open file description (flock(2)), changing the lock it has.
///
/// # Errors
/// `EAGAIN` if another description stands in the way; then the old lock is gone, as on Linux.
pub fn set_whole(inode: &dyn Inode, description: u64, pid: i32, exclusive: bool) -> Result<(), Errno> {
    let key = inode.identity()?;
    let (result, free) = with(key, |file| {
        if file.whole.get(&description).is_some_and(|w| w.exclusive == exclusive) {
            return (Ok(()), Vec::new());
        }
        let had = file.whole.remove(&description).is_some();
        // Of exclusive ones there is one at most, and then it is alone.
        if file.whole.values().next().is_some_and(|w| exclusive || w.exclusive) {
            return (Err(Errno::EAGAIN), if had { file.whole_waiters() } else { Vec::new() });
        }
        file.whole.insert(description, Whole { pid, exclusive });
        (Ok(()), if had { file.whole_waiters() } else { Vec::new() })
    });
    waiters::wake(&free);
    result
}

/// Unlocks what [`set_whole`] locked.
pub fn clear_whole(inode: &dyn Inode, description: u64) -> Result<(), Errno> {
    let key = inode.identity()?;
    let free = with(key, |file| match file.whole.remove(&description) {
        Some(_) => file.whole_waiters(),
        None => Vec::new(),
    });
    waiters::wake(&free);
    Ok(())
}

/// Whether there is any lock at all.
pub fn any() -> bool {
    LOCKS.load(Ordering::Relaxed) > 0
}

/// A process closed a descriptor of the file: its record locks there are gone.
pub fn release_process(inode: &dyn Inode, owner: Owner) {
    // A file whose identity cannot be told any more never had locks.
    let _ = clear_record(inode, Record { owner, pid: 0, exclusive: true, start: 0, last: i64::MAX as u64 });
}

/// An open file description is gone, with all its locks.
pub fn release_description(inode: &dyn Inode, description: u64) {
    release_process(inode, Owner::Description(description));
    let _ = clear_whole(inode, description);
}

/// A lock as `/proc/locks` lists it; its text is what follows the number of the line.
pub struct Listed {
    device: Device,
    number: u64,
    record: Record,
    whole: bool,
}

impl Listed {
    /// Whether `/proc/PID/fdinfo` lists it with a descriptor of that description in that table.
    pub fn belongs_to(&self, table: u64, description: u64) -> bool {
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

/// All locks, or those of one file.
pub fn all(inode: Option<&dyn Inode>) -> Vec<Listed> {
    let only = inode.map(Inode::identity);
    let guard = TABLE.lock();
    let mut all = Vec::new();
    for (&(device, number), file) in guard.iter().flat_map(|t| &t.files) {
        if only.as_ref().is_some_and(|only| *only != Ok((device, number))) {
            continue;
        }
        let records = file.records.values().flat_map(BTreeMap::values);
        all.extend(records.map(|&record| Listed { device, number, record, whole: false }));
        all.extend(file.whole.iter().map(|(&description, &Whole { pid, exclusive })| {
            let owner = Owner::Description(description);
            let record = Record { owner, pid, exclusive, start: 0, last: i64::MAX as u64 };
            Listed { device, number, record, whole: true }
        }));
    }
    all
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
        assert_eq!((locks.count, locks.exclusive.len(), locks.sharers[&owner]), (3, 1, 2));
        assert_eq!(set(&mut locks, record(10, 19, false)), [record(0, 99, false)]);
        assert_eq!(locks.cut(&record(50, u64::MAX, true)), Some((50, 99)));
        assert_eq!(locks.cut(&record(0, u64::MAX, true)), Some((0, 49)));
        assert!(locks.cut(&record(0, u64::MAX, true)).is_none() && locks.is_empty());
        assert!(locks.records.is_empty() && locks.sharers.is_empty() && locks.exclusive.is_empty());
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
