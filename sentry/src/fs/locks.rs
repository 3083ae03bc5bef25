//! File locks: record locks of processes and of open file descriptions (fcntl(2)), and whole-file locks (flock(2)).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use amber_abi::errno::Errno;
use amber_abi::stat::Device;

use crate::fs::Inode;
use crate::sync::{Mutex, Rank};
use crate::wait::WaitQueue;

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
    /// The open file description that holds it, by its number.
    description: u64,
    /// The process that made it.
    pid: i32,
    exclusive: bool,
}

#[derive(Default)]
struct FileLocks {
    records: Vec<Record>,
    whole: Vec<Whole>,
    /// Told when something was unlocked.
    freed: Arc<Freed>,
}

#[derive(Default)]
struct Freed(WaitQueue);

type Key = (Device, u64);

/// How many records and whole-file locks there are, so that closing a file of a system without locks costs nothing.
static LOCKS: AtomicUsize = AtomicUsize::new(0);
static TABLE: Mutex<Option<Table>> = Mutex::new(Rank::Leaf, None);

#[derive(Default)]
struct Table {
    files: HashMap<Key, FileLocks>,
    /// Which locks who waits for, by a number of each wait, to find circles.
    waits: BTreeMap<u64, (Key, Record)>,
}

impl Table {
    /// Who stands in the way of a lock at this moment.
    fn blockers(&self, (key, wanted): &(Key, Record)) -> impl Iterator<Item = Owner> {
        let records = self.files.get(key).into_iter().flat_map(|file| &file.records);
        records.filter(|record| record.conflicts(wanted)).map(|record| record.owner)
    }
}

/// A wait under way, for the search of circles; it ends when dropped.
pub struct Waiting(u64);

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
    let before = file.records.len() + file.whole.len();
    let result = work(file);
    let after = file.records.len() + file.whole.len();
    if after == 0 && Arc::strong_count(&file.freed) == 1 {
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
    Ok(with(key, |file| file.records.iter().find(|r| r.conflicts(wanted)).copied()))
}

/// Sets a record lock in place of what the owner had there.
///
/// # Errors
/// `EAGAIN` if another owner stands in the way.
pub fn set_record(inode: &dyn Inode, wanted: Record) -> Result<(), Errno> {
    let key = inode.identity()?;
    let freed = with(key, |file| {
        if file.records.iter().any(|r| r.conflicts(&wanted)) {
            return Err(Errno::EAGAIN);
        }
        let weakened = cut(&mut file.records, &wanted);
        file.records.push(wanted);
        merge(&mut file.records, wanted.owner);
        Ok(weakened.then(|| file.freed.clone()))
    })?;
    if let Some(freed) = freed {
        freed.0.notify_all();
    }
    Ok(())
}

/// Takes the owner's record locks in a range away.
pub fn clear_record(inode: &dyn Inode, range: Record) -> Result<(), Errno> {
    let key = inode.identity()?;
    let freed = with(key, |file| {
        cut(&mut file.records, &range);
        file.freed.clone()
    });
    freed.0.notify_all();
    tidy(key, freed);
    Ok(())
}

/// Takes a range out of the owner's locks; says whether there was anything.
fn cut(records: &mut Vec<Record>, range: &Record) -> bool {
    let mut kept = Vec::with_capacity(records.len() + 1);
    let mut touched = false;
    for record in records.drain(..) {
        if record.owner != range.owner || !record.overlaps(range) {
            kept.push(record);
            continue;
        }
        touched = true;
        if record.start < range.start {
            kept.push(Record { last: range.start - 1, ..record });
        }
        if record.last > range.last {
            kept.push(Record { start: range.last + 1, ..record });
        }
    }
    *records = kept;
    touched
}

/// Joins an owner's locks of one kind that touch each other.
fn merge(records: &mut Vec<Record>, owner: Owner) {
    records.sort_by_key(|r| (r.owner, r.exclusive, r.start));
    records.dedup_by(|next, record| {
        let joins = record.owner == owner
            && next.owner == owner
            && record.exclusive == next.exclusive
            && next.start <= record.last.saturating_add(1);
        if joins {
            record.last = record.last.max(next.last);
        }
        joins
    });
}

/// Forgets a file without locks.
fn tidy(key: Key, freed: Arc<Freed>) {
    drop(freed);
    with(key, |_| ());
}

/// Runs `wait` with the queue that tells when locks of the file are freed.
pub fn while_waiting<T>(inode: &dyn Inode, wait: impl FnOnce(&WaitQueue) -> T) -> Result<T, Errno> {
    let key = inode.identity()?;
    let freed = with(key, |file| file.freed.clone());
    let result = wait(&freed.0);
    tidy(key, freed);
    Ok(result)
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
            for wait in table.waits.values().filter(|(_, record)| record.owner == owner) {
                open.extend(table.blockers(wait).filter(|next| seen.insert(*next)));
            }
        }
    }
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    table.waits.insert(id, wait);
    Ok(Waiting(id))
}

/// Locks the whole file for an open file description (flock(2)), changing the lock it has.
///
/// # Errors
/// `EAGAIN` if another description stands in the way; then the old lock is gone, as on Linux.
pub fn set_whole(inode: &dyn Inode, description: u64, pid: i32, exclusive: bool) -> Result<(), Errno> {
    let key = inode.identity()?;
    let (result, freed) = with(key, |file| {
        let had = file.whole.len();
        if file.whole.iter().any(|w| (w.description, w.exclusive) == (description, exclusive)) {
            return (Ok(()), None);
        }
        file.whole.retain(|w| w.description != description);
        let freed = (file.whole.len() < had).then(|| file.freed.clone());
        if file.whole.iter().any(|w| exclusive || w.exclusive) {
            return (Err(Errno::EAGAIN), freed);
        }
        file.whole.push(Whole { description, pid, exclusive });
        (Ok(()), freed)
    });
    if let Some(freed) = freed {
        freed.0.notify_all();
    }
    result
}

/// Unlocks what [`set_whole`] locked.
pub fn clear_whole(inode: &dyn Inode, description: u64) -> Result<(), Errno> {
    let key = inode.identity()?;
    let freed = with(key, |file| {
        file.whole.retain(|w| w.description != description);
        file.freed.clone()
    });
    freed.0.notify_all();
    tidy(key, freed);
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
        all.extend(file.records.iter().map(|&record| Listed { device, number, record, whole: false }));
        all.extend(file.whole.iter().map(|&Whole { description, pid, exclusive }| {
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
    fn cutting_and_merging() {
        let owner = Owner::Process(1);
        let record = |start, last, exclusive| Record { owner, pid: 1, exclusive, start, last };
        let mut records = vec![record(0, 99, false)];
        assert!(cut(&mut records, &record(10, 19, true)));
        records.push(record(10, 19, true));
        merge(&mut records, owner);
        assert_eq!(records, [record(0, 9, false), record(20, 99, false), record(10, 19, true)]);
        cut(&mut records, &record(10, 19, false));
        records.push(record(10, 19, false));
        merge(&mut records, owner);
        assert_eq!(records, [record(0, 99, false)]);
    }
}
