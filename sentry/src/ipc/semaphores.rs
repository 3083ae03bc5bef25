//! Semaphore sets: see semop(2) and semctl(2).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::ipc::{IpcFlags, SEM_UNDO, SEMVMX, Sembuf};
use amber_platform::GuestMemory;

use super::ids::{Ids, Object, Permissions};
use super::limits::Limits;
use super::{OBJECT_BYTES, now};
use crate::credentials::Credentials;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::wait::WaitQueue;

/// A semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Semaphore {
    /// Its value, from 0 to [`SEMVMX`].
    pub value: i32,
    /// The PID of the last change.
    pub pid: i32,
}

/// A caller of semop(2) that sleeps between attempts.
pub(crate) struct Sleeper {
    /// Its number in the order of arrival.
    ticket: u64,
    queue: Arc<WaitQueue>,
}

impl Sleeper {
    /// Notified when another attempt may succeed.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

/// A blocked operation on one semaphore.
struct Waiting {
    /// The amount to subtract; 0 to wait for zero.
    takes: i32,
    /// The call has no other operations, so it is done once this one succeeds.
    alone: bool,
    queue: Arc<WaitQueue>,
}

/// A semaphore set.
pub(crate) struct SemaphoreSet {
    permissions: Permissions,
    /// The semaphores.
    pub semaphores: Vec<Semaphore>,
    /// Time of the last operation.
    pub operated: i64,
    /// Time of creation or of the last change by semctl(2).
    pub changed_at: i64,
    /// By semaphore and ticket.
    waiting: BTreeMap<(u16, u64), Waiting>,
    /// The semaphore that each ticket waits for.
    places: HashMap<u64, u16>,
    /// By process and semaphore, the adjustment at the end of the process.
    undo: HashMap<i32, BTreeMap<u16, i32>>,
}

impl Object for SemaphoreSet {
    fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    fn permissions_mut(&mut self) -> &mut Permissions {
        &mut self.permissions
    }

    fn weight(&self) -> u64 {
        self.semaphores.len() as u64
    }
}

impl SemaphoreSet {
    /// Number of waiters for the semaphore to become 0, or to grow.
    pub(crate) fn waiters(&self, number: usize, for_zero: bool) -> u64 {
        self.waiting_for(number).filter(|w| (w.takes == 0) == for_zero).count() as u64
    }

    fn waiting_for(&self, number: usize) -> impl Iterator<Item = &Waiting> {
        let number = u16::try_from(number).ok();
        number.into_iter().flat_map(|number| self.waiting.range((number, 0)..=(number, u64::MAX))).map(|(_, w)| w)
    }

    fn wait(&mut self, sleeper: &Sleeper, operation: &Sembuf, alone: bool) {
        let waiting = Waiting { takes: -i32::from(operation.sem_op), alone, queue: sleeper.queue.clone() };
        self.waiting.insert((operation.sem_num, sleeper.ticket), waiting);
        self.places.insert(sleeper.ticket, operation.sem_num);
    }

    fn stop_waiting(&mut self, ticket: u64) -> Option<u16> {
        let number = self.places.remove(&ticket)?;
        self.waiting.remove(&(number, ticket));
        Some(number)
    }

