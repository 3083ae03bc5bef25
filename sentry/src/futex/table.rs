//! Who waits for which futex.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use amber_abi::errno::Errno;

use super::Key;
use super::chain::LockWaiters;
use crate::mm::MemoryManager;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::wait::Parker;

/// Parts of the table with their own lock.
const SHARDS: usize = 64;

/// How a waiter wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By a wake-up with a bit of this mask.
    Plain(u32),
    /// By being made owner of the lock.
    Lock,
    /// By being moved to a lock with priority inheritance, and then as its owner.
    BeforeLock,
}

/// One thread in a wait for one word.
pub(crate) struct Waiter {
    place: Mutex<WaiterPlace>,
    /// Its number in the queue it is in; only changed with the shard locked.
    number: AtomicU64,
    /// The number that a lock's word shows when this thread owns it.
    pub tid: i32,
    /// Its address space, to write a lock's word in.
    pub mm: Arc<MemoryManager>,
    parker: Arc<Parker>,
    woken: AtomicBool,
}

/// What a requeue changes; only changed with the shard of the old key locked.
#[derive(Clone)]
pub(crate) struct WaiterPlace {
    /// What it waits for.
    pub key: Key,
    /// Address of the word in its address space.
    pub address: u64,
    /// How.
    pub kind: Kind,
    /// For [`Kind::BeforeLock`], the only lock it may be moved to, and its address.
    pub target: Option<(Key, u64)>,
}

impl Waiter {
    /// A waiter that is not in the table yet.
    pub(crate) fn new(place: WaiterPlace, tid: i32, mm: Arc<MemoryManager>, parker: Arc<Parker>) -> Arc<Self> {
        let place = Mutex::new(Rank::Leaf, place);
        Arc::new(Waiter { place, number: AtomicU64::new(0), tid, mm, parker, woken: AtomicBool::new(false) })
    }

    /// Whether it was woken, or made owner.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Where and how it waits now.
    pub(crate) fn place(&self) -> WaiterPlace {
        self.place.lock().clone()
    }

    /// How it waits now.
    pub(crate) fn kind(&self) -> Kind {
        self.place.lock().kind
    }

    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.parker.unpark();
    }
}

/// The waiters of a key, by number, which is in the order of coming.
#[derive(Default)]
struct Queue {
    waiters: BTreeMap<u64, Arc<Waiter>>,
    /// Those that wait for a lock.
    for_lock: BTreeSet<u64>,
}

/// A part of the table.
#[derive(Default)]
pub(crate) struct Shard {
    queues: HashMap<Key, Queue>,
    last: u64,
    /// Owners of the locks that someone waits for, by thread number, and the locks of each.
    owners: HashMap<Key, i32>,
    owned: HashMap<i32, HashSet<Key>>,
}

/// What is to be dropped without locks: a key may be the last to know an object.
pub(super) type Garbage = (Vec<Arc<Waiter>>, Vec<Key>);

impl Shard {
    /// Adds a waiter at the end.
    pub(crate) fn push(&mut self, key: &Key, waiter: Arc<Waiter>) {
        self.last += 1;
        waiter.number.store(self.last, Ordering::Relaxed);
        let queue = self.queues.entry(key.clone()).or_default();
        if waiter.kind() == Kind::Lock {
            queue.for_lock.insert(self.last);
        }
        queue.waiters.insert(self.last, waiter);
    }

    /// The waiters of a key, first come first.
    pub(crate) fn waiters(&self, key: &Key) -> impl Iterator<Item = &Arc<Waiter>> {
        self.queues.get(key).into_iter().flat_map(|queue| queue.waiters.values())
    }

    /// The first that waits for a lock.
    pub(crate) fn first_for_lock(&self, key: &Key) -> Option<Arc<Waiter>> {
        let queue = self.queues.get(key)?;
        queue.waiters.get(queue.for_lock.first()?).cloned()
    }

    /// Whether the first waiter of a key waits for something else than a lock.
    pub(crate) fn first_wants_no_lock(&self, key: &Key) -> bool {
        self.waiters(key).next().is_some_and(|first| first.kind() != Kind::Lock)
    }

    /// Who owns a lock that someone waits for.
    pub(crate) fn owner(&self, key: &Key) -> Option<i32> {
        self.owners.get(key).copied()
    }

