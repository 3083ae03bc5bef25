//! Sets of semaphores: see semop(2) and semctl(2).

use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::ipc::{IpcFlags, SEM_UNDO, SEMVMX, Sembuf};
use amber_platform::GuestMemory;

use super::ids::{Ids, Object, Permissions};
use super::limits::Limits;
use super::{OBJECT_BYTES, now};
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::Credentials;
use crate::wait::WaitQueue;

/// One semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Semaphore {
    /// Its value, from 0 to [`SEMVMX`].
    pub value: i32,
    /// The process that changed it last.
    pub pid: i32,
}

/// Somebody who waits for one semaphore.
struct Waiting {
    ticket: u64,
    number: u16,
    for_zero: bool,
}

/// A set of semaphores.
pub struct SemaphoreSet {
    permissions: Permissions,
    /// The semaphores.
    pub semaphores: Vec<Semaphore>,
    /// When an operation was done last.
    pub operated: i64,
    /// When it was made or changed by semctl(2) last.
    pub changed_at: i64,
    changed: Arc<WaitQueue>,
    waiting: Vec<Waiting>,
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
    /// How many wait for the semaphore to become 0, or to grow.
    pub fn waiters(&self, number: usize, for_zero: bool) -> u64 {
        self.waiting.iter().filter(|w| usize::from(w.number) == number && w.for_zero == for_zero).count() as u64
    }

    /// Who is told of changes.
    pub fn queue(&self) -> Arc<WaitQueue> {
        self.changed.clone()
    }
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// All operations were done; whether any changed a value.
    Done(bool),
    /// An operation cannot be done now; whether it would rather not wait.
    Blocked(bool),
}

/// By process and set, what its end adds to each semaphore.
type Adjustments = HashMap<i32, HashMap<i32, Vec<i32>>>;

/// What the lock protects.
pub struct State {
    /// The sets.
    pub sets: Ids<SemaphoreSet>,
    adjustments: Adjustments,
}

/// All sets of a sandbox.
pub struct Semaphores {
    state: Mutex<State>,
    memory: Arc<GuestMemory>,
    limits: Arc<Limits>,
}

impl Semaphores {
    pub(super) fn new(memory: Arc<GuestMemory>, limits: Arc<Limits>) -> Self {
        let state = State { sets: Ids::default(), adjustments: HashMap::new() };
        Semaphores { state: Mutex::new(Rank::Leaf, state), memory, limits }
    }
}

impl State {
    /// Semaphores in all sets together.
    pub fn total(&self) -> usize {
        self.sets.iter().map(|(_, set)| set.semaphores.len()).sum()
    }

    /// Forgets what processes would give back to these semaphores at their end; `None` for the whole set.
    pub fn forget_adjustments(&mut self, id: i32, number: Option<usize>) {
        for of_process in self.adjustments.values_mut() {
            match (number, of_process.get_mut(&id)) {
                (Some(number), Some(values)) => values.iter_mut().skip(number).take(1).for_each(|value| *value = 0),
                (None, Some(_)) => drop(of_process.remove(&id)),
                (_, None) => {}
            }
        }
    }

    /// Does all operations or none.
    ///
    /// # Errors
    /// `ERANGE` if a value or what is to be undone would become too great; `EINVAL` without the set, `EFBIG` without the
    /// semaphore.
    pub fn attempt(&mut self, id: i32, operations: &[Sembuf], pid: i32, ticket: u64) -> Result<Attempt, Errno> {
        let set = self.sets.get_mut(id)?;
        set.waiting.retain(|w| w.ticket != ticket);
        let mut values: Vec<i32> = set.semaphores.iter().map(|s| s.value).collect();
        let undo = operations.iter().any(|op| op.sem_flg as u16 as u32 & SEM_UNDO != 0);
        let known = self.adjustments.get(&pid).and_then(|sets| sets.get(&id));
        let mut adjustments = known.cloned().unwrap_or_default();
        if undo {
            adjustments.resize(values.len(), 0);
        }
        for op in operations {
            let number = usize::from(op.sem_num);
            let value = values.get_mut(number).ok_or(Errno::EFBIG)?;
            let flags = op.sem_flg as u16 as u32;
            let result = *value + i32::from(op.sem_op);
            if (op.sem_op == 0 && *value != 0) || result < 0 {
                let impatient = flags & IpcFlags::IPC_NOWAIT.bits() != 0;
                if !impatient {
                    set.waiting.push(Waiting { ticket, number: op.sem_num, for_zero: op.sem_op == 0 });
                }
                return Ok(Attempt::Blocked(impatient));
            }
            if result > SEMVMX {
                return Err(Errno::ERANGE);
            }
            if flags & SEM_UNDO != 0
                && let Some(adjustment) = adjustments.get_mut(number)
            {
                *adjustment -= i32::from(op.sem_op);
                if !(-SEMVMX - 1..=SEMVMX).contains(adjustment) {
                    return Err(Errno::ERANGE);
                }
            }
            *value = result;
        }
        for (semaphore, value) in set.semaphores.iter_mut().zip(values) {
            semaphore.value = value;
        }
        for op in operations {
            if let Some(semaphore) = set.semaphores.get_mut(usize::from(op.sem_num)) {
                semaphore.pid = pid;
            }
        }
        set.operated = now();
        if undo {
            self.adjustments.entry(pid).or_default().insert(id, adjustments);
        }
        Ok(Attempt::Done(operations.iter().any(|op| op.sem_op != 0)))
    }