    /// The waiters for which another attempt may succeed at the present value. Of waiters that only subtract, as many
    /// are woken as the value suffices for. If one of these does not use it after all, the next ones are woken then.
    fn ready(&self, number: u16) -> Vec<Arc<WaitQueue>> {
        let mut left = self.semaphores.get(usize::from(number)).map_or(0, |semaphore| semaphore.value);
        let zero = left == 0;
        let mut ready = Vec::new();
        for waiting in self.waiting_for(usize::from(number)) {
            if (zero && waiting.takes == 0) || (waiting.takes > 0 && waiting.takes <= left) {
                ready.push(waiting.queue.clone());
                left -= if waiting.alone { waiting.takes } else { 0 };
            }
            if left == 0 && !zero {
                break;
            }
        }
        ready
    }
}

/// Waiters to wake when the lock is released.
#[must_use = "the waiters sleep until they are woken"]
#[derive(Default)]
pub(crate) struct Ready(Vec<Arc<WaitQueue>>);

impl Ready {
    /// Wakes them.
    pub(crate) fn wake(self) {
        self.0.iter().for_each(|queue| queue.notify_all());
    }
}

/// The result of an attempt.
pub(crate) enum Attempt {
    /// All operations are done; these waiters are to be woken.
    Done(Ready),
    /// An operation is blocked; with `IPC_NOWAIT` if true.
    Blocked(bool),
}

/// The state behind the lock.
pub(crate) struct State {
    /// The semaphore sets.
    pub sets: Ids<SemaphoreSet>,
    /// By process, the sets with adjustments for its end.
    undoing: HashMap<i32, BTreeSet<i32>>,
    last_ticket: u64,
}

/// The semaphore sets of a sandbox.
pub(crate) struct Semaphores {
    state: Mutex<State>,
    memory: Arc<GuestMemory>,
    limits: Arc<Limits>,
}

impl Semaphores {
    pub(super) fn new(memory: Arc<GuestMemory>, limits: Arc<Limits>) -> Self {
        let state = State { sets: Ids::default(), undoing: HashMap::new(), last_ticket: 0 };
        Semaphores { state: Mutex::new(Rank::Leaf, state), memory, limits }
    }
}

impl State {
    /// Number of semaphores in all sets.
    pub(crate) fn total(&self) -> usize {
        self.sets.total() as usize
    }

    /// Sets values by number, on behalf of a process, and clears the adjustments of these semaphores.
    ///
    /// # Errors
    /// `EINVAL` if the set does not exist.
    pub(crate) fn assign(
        &mut self,
        id: i32,
        values: impl Iterator<Item = (u16, i32)>,
        pid: i32,
    ) -> Result<Ready, Errno> {
        let set = self.sets.get_mut(id)?;
        let mut ready = Ready::default();
        let mut assigned = BTreeSet::new();
        for (number, value) in values {
            let Some(semaphore) = set.semaphores.get_mut(usize::from(number)) else { continue };
            (semaphore.value, semaphore.pid) = (value, pid);
            assigned.insert(number);
            ready.0.extend(set.ready(number));
        }
        for adjustments in set.undo.values_mut() {
            // One semaphore, or all: iterate over the shorter list.
            if assigned.len() < adjustments.len() {
                for number in &assigned {
                    adjustments.remove(number);
                }
            } else {
                adjustments.retain(|number, _| !assigned.contains(number));
            }
        }
        set.changed_at = now();
        Ok(ready)
    }

    /// Makes a sleeper, to be passed to [`attempt`](Self::attempt).
    pub(crate) fn sleeper(&mut self) -> Sleeper {
        self.last_ticket += 1;
        Sleeper { ticket: self.last_ticket, queue: Arc::new(WaitQueue::new()) }
    }

    /// Performs all operations or none. If one is blocked, the sleeper is registered and woken when it may succeed.
    ///
    /// # Errors
    /// `ERANGE` if a value or adjustment becomes too large; `EINVAL` if the set does not exist, `EFBIG` if the
    /// semaphore does not.
    pub(crate) fn attempt(
        &mut self,
        id: i32,
        operations: &[Sembuf],
        pid: i32,
        sleeper: Option<&Sleeper>,
    ) -> Result<Attempt, Errno> {
        let set = self.sets.get_mut(id)?;
        if let Some(sleeper) = sleeper {
            set.stop_waiting(sleeper.ticket);
        }
        let known = set.undo.get(&pid);
        // Only the changes: sets may have thousands of semaphores.
        let mut values = BTreeMap::new();
        let mut adjustments = BTreeMap::new();
        for op in operations {
            let number = op.sem_num;
            let semaphore = set.semaphores.get(usize::from(number)).ok_or_else(|| Errno::EFBIG.here())?;
            let value = values.entry(number).or_insert(semaphore.value);
            let flags = op.sem_flg as u16 as u32;
            let result = *value + i32::from(op.sem_op);
            if (op.sem_op == 0 && *value != 0) || result < 0 {
                let impatient = flags & IpcFlags::IPC_NOWAIT.bits() != 0;
                if let Some(sleeper) = sleeper.filter(|_| !impatient) {
                    set.wait(sleeper, op, operations.len() == 1);
                }
                return Ok(Attempt::Blocked(impatient));
            }
            if result > SEMVMX {
                return Err(Errno::ERANGE.here());
            }
            if flags & SEM_UNDO != 0 {
                let before = || known.and_then(|known| known.get(&number)).copied().unwrap_or(0);
                let adjustment = adjustments.entry(number).or_insert_with(before);
                *adjustment -= i32::from(op.sem_op);
                if !(-SEMVMX - 1..=SEMVMX).contains(adjustment) {
                    return Err(Errno::ERANGE.here());
                }
            }
            *value = result;
        }
        if !adjustments.is_empty() {
            set.undo.entry(pid).or_default().extend(adjustments);
            self.undoing.entry(pid).or_default().insert(id);
        }
        let mut ready = Ready::default();
        for (number, value) in values {
            if let Some(semaphore) = set.semaphores.get_mut(usize::from(number)) {
                let changed = semaphore.value != value;
                (semaphore.value, semaphore.pid) = (value, pid);
                if changed {
                    ready.0.extend(set.ready(number));
                }
            }
        }
        set.operated = now();
        Ok(Attempt::Done(ready))
    }

