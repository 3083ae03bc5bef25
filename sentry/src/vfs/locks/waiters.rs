//! The waiters for locks of a file. When locks are freed, only waiters that can get theirs are woken, in the order of
//! their arrival. Waking all would cost a long queue one attempt per waiter for each freed lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amber_abi::errno::Errno;

use super::{FileLocks, Locks, Owner, Record, Whole};
use crate::vfs::Inode;
use crate::wait::WaitQueue;

/// The lock that a waiter requests.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// A record lock.
    Record(Record),
    /// A whole-file lock.
    Whole {
        /// Whether it is exclusive.
        exclusive: bool,
    },
}

/// A waiter.
#[derive(Default)]
pub(super) struct Sleeper {
    queue: WaitQueue,
    /// Whether it was woken and has not retried since.
    woken: AtomicBool,
}

/// The waiters for locks of one file, by an increasing number.
#[derive(Default)]
pub(super) struct Waiters {
    records: BTreeMap<u64, (Record, Arc<Sleeper>)>,
    /// Waiters for whole-file locks, with whether these are exclusive.
    whole: BTreeMap<u64, (bool, Arc<Sleeper>)>,
    /// The number of waiters in `whole` for shared locks.
    sharing: usize,
    last: u64,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.whole.is_empty()
    }

    fn add(&mut self, wanted: Wanted, queue: Arc<Sleeper>) -> u64 {
        self.last += 1;
        match wanted {
            Wanted::Record(record) => drop(self.records.insert(self.last, (record, queue))),
            Wanted::Whole { exclusive } => {
                self.sharing += usize::from(!exclusive);
                self.whole.insert(self.last, (exclusive, queue));
            }
        }
        self.last
    }

    fn remove(&mut self, number: u64) {
        self.records.remove(&number);
        if let Some((false, _)) = self.whole.remove(&number) {
            self.sharing -= 1;
        }
    }
}

impl FileLocks {
    /// The waiters to wake after record locks in a range were freed.
    pub(super) fn record_waiters(&self, start: u64, last: u64) -> Vec<Arc<Sleeper>> {
        let freed = Record { owner: Owner::Process(0), pid: 0, exclusive: true, start, last };
        let mut woken = Vec::new();
        // The locks that the waiters woken so far are about to take.
        let mut taken = FileLocks::default();
        // The owner about to take the whole freed range: of the remaining waiters, only its own can get any of it.
        let mut sole = None;
        // A lock that conflicts with one waiter probably conflicts with the next ones too.
        let mut in_way: Option<Record> = None;
        for (wanted, queue) in self.waiters.records.values().filter(|(wanted, _)| wanted.overlaps(&freed)) {
            if sole.is_some_and(|owner| owner != wanted.owner) {
                continue;
            }
            if in_way.is_some_and(|record| record.conflicts(wanted)) {
                continue;
            }
            if let Some(record) = self.blockers(*wanted).next().or_else(|| taken.blockers(*wanted).next()) {
                in_way = Some(*record);
                continue;
            }
            woken.push(queue.clone());
            if wanted.exclusive && wanted.start <= start && wanted.last >= last {
                sole = Some(wanted.owner);
            }
            taken.cut(wanted);
            taken.join(*wanted);
        }
        woken
    }

    /// The waiters to wake after a whole-file lock was freed.
    pub(super) fn whole_waiters(&self) -> Vec<Arc<Sleeper>> {
        let mut held = !self.whole.is_empty();
        if self.whole.values().next().is_some_and(|whole: &Whole| whole.exclusive)
            || (held && self.waiters.sharing == 0)
        {
            return Vec::new();
        }
        let mut woken = Vec::new();
        for (exclusive, queue) in self.waiters.whole.values() {
            if *exclusive && held {
                continue;
            }
            woken.push(queue.clone());
            held = true;
            if *exclusive || woken.len() == self.waiters.sharing {
                break;
            }
        }
        woken
    }

    fn free_for(&self, wanted: Wanted) -> Vec<Arc<Sleeper>> {
        match wanted {
            Wanted::Record(record) => self.record_waiters(record.start, record.last),
            Wanted::Whole { .. } => self.whole_waiters(),
        }
    }
}

