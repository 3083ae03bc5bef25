//! Locks whose word names the owner: `FUTEX_LOCK_PI` and its kin. See futex(2), "Priority-inheritance futexes".
//!
//! Owners are handed the lock in the order of waiting. There are no real-time priorities to inherit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use amber_abi::errno::Errno;
use amber_abi::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

use super::table::{Garbage, Kind, Shard, Waiter};
use super::wait::{dispose, moment, new_waiter};
use super::{Key, Place};
use crate::error::{Restart, SysError};
use crate::task::{Task, TaskContext};
use crate::wait::WaitEnd;

/// What an attempt to take a lock came to.
pub(super) enum Attempt {
    /// The lock is the thread's.
    Taken,
    /// Someone has it, by thread number; the word says that there are waiters.
    Owned(i32),
    /// The word changed meanwhile: look again.
    Again,
}

/// Tries to take a lock for thread `tid`, with the shard of its key locked. `waiters` says that others wait too.
pub(super) fn attempt(shard: &Shard, key: &Key, word: &AtomicU32, tid: i32, waiters: bool) -> Result<Attempt, Errno> {
    let now = word.load(Ordering::SeqCst);
    let owner = (now & FUTEX_TID_MASK) as i32;
    if owner == tid {
        return Err(Errno::EDEADLK.here());
    }
    if shard.first_wants_no_lock(key) {
        return Err(Errno::EINVAL.here());
    }
    let new = if owner == 0 && shard.first_for_lock(key).is_none() {
        let waiters = if waiters { FUTEX_WAITERS } else { 0 };
        (now & FUTEX_OWNER_DIED) | tid as u32 | waiters
    } else {
        now | FUTEX_WAITERS
    };
    if new != now && word.compare_exchange(now, new, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return Ok(Attempt::Again);
    }
    if owner == 0 && new & FUTEX_TID_MASK == tid as u32 {
        return Ok(Attempt::Taken);
    }
    // While someone waits, the table knows the owner better than a word that the guest may have spoilt. A thread that ends
    // marks its word before it hands the lock over.
    let is_left = owner == 0 && now & FUTEX_OWNER_DIED != 0;
    match shard.owner(key) {
        Some(known) if known != owner && !is_left => Err(Errno::EINVAL.here()),
        Some(known) => Ok(Attempt::Owned(known)),
        None if owner == 0 => Err(Errno::EINVAL.here()),
        None => Ok(Attempt::Owned(owner)),
    }
}

fn find_task(ctx: &TaskContext, tid: i32) -> Option<Arc<Task>> {
    ctx.kernel().processes.lock().task(tid).cloned()
}

/// Takes a lock, waiting until a time of CLOCK_MONOTONIC; with `try_only`, it does not wait.
///
/// # Errors
/// `EDEADLK` if the caller has it or its owner waits for the caller, `EAGAIN` if it is taken and may not be waited for, `ESRCH` if its owner is no more,
/// `ETIMEDOUT`, `EINVAL` for a word that cannot be true; interrupted, the call runs again.
pub(crate) fn lock_pi(ctx: &TaskContext, place: Place, until: Option<u64>, try_only: bool) -> Result<(), SysError> {
    let mm = ctx.mm();
    let key = place.key(mm)?;
    let table = &ctx.kernel().futexes;
    let waiter = new_waiter(ctx, key.clone(), place.address, Kind::Lock, None);
    table.note_lock_wait();
    loop {
        // The table of tasks cannot be asked under the futex's locks, so the owner is looked up between two looks.
        let word = mm.with_word(place.address, true, |word| word.load(Ordering::SeqCst))?;
        let known = table.lock(&key).owner(&key);
        let named = known.unwrap_or((word & FUTEX_TID_MASK) as i32);
        let owner = find_task(ctx, named);
        let result = mm.with_word(place.address, true, |word| -> Result<Option<Attempt>, Errno> {
            let mut shard = table.lock(&key);
            let attempt = attempt(&shard, &key, word, ctx.tid(), false)?;
            let Attempt::Owned(owned) = attempt else { return Ok(Some(attempt)) };
            if try_only {
                return Err(Errno::EAGAIN.here());
            }
            match &owner {
                _ if owned != named => return Ok(Some(Attempt::Again)),
                // It hands its locks over at its end, unless it is past that.
                Some(owner) if !owner.has_released_futexes() => {}
                _ => return Err(Errno::ESRCH.here()),
            }
            shard.push(&key, waiter.clone());
            shard.set_owner(&key, owned);
            Ok(None)
        })??;
        match result {
            Some(Attempt::Taken) => return Ok(()),
            Some(_) if ctx.is_interrupted() => return Err(Restart::Always.into()),
            Some(_) => std::thread::yield_now(),
            None => break,
        }
    }
    if table.lock_waiters.is_refused(table, &waiter) {
        return Err(Errno::EDEADLK.here().into());
    }
    let end = ctx.wait(&[], moment(until), || waiter.is_woken().then_some(()));
    table.lock_waiters.leave(waiter.tid);
    match end {
        Ok(()) => Ok(()),
        // Made owner just before the end: then it is.
        Err(_) if !table.remove(&waiter) => Ok(()),
        Err(WaitEnd::TimedOut) => Err(Errno::ETIMEDOUT.here().into()),
        Err(WaitEnd::Interrupted) => Err(Restart::Always.into()),
    }
}

/// Gives a lock up, to the first that waits for it.
///
/// # Errors
/// `EPERM` if the caller has it not, `EAGAIN` if the word changed meanwhile.
pub(crate) fn unlock_pi(ctx: &TaskContext, place: Place) -> Result<(), Errno> {
    let mm = ctx.mm();
    let key = place.key(mm)?;
    let mut garbage = Garbage::default();
    let result = mm.with_word(place.address, true, |word| {
        let mut shard = ctx.kernel().futexes.lock(&key);
        let now = word.load(Ordering::SeqCst);
        if (now & FUTEX_TID_MASK) as i32 != ctx.tid() {
            return Err(Errno::EPERM.here());
        }
        let next = shard.first_for_lock(&key);
        let new = next.as_ref().map_or(0, |next| FUTEX_WAITERS | next.tid as u32);
        word.compare_exchange(now, new, Ordering::SeqCst, Ordering::SeqCst).map_err(|_| Errno::EAGAIN.here())?;
        if let Some(next) = next {
            hand_over(&mut shard, &key, next, &mut garbage);
        }
        Ok(())
    })?;
    dispose(garbage);
    result
}

/// Makes a waiter the owner of the lock, whose word says so already.
pub(super) fn hand_over(shard: &mut Shard, key: &Key, next: Arc<Waiter>, garbage: &mut Garbage) {
    let tid = next.tid;
    shard.wake(key, &next, garbage);
    if shard.owner(key).is_some() {
        shard.set_owner(key, tid);
    }
    garbage.0.push(next);
}
