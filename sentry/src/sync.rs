//! Mutexes and reader-writer locks with a rank in the lock order.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use amber_abi::errno::Errno;

use crate::interruption::check_killed;

/// Interval of checks for a kill while waiting for a lock that may be held long.
const KILL_CHECK: Duration = Duration::from_millis(10);

/// The rank of a lock. While a lock is held, only locks of higher ranks may be taken.
///
/// Two locks of one rank may be held together only by [`Mutex::lock_beside`], with a comment that excludes a deadlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The readiness check of an epoll, which polls the watched files.
    Epoll,
    /// A change of an inode's attributes and its permission check, which calls into the object that the inode represents.
    Attributes,
    /// The program and credentials of a thread group (Linux's `exec_update_lock`).
    Program,
    /// The process tree: PID table, parents, children, groups, sessions (Linux's `tasklist_lock`).
    Processes,
    /// The attachments of a terminal.
    Terminal,
    /// Signal handlers and pending signals of a thread group and its tasks.
    Signals,
    /// Fields of a task or thread group, below which no lock is taken.
    Task,
    /// A descriptor table.
    Files,
    /// The mount tree of a namespace.
    Mounts,
    /// A rename, which locks two directories.
    Rename,
    /// The dentry cache.
    Dentries,
    /// The layers of an overlay's inode, which are inodes themselves.
    Layers,
    /// Attributes and directory entries of an inode.
    Inode,
    /// Owners of ports. While it is held, sockets are queried for the addresses that they claim.
    Ports,
    /// The buffers of pipes, sockets, queues and the like.
    Buffer,
    /// The VMAs of an address space.
    Memory,
    /// The cached pages of a file.
    PageCache,
    /// The waiters of priority-inheritance futexes.
    LockChains,
    /// Futexes and their waiters.
    Futex,
    /// Timers and clocks.
    Timers,
    /// Wait queues and parked tasks; no lock is taken below.
    Wait,
    /// Small tables; no lock is taken below.
    Leaf,
}

#[cfg(debug_assertions)]
mod check {
    use super::Rank;
    use std::cell::RefCell;

    thread_local! {
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// Records that a lock is taken. Panics if this violates the order.
    pub(super) fn take(rank: Rank, beside: bool) {
        HELD.with_borrow_mut(|held| {
            if let Some(&top) = held.iter().max() {
                assert!(rank > top || (beside && rank == top), "lock order: {rank:?} taken while {top:?} is held");
            }
            held.push(rank);
        });
    }

    pub(super) fn give_back(rank: Rank) {
        HELD.with_borrow_mut(|held| {
            if let Some(at) = held.iter().rposition(|&r| r == rank) {
                held.remove(at);
            }
        });
    }

    pub(super) fn none_held() -> bool {
        HELD.with_borrow(|held| held.is_empty())
    }
}

#[cfg(not(debug_assertions))]
mod check {
    use super::Rank;

    pub fn take(_: Rank, _: bool) {}
    pub fn give_back(_: Rank) {}
    pub fn none_held() -> bool {
        true
    }
}

/// Admits a limited number of callers at a time.
#[derive(Debug)]
pub(crate) struct Gate {
    most: usize,
    inside: parking_lot::Mutex<usize>,
    left: parking_lot::Condvar,
}

/// The admission of a caller to a [`Gate`]; ends when dropped.
#[must_use]
pub(crate) struct Inside<'a>(&'a Gate);

impl Gate {
    /// A gate for `most` callers.
    pub(crate) const fn new(most: usize) -> Self {
        Gate { most, inside: parking_lot::Mutex::new(0), left: parking_lot::Condvar::new() }
    }