/// Wakes waiters that can get their locks.
pub(super) fn wake(free: &[Arc<Sleeper>]) {
    for sleeper in free {
        sleeper.woken.store(true, Ordering::Release);
        sleeper.queue.notify_all();
    }
}

impl Locks {
    /// Runs `wait`, which sleeps on the queue until the function it is passed returns a result: that of `attempt`,
    /// unless the lock is not available yet. If a woken waiter fails or gives up, the waiters behind it are considered
    /// in its place.
    ///
    /// # Errors
    /// `ESTALE` and similar errors for a file without an identity.
    pub(crate) fn while_waiting<E>(
        &self,
        inode: &dyn Inode,
        wanted: Wanted,
        mut attempt: impl FnMut() -> Option<Result<(), Errno>>,
        wait: impl FnOnce(&WaitQueue, &mut dyn FnMut() -> Option<Result<(), Errno>>) -> Result<Result<(), Errno>, E>,
    ) -> Result<Result<Result<(), Errno>, E>, Errno> {
        let key = inode.identity()?;
        let sleeper = Arc::new(Sleeper::default());
        let number = self.with(key, |file| file.waiters.add(wanted, sleeper.clone()));
        let result = wait(&sleeper.queue, &mut || {
            let answer = attempt();
            if answer.is_none() && sleeper.woken.swap(false, Ordering::AcqRel) {
                wake(&self.with(key, |file| file.free_for(wanted)));
            }
            answer
        });
        let next = self.with(key, |file| {
            file.waiters.remove(number);
            if matches!(result, Ok(Ok(()))) { Vec::new() } else { file.free_for(wanted) }
        });
        wake(&next);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(locks: &mut FileLocks, exclusive: bool) -> Arc<Sleeper> {
        let queue = Arc::<Sleeper>::default();
        locks.waiters.add(Wanted::Whole { exclusive }, queue.clone());
        queue
    }

    fn record(locks: &mut FileLocks, owner: u64, start: u64, last: u64, exclusive: bool) -> Arc<Sleeper> {
        let queue = Arc::<Sleeper>::default();
        let record = Record { owner: Owner::Process(owner), pid: 0, exclusive, start, last };
        locks.waiters.add(Wanted::Record(record), queue.clone());
        queue
    }

    fn are(woken: &[Arc<Sleeper>], wanted: &[&Arc<Sleeper>]) -> bool {
        woken.len() == wanted.len() && woken.iter().zip(wanted).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    #[test]
    fn one_exclusive_or_all_shared_locks_of_a_file_follow() {
        let mut locks = FileLocks::default();
        let first = whole(&mut locks, true);
        whole(&mut locks, true);
        assert!(are(&locks.whole_waiters(), &[&first]));
        locks.whole.insert(1, Whole { pid: 1, exclusive: false });
        assert!(are(&locks.whole_waiters(), &[]));
        let shared = (whole(&mut locks, false), whole(&mut locks, false));
        assert!(are(&locks.whole_waiters(), &[&shared.0, &shared.1]));
        locks.whole.insert(1, Whole { pid: 1, exclusive: true });
        assert!(are(&locks.whole_waiters(), &[]));
        locks.whole.clear();
        locks.waiters.remove(1);
        locks.waiters.remove(2);
        assert!(are(&locks.whole_waiters(), &[&shared.0, &shared.1]));
        locks.waiters.remove(3);
        locks.waiters.remove(4);
        assert!(locks.waiters.is_empty() && locks.waiters.sharing == 0);
    }

    #[test]
    fn record_locks_follow_that_do_not_exclude_each_other() {
        let mut locks = FileLocks::default();
        let left = record(&mut locks, 1, 0, 4, true);
        let right = record(&mut locks, 2, 5, 9, false);
        record(&mut locks, 3, 0, 9, true);
        let shared = record(&mut locks, 4, 6, 7, false);
        record(&mut locks, 5, 100, 200, true);
        assert!(are(&locks.record_waiters(0, 9), &[&left, &right, &shared]));
        assert!(are(&locks.record_waiters(0, 4), &[&left]));
        locks.join(Record { owner: Owner::Process(9), pid: 0, exclusive: true, start: 0, last: 0 });
        assert!(are(&locks.record_waiters(0, 9), &[&right, &shared]));
    }
}