    /// Removes a sleeper, and returns the waiters to wake instead of it.
    pub(crate) fn stop_waiting(&mut self, id: i32, sleeper: &Sleeper) -> Ready {
        let Ok(set) = self.sets.get_mut(id) else { return Ready::default() };
        let number = set.stop_waiting(sleeper.ticket);
        Ready(number.map(|number| set.ready(number)).unwrap_or_default())
    }
}

impl Semaphores {
    /// The locked sets.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// semget(2).
    ///
    /// # Errors
    /// Those of semget(2).
    pub(crate) fn find_or_make(
        &self,
        credentials: &Credentials,
        key: i32,
        count: i32,
        flags: u32,
    ) -> Result<i32, Errno> {
        if count < 0 || count > self.limits.semmsl.int_value() {
            return Err(Errno::EINVAL.here());
        }
        let count = count as usize;
        self.lock().sets.find_or_make(
            credentials,
            key,
            flags,
            &self.limits.semmni,
            |set| if count > set.semaphores.len() { Err(Errno::EINVAL.here()) } else { Ok(()) },
            |sets, permissions| {
                if count == 0 {
                    return Err(Errno::EINVAL.here());
                }
                if sets.total() + count as u64 > self.limits.semmns.get() {
                    return Err(Errno::ENOSPC.here());
                }
                self.memory.admit_lasting(OBJECT_BYTES + (count * size_of::<Semaphore>()) as u64)?;
                Ok(SemaphoreSet {
                    permissions,
                    semaphores: vec![Semaphore::default(); count],
                    operated: 0,
                    changed_at: now(),
                    waiting: BTreeMap::new(),
                    places: HashMap::new(),
                    undo: HashMap::new(),
                })
            },
        )
    }

    /// Removes a set, and wakes its waiters with an error.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub(crate) fn remove(&self, credentials: &Credentials, id: i32) -> Result<(), Errno> {
        let removed = {
            let mut state = self.lock();
            state.sets.get(id)?.permissions.check_owner(credentials)?;
            let removed = state.sets.remove(id);
            for pid in removed.iter().flat_map(|set| set.undo.keys()) {
                if let Entry::Occupied(mut sets) = state.undoing.entry(*pid) {
                    sets.get_mut().remove(&id);
                    if sets.get().is_empty() {
                        sets.remove();
                    }
                }
            }
            removed
        };
        if let Some(set) = removed {
            set.waiting.values().for_each(|waiting| waiting.queue.notify_all());
        }
        Ok(())
    }