    /// Notes the owner of a lock that someone waits for.
    pub(crate) fn set_owner(&mut self, key: &Key, owner: i32) {
        let before = self.owners.insert(key.clone(), owner);
        if before != Some(owner) {
            // What goes is not the last to know an object: the table has the key still.
            if let Some(before) = before {
                self.disown(before, key);
            }
            self.owned.entry(owner).or_default().insert(key.clone());
        }
    }

    fn disown(&mut self, owner: i32, key: &Key) {
        if let Entry::Occupied(mut keys) = self.owned.entry(owner) {
            keys.get_mut().remove(key);
            if keys.get().is_empty() {
                keys.remove();
            }
        }
    }

    /// A thread has another number from now on, with the locks it owns.
    fn renumber(&mut self, old: i32, new: i32) {
        for key in self.owned.remove(&old).into_iter().flatten() {
            self.set_owner(&key, new);
        }
    }

    /// Takes a waiter out; false if it is not there.
    pub(crate) fn remove(&mut self, key: &Key, waiter: &Arc<Waiter>, garbage: &mut Garbage) -> bool {
        let Some(queue) = self.queues.get_mut(key) else { return false };
        let number = waiter.number.load(Ordering::Relaxed);
        if !queue.waiters.get(&number).is_some_and(|other| Arc::ptr_eq(other, waiter)) {
            return false;
        }
        garbage.0.extend(queue.waiters.remove(&number));
        queue.for_lock.remove(&number);
        let unowned = self.owners.contains_key(key) && queue.for_lock.is_empty();
        if queue.waiters.is_empty()
            && let Some((key, _)) = self.queues.remove_entry(key)
        {
            garbage.1.push(key);
        }
        if unowned && let Some((key, owner)) = self.owners.remove_entry(key) {
            self.disown(owner, &key);
            garbage.1.push(key);
        }
        true
    }

    /// Takes a waiter out and wakes it.
    pub(crate) fn wake(&mut self, key: &Key, waiter: &Arc<Waiter>, garbage: &mut Garbage) {
        if self.remove(key, waiter, garbage) {
            waiter.wake();
        }
    }

    /// The keys of locks that a thread owns and someone waits for.
    pub(crate) fn owned_by(&self, tid: i32) -> Vec<Key> {
        self.owned.get(&tid).into_iter().flatten().cloned().collect()
    }
}

/// All waiters of the sandbox.
pub(crate) struct FutexTable {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// Waits for locks so far, ended or not: nothing to look for at the end of a thread while it is zero.
    lock_waits: AtomicUsize,
    /// Which threads wait for locks.
    pub lock_waiters: LockWaiters,
}

impl Default for FutexTable {
    fn default() -> Self {
        FutexTable {
            shards: (0..SHARDS).map(|_| Mutex::new(Rank::Futex, Shard::default())).collect(),
            hasher: RandomState::new(),
            lock_waits: AtomicUsize::new(0),
            lock_waiters: LockWaiters::default(),
        }
    }
}

/// The shards of two keys, locked.
pub(crate) struct Pair<'a> {
    first: MutexGuard<'a, Shard>,
    second: Option<MutexGuard<'a, Shard>>,
    swapped: bool,
}

impl Pair<'_> {
    /// The shard of the first key given.
    pub(crate) fn one(&mut self) -> &mut Shard {
        match &mut self.second {
            Some(second) if self.swapped => second,
            _ => &mut self.first,
        }
    }

    /// The shard of the second key given.
    pub(crate) fn two(&mut self) -> &mut Shard {
        match &mut self.second {
            Some(second) if !self.swapped => second,
            _ => &mut self.first,
        }
    }
}

