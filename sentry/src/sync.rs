//! Mutexes and reader-writer locks that know their place in the lock order.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use amber_abi::errno::Errno;

use crate::interruption::check_killed;

/// How often whoever waits for a lock that may be held long looks whether it was killed.
const KILL_LOOK: Duration = Duration::from_millis(10);

/// The place of a lock in the order: while a lock is held, only locks of a higher rank may be taken.
///
/// Two locks of one rank may be held together only where a comment says why that cannot go in a circle, by
/// [`Mutex::lock_beside`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// An epoll's look at the files it watches, which asks each in turn.
    Epoll,
    /// A change of an inode's attributes and the check before it, which asks whatever the inode stands for.
    Attributes,
    /// Which program a thread group runs, and as whom (Linux's `exec_update_lock`).
    Program,
    /// The process tree: PID table, parents, children, groups, sessions (Linux's `tasklist_lock`).
    Processes,
    /// What a terminal is attached to.
    Terminal,
    /// Signal handlers and pending signals of a thread group and its tasks.
    Signals,
    /// Fields of one task or thread group that nothing else is taken under.
    Task,
    /// A table of descriptors.
    Files,
    /// The tree of mounts of a namespace.
    Mounts,
    /// A rename, which looks at two directories at once.
    Rename,
    /// Names: the cache of directory entries.
    Dentries,
    /// The layers behind an overlay's inode, which are inodes themselves.
    Layers,
    /// Attributes and entries of one inode.
    Inode,
    /// Who has which port; sockets are asked below it what they claim.
    Ports,
    /// The buffers behind pipes, sockets, queues and the like.
    Buffer,
    /// Memory areas of an address space.
    Memory,
    /// Cached pages of a file.
    PageCache,
    /// The threads that wait for locks whose words name the owner.
    LockChains,
    /// Futexes and their waiters.
    Futex,
    /// Timers and clocks.
    Timers,
    /// Wait queues and parked tasks; nothing is taken below them.
    Wait,
    /// Small tables that take nothing else.
    Leaf,
}

#[cfg(debug_assertions)]
mod check {
    use super::Rank;
    use std::cell::RefCell;

    thread_local! {
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// Notes that a lock is taken; panics if the order forbids it.
    pub fn take(rank: Rank, beside: bool) {
        HELD.with_borrow_mut(|held| {
            if let Some(&top) = held.iter().max() {
                assert!(rank > top || (beside && rank == top), "lock order: {rank:?} taken while {top:?} is held");
            }
            held.push(rank);
        });
    }

    pub fn give_back(rank: Rank) {
        HELD.with_borrow_mut(|held| {
            if let Some(at) = held.iter().rposition(|&r| r == rank) {
                held.remove(at);
            }
        });
    }

    pub fn none_held() -> bool {
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

/// Lets so many in at a time.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    inside: parking_lot::Mutex<usize>,
    left: parking_lot::Condvar,
}

/// A stay behind a [`Gate`].
#[must_use]
pub struct Inside<'a>(&'a Gate);

impl Gate {
    /// A gate that lets `most` in.
    pub const fn new(most: usize) -> Self {
        Gate { most, inside: parking_lot::Mutex::new(0), left: parking_lot::Condvar::new() }
    }

    /// Enters once there is room.
    ///
    /// # Errors
    /// `EINTR` if the caller is killed while it waits.
    pub fn enter(&self) -> Result<Inside<'_>, Errno> {
        loop {
            {
                let mut inside = self.inside.lock();
                if *inside >= self.most {
                    self.left.wait_for(&mut inside, KILL_LOOK);
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

/// In debug builds, panics if this host thread holds a ranked lock: called where it may wait or touch guest memory.
pub fn assert_none_held() {
    debug_assert!(check::none_held(), "a lock is held over a wait or an access to guest memory");
}

/// A mutual exclusion lock with a place in the order.
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    rank: Rank,
    inner: parking_lot::Mutex<T>,
}

/// Access to what a [`Mutex`] protects.
pub struct MutexGuard<'a, T: ?Sized> {
    inner: parking_lot::MutexGuard<'a, T>,
    _place: Place,
}

/// A place in the list of held locks, given back on drop.
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
    /// Makes a lock of the given rank.
    pub const fn new(rank: Rank, value: T) -> Self {
        Mutex { rank, inner: parking_lot::Mutex::new(value) }
    }

    /// Gives up the lock for its content.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// The value, of a mutex nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    /// Takes the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let place = Place::take(self.rank, false);
        MutexGuard { inner: self.inner.lock(), _place: place }
    }

    /// Takes the lock while another of the same rank may be held; the caller says in a comment why no circle can arise.
    pub fn lock_beside(&self) -> MutexGuard<'_, T> {
        let place = Place::take(self.rank, true);
        MutexGuard { inner: self.inner.lock(), _place: place }
    }

    /// Takes the lock, for those that are held over work of any length.
    ///
    /// # Errors
    /// `EINTR` if the caller is killed while it waits.
    pub fn lock_killable(&self) -> Result<MutexGuard<'_, T>, Errno> {
        let place = Place::take(self.rank, false);
        loop {
            if let Some(inner) = self.inner.try_lock_for(KILL_LOOK) {
                return Ok(MutexGuard { inner, _place: place });
            }
            check_killed()?;
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(MutexGuard { inner, _place: Place::take(self.rank, true) })
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

/// A reader-writer lock with a place in the order.
#[derive(Debug)]
pub struct RwLock<T: ?Sized> {
    rank: Rank,
    inner: parking_lot::RwLock<T>,
}

/// Shared access to what a [`RwLock`] protects.
pub struct ReadGuard<'a, T: ?Sized> {
    inner: parking_lot::RwLockReadGuard<'a, T>,
    _place: Place,
}

/// Exclusive access to what a [`RwLock`] protects.
pub struct WriteGuard<'a, T: ?Sized> {
    inner: parking_lot::RwLockWriteGuard<'a, T>,
    _place: Place,
}

impl<T> RwLock<T> {
    /// Makes a lock of the given rank.
    pub const fn new(rank: Rank, value: T) -> Self {
        RwLock { rank, inner: parking_lot::RwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for reading.
    pub fn read(&self) -> ReadGuard<'_, T> {
        let place = Place::take(self.rank, false);
        ReadGuard { inner: self.inner.read(), _place: place }
    }

    /// Takes the lock for writing.
    pub fn write(&self) -> WriteGuard<'_, T> {
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