    /// Applies the adjustments of an ended process.
    pub(crate) fn process_ended(&self, pid: i32) {
        let mut ready = Ready::default();
        {
            let mut state = self.lock();
            let Some(sets) = state.undoing.remove(&pid) else { return };
            for id in sets {
                let Ok(set) = state.sets.get_mut(id) else { continue };
                for (number, adjustment) in set.undo.remove(&pid).unwrap_or_default() {
                    if let Some(semaphore) = set.semaphores.get_mut(usize::from(number)).filter(|_| adjustment != 0) {
                        semaphore.value = (semaphore.value + adjustment).clamp(0, SEMVMX);
                        semaphore.pid = pid;
                        ready.0.extend(set.ready(number));
                    }
                }
                set.operated = now();
            }
        }
        ready.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(number: u16, by: i16, flags: u32) -> Sembuf {
        Sembuf { sem_num: number, sem_op: by, sem_flg: flags as i16 }
    }

    #[test]
    fn all_operations_are_done_or_none() {
        let semaphores = Semaphores::new(GuestMemory::new(1 << 20).unwrap(), Arc::default());
        let id = semaphores.find_or_make(&Credentials::root(), 0, 2, 0o600).unwrap();
        let values = || semaphores.lock().sets.get(id).unwrap().semaphores.iter().map(|s| s.value).collect::<Vec<_>>();
        let attempt = |ops: &[Sembuf]| {
            let outcome = semaphores.lock().attempt(id, ops, 9, None);
            outcome.map(|attempt| matches!(attempt, Attempt::Done(_)))
        };
        assert_eq!(attempt(&[op(0, 2, SEM_UNDO), op(1, -1, 0)]), Ok(false));
        assert_eq!(values(), [0, 0]);
        assert_eq!(attempt(&[op(0, 2, SEM_UNDO), op(1, 1, 0), op(1, -1, 0)]), Ok(true));
        assert_eq!(values(), [2, 0]);
        assert_eq!(attempt(&[op(0, 32766, 0)]), Err(Errno::ERANGE));
        assert_eq!(attempt(&[op(0, 0, IpcFlags::IPC_NOWAIT.bits())]), Ok(false));
        assert_eq!(attempt(&[op(2, 1, 0)]), Err(Errno::EFBIG));
        semaphores.process_ended(9);
        assert_eq!(values(), [0, 0]);
    }

    #[test]
    fn only_waiters_that_can_proceed_are_woken() {
        let semaphores = Semaphores::new(GuestMemory::new(1 << 20).unwrap(), Arc::default());
        let id = semaphores.find_or_make(&Credentials::root(), 0, 2, 0o600).unwrap();
        let mut state = semaphores.lock();
        let sleepers: Vec<_> = (0..6).map(|_| state.sleeper()).collect();
        let wanted: [&[Sembuf]; 6] = [
            &[op(0, -1, 0)],
            &[op(0, -2, 0)],
            &[op(0, -1, 0)],
            &[op(0, -1, 0)],
            &[op(0, -1, 0), op(1, -1, 0)],
            &[op(1, -1, 0)],
        ];
        for (sleeper, operations) in sleepers.iter().zip(wanted) {
            assert!(matches!(state.attempt(id, operations, 9, Some(sleeper)), Ok(Attempt::Blocked(false))));
        }
        let woken = |ready: Ready| -> Vec<usize> {
            let place = |queue: &Arc<WaitQueue>| sleepers.iter().position(|s| Arc::ptr_eq(&s.queue, queue));
            ready.0.iter().filter_map(place).collect()
        };
        let Ok(Attempt::Done(ready)) = state.attempt(id, &[op(0, 2, 0)], 9, None) else { panic!("blocked") };
        assert_eq!(woken(ready), [0, 2], "two can take one each, and nothing is left for others");
        assert_eq!(state.sets.get(id).unwrap().waiters(0, false), 5);
        let left = state.stop_waiting(id, &sleepers[0]);
        assert_eq!(woken(left), [1], "what one leaves is for the next that it is enough for");
        let ready = state.assign(id, [(0, 3)].into_iter(), 9).unwrap();
        assert_eq!(woken(ready), [1, 2]);
        let ready = state.assign(id, [(0, 5)].into_iter(), 9).unwrap();
        assert_eq!(woken(ready), [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_undone_costs_what_was_done() {
        let semaphores = Semaphores::new(GuestMemory::new(1 << 20).unwrap(), Arc::default());
        let id = semaphores.find_or_make(&Credentials::root(), 0, 32000, 0o600).unwrap();
        let mut state = semaphores.lock();
        assert!(state.attempt(id, &[op(31999, 3, SEM_UNDO)], 9, None).is_ok());
        assert!(state.attempt(id, &[op(31998, 3, SEM_UNDO)], 8, None).is_ok());
        assert_eq!(state.sets.get(id).unwrap().undo.values().map(BTreeMap::len).sum::<usize>(), 2);
        assert!(state.assign(id, [(31999, 1)].into_iter(), 9).is_ok());
        drop(state);
        semaphores.process_ended(9);
        assert_eq!(semaphores.lock().sets.get(id).unwrap().semaphores[31999].value, 1);
        semaphores.remove(&Credentials::root(), id).unwrap();
        assert!(semaphores.lock().undoing.is_empty());
    }
}