    /// Waits for admission.
    ///
    /// # Errors
    /// `EINTR` if the caller is killed while it waits.
    pub(crate) fn enter(&self) -> Result<Inside<'_>, Errno> {
        loop {
            {
                let mut inside = self.inside.lock();
                if *inside >= self.most {
                    self.left.wait_for(&mut inside, KILL_CHECK);
                }
                if *inside < self.most {
                    *inside += 1;
                    return Ok(Inside(self));
                }
            }
            check_killed()?;
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        *self.0.inside.lock() -= 1;
        self.0.left.notify_one();
    }
}

/// In debug builds, panics if this host thread holds a ranked lock. Called before waits and accesses to guest memory.
pub(crate) fn assert_none_held() {
    debug_assert!(check::none_held(), "a lock is held over a wait or an access to guest memory");
}

/// A mutex with a rank.
#[derive(Debug)]
pub(crate) struct Mutex<T: ?Sized> {
    rank: Rank,
    inner: parking_lot::Mutex<T>,
}

/// Access to the value of a [`Mutex`].
pub(crate) struct MutexGuard<'a, T: ?Sized> {
    inner: parking_lot::MutexGuard<'a, T>,
    _place: Place,
}

/// An entry in the list of held locks, removed on drop.
struct Place(Rank);

impl Place {
    fn take(rank: Rank, beside: bool) -> Place {
        check::take(rank, beside);
        Place(rank)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        check::give_back(self.0);
    }
}

impl<T> Mutex<T> {
    /// Makes a lock of this rank.
    pub(crate) const fn new(rank: Rank, value: T) -> Self {
        Mutex { rank, inner: parking_lot::Mutex::new(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// The value of a mutex that no other thread can reach.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let place = Place::take(self.rank, false);
        MutexGuard { inner: self.inner.lock(), _place: place }
    }

    /// Takes the lock while another of the same rank may be held. A comment at the call explains why there is no
    /// deadlock.
    pub(crate) fn lock_beside(&self) -> MutexGuard<'_, T> {
        let place = Place::take(self.rank, true);
        MutexGuard { inner: self.inner.lock(), _place: place }
    }

    /// Takes a lock that may be held for any length of time.
    ///
    /// # Errors
    /// `EINTR` if the caller is killed while it waits.
    pub(crate) fn lock_killable(&self) -> Result<MutexGuard<'_, T>, Errno> {
        let place = Place::take(self.rank, false);
        loop {
            if let Some(inner) = self.inner.try_lock_for(KILL_CHECK) {
                return Ok(MutexGuard { inner, _place: place });
            }
            check_killed()?;
        }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A reader-writer lock with a rank.
#[derive(Debug)]
pub(crate) struct RwLock<T: ?Sized> {
    rank: Rank,
    inner: parking_lot::RwLock<T>,
}

/// Shared access to the value of a [`RwLock`].
pub(crate) struct ReadGuard<'a, T: ?Sized> {
    inner: parking_lot::RwLockReadGuard<'a, T>,
    _place: Place,
}

/// Exclusive access to the value of a [`RwLock`].
pub(crate) struct WriteGuard<'a, T: ?Sized> {
    inner: parking_lot::RwLockWriteGuard<'a, T>,
    _place: Place,
}

impl<T> RwLock<T> {
    /// Makes a lock of this rank.
    pub(crate) const fn new(rank: Rank, value: T) -> Self {
        RwLock { rank, inner: parking_lot::RwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for reading.
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        let place = Place::take(self.rank, false);
        ReadGuard { inner: self.inner.read(), _place: place }
    }

    /// Takes the lock for writing.
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        let place = Place::take(self.rank, false);
        WriteGuard { inner: self.inner.write(), _place: place }
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_holds() {
        let outer = Mutex::new(Rank::Inode, ());
        let inner = Mutex::new(Rank::Leaf, 5);
        let _outer = outer.lock();
        assert_eq!(*inner.lock(), 5);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock order")]
    fn the_wrong_order_is_caught() {
        let outer = Mutex::new(Rank::Inode, ());
        let inner = Mutex::new(Rank::Leaf, ());
        let _inner = inner.lock();
        let _outer = outer.lock();
    }
}