impl FutexTable {
    fn index(&self, key: &Key) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }

    #[expect(clippy::indexing_slicing, reason = "`index` is below the number of shards")]
    fn shard(&self, index: usize) -> &Mutex<Shard> {
        &self.shards[index]
    }

    /// Locks the shard of a key.
    pub(crate) fn lock(&self, key: &Key) -> MutexGuard<'_, Shard> {
        self.shard(self.index(key)).lock()
    }

    /// Locks the shards of two keys. They are always taken in the order of the table, so no circle can arise.
    pub(crate) fn lock_two(&self, one: &Key, two: &Key) -> Pair<'_> {
        let (one, two) = (self.index(one), self.index(two));
        let first = self.shard(one.min(two)).lock();
        let second = (one != two).then(|| self.shard(one.max(two)).lock_beside());
        Pair { first, second, swapped: one > two }
    }

    /// Every shard, for a search by owner.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Mutex<Shard>> {
        let waited = self.lock_waits.load(Ordering::SeqCst) > 0;
        self.shards.iter().filter(move |_| waited)
    }

    /// A thread has another number from now on (`execve` by one that is not the leader).
    pub(crate) fn renumber(&self, old: i32, new: i32) {
        self.shards().for_each(|shard| shard.lock().renumber(old, new));
    }

    /// Notes that someone is about to wait for a lock.
    pub(crate) fn note_lock_wait(&self) {
        self.lock_waits.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a waiter out, wherever it is by now; false if it was woken before.
    pub(crate) fn remove(&self, waiter: &Arc<Waiter>) -> bool {
        let mut garbage = Garbage::default();
        loop {
            let key = waiter.place().key;
            let mut shard = self.lock(&key);
            // A requeue may have come between the look and the lock.
            if waiter.place.lock().key == key {
                let removed = shard.remove(&key, waiter, &mut garbage);
                drop(shard);
                return removed;
            }
        }
    }

    /// Wakes up to `count` waiters (one at least) whose mask has a bit of `mask`.
    ///
    /// # Errors
    /// `EINVAL` if one of them waits for a lock.
    pub(crate) fn wake(&self, key: &Key, count: i32, mask: u32) -> Result<u64, Errno> {
        let mut garbage = Garbage::default();
        let mut shard = self.lock(key);
        let result = wake_in(&mut shard, key, count, mask, &mut garbage);
        drop(shard);
        result
    }

    /// Moves a waiter to another key, in another way; both shards are locked.
    pub(crate) fn requeue(
        pair: &mut Pair<'_>,
        from: &Key,
        to: &Key,
        waiter: &Arc<Waiter>,
        address: u64,
        garbage: &mut Garbage,
    ) {
        if pair.one().remove(from, waiter, garbage) {
            {
                let mut place = waiter.place.lock();
                let kind = if place.kind == Kind::BeforeLock { Kind::Lock } else { place.kind };
                let old = std::mem::replace(&mut *place, WaiterPlace { key: to.clone(), address, kind, target: None });
                garbage.1.push(old.key);
                garbage.1.extend(old.target.map(|(key, _)| key));
            }
            pair.two().push(to, waiter.clone());
        }
    }
}

/// Wakes waiters in a locked shard.
pub(super) fn wake_in(
    shard: &mut Shard,
    key: &Key,
    count: i32,
    mask: u32,
    garbage: &mut Garbage,
) -> Result<u64, Errno> {
    let mut chosen = Vec::new();
    for waiter in shard.waiters(key) {
        let Kind::Plain(wanted) = waiter.kind() else { return Err(Errno::EINVAL.here()) };
        if wanted & mask != 0 {
            chosen.push(waiter.clone());
            if chosen.len() as i64 >= i64::from(count) {
                break;
            }
        }
    }
    for waiter in &chosen {
        shard.wake(key, waiter, garbage);
    }
    let woken = chosen.len() as u64;
    garbage.0.extend(chosen);
    Ok(woken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_found_by_their_owner() {
        let mut shard = Shard::default();
        let keys: Vec<Key> = (0..100).map(|address| Key::Private(1, address)).collect();
        keys.iter().for_each(|key| shard.set_owner(key, 5));
        keys[..40].iter().for_each(|key| shard.set_owner(key, 6));
        shard.set_owner(&keys[99], 5);
        assert_eq!((shard.owned_by(5).len(), shard.owned_by(6).len()), (60, 40));
        assert!(shard.owned_by(6).iter().all(|key| keys[..40].contains(key)));
        keys.iter().for_each(|key| shard.set_owner(key, 7));
        assert_eq!(shard.owned.len(), 1);
        shard.renumber(7, 8);
        assert_eq!((shard.owned_by(7).len(), shard.owned_by(8).len()), (0, 100));
        assert!(keys.iter().all(|key| shard.owner(key) == Some(8)));
    }
}