    /// Somebody waits no more.
    pub fn stop_waiting(&mut self, id: i32, ticket: u64) {
        if let Ok(set) = self.sets.get_mut(id) {
            set.waiting.retain(|w| w.ticket != ticket);
        }
    }
}

impl Semaphores {
    /// The sets, under their lock. Whoever changes a value tells the set's queue after giving the lock back.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Finds or makes a set, as semget(2).
    ///
    /// # Errors
    /// Those of semget(2).
    pub fn find_or_make(&self, who: &Credentials, key: i32, count: i32, flags: u32) -> Result<i32, Errno> {
        if count < 0 || count > self.limits.semmsl.int_value() {
            return Err(Errno::EINVAL);
        }
        let count = count as usize;
        self.lock().sets.find_or_make(
            who,
            key,
            flags,
            &self.limits.semmni,
            |set| if count > set.semaphores.len() { Err(Errno::EINVAL) } else { Ok(()) },
            |sets, permissions| {
                if count == 0 {
                    return Err(Errno::EINVAL);
                }
                if sets.total() + count as u64 > self.limits.semmns.get() {
                    return Err(Errno::ENOSPC);
                }
                self.memory.admit_lasting(OBJECT_BYTES + (count * size_of::<Semaphore>()) as u64)?;
                Ok(SemaphoreSet {
                    permissions,
                    semaphores: vec![Semaphore::default(); count],
                    operated: 0,
                    changed_at: now(),
                    changed: Arc::new(WaitQueue::new()),
                    waiting: Vec::new(),
                })
            },
        )
    }

    /// Removes a set; whoever waits for it is told so.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub fn remove(&self, who: &Credentials, id: i32) -> Result<(), Errno> {
        let removed = {
            let mut state = self.lock();
            state.sets.get(id)?.permissions.check_owner(who)?;
            state.forget_adjustments(id, None);
            state.sets.remove(id)
        };
        if let Some(set) = removed {
            set.changed.notify_all();
        }
        Ok(())
    }

    /// A process has ended: what it asked to be undone is undone.
    pub fn process_ended(&self, pid: i32) {
        let mut changed = Vec::new();
        {
            let mut state = self.lock();
            let Some(of_process) = state.adjustments.remove(&pid) else { return };
            for (id, values) in of_process {
                let Ok(set) = state.sets.get_mut(id) else { continue };
                for (semaphore, adjustment) in set.semaphores.iter_mut().zip(values).filter(|(_, a)| *a != 0) {
                    semaphore.value = (semaphore.value + adjustment).clamp(0, SEMVMX);
                    semaphore.pid = pid;
                }
                set.operated = now();
                changed.push(set.changed.clone());
            }
        }
        changed.iter().for_each(|queue| queue.notify_all());
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
        let attempt = |ops: &[Sembuf]| semaphores.lock().attempt(id, ops, 9, 1);
        assert_eq!(attempt(&[op(0, 2, SEM_UNDO), op(1, -1, 0)]), Ok(Attempt::Blocked(false)));
        assert_eq!(values(), [0, 0]);
        assert_eq!(attempt(&[op(0, 2, SEM_UNDO), op(1, 1, 0), op(1, -1, 0)]), Ok(Attempt::Done(true)));
        assert_eq!(values(), [2, 0]);
        assert_eq!(attempt(&[op(0, 32766, 0)]), Err(Errno::ERANGE));
        assert_eq!(attempt(&[op(0, 0, IpcFlags::IPC_NOWAIT.bits())]), Ok(Attempt::Blocked(true)));
        assert_eq!(attempt(&[op(2, 1, 0)]), Err(Errno::EFBIG));
        semaphores.process_ended(9);
        assert_eq!(values(), [0, 0]);
    }
}
