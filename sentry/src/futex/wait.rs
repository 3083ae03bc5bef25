//! Waiting for words to change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use amber_abi::errno::Errno;

use super::table::{Garbage, Kind, Waiter, WaiterPlace};
use super::{Key, Place};
use crate::clock::monotonic;
use crate::error::{Restart, SysError};
use crate::task::TaskContext;
use crate::wait::{WaitEnd, deadline_in};

/// A word to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitOn {
    /// Which word.
    pub place: Place,
    /// The value it must still have.
    pub value: u32,
    /// Which wake-ups count.
    pub mask: u32,
}

/// The host's moment for a time of CLOCK_MONOTONIC; none if it never comes.
pub(super) fn moment(until: Option<u64>) -> Option<Instant> {
    until.and_then(|until| deadline_in(Duration::from_nanos(until.saturating_sub(monotonic()))))
}

pub(super) fn new_waiter(
    ctx: &TaskContext,
    key: Key,
    address: u64,
    kind: Kind,
    target: Option<(Key, u64)>,
) -> Arc<Waiter> {
    let place = WaiterPlace { key, address, kind, target };
    Waiter::new(place, ctx.tid(), ctx.mm().clone(), ctx.parker().clone())
}

/// Puts a waiter into the table if the word has the value.
fn enqueue(ctx: &TaskContext, waiter: &Arc<Waiter>, value: u32) -> Result<(), Errno> {
    let WaiterPlace { key, address, .. } = waiter.place();
    ctx.mm().with_word(address, false, |word| {
        let mut shard = ctx.kernel().futexes.lock(&key);
        if word.load(Ordering::SeqCst) != value {
            return Err(Errno::EAGAIN.here());
        }
        shard.push(&key, waiter.clone());
        Ok(())
    })?
}

/// Waits for one word, until a time of CLOCK_MONOTONIC.
///
/// # Errors
/// `EAGAIN` if the value differs, `ETIMEDOUT`, those of [`Place::key`]; interrupted, the call may run again.
pub(crate) fn wait(ctx: &TaskContext, on: WaitOn, until: Option<u64>) -> Result<(), SysError> {
    let key = on.place.key(ctx.mm())?;
    let waiter = new_waiter(ctx, key, on.place.address, Kind::Plain(on.mask), None);
    enqueue(ctx, &waiter, on.value)?;
    match ctx.wait(&[], moment(until), || waiter.is_woken().then_some(())) {
        Ok(()) => Ok(()),
        // Woken after all, just before the end: then that counts.
        Err(_) if !ctx.kernel().futexes.remove(&waiter) => Ok(()),
        Err(WaitEnd::TimedOut) => Err(Errno::ETIMEDOUT.here().into()),
        Err(WaitEnd::Interrupted) => Err(Restart::ByFlag.into()),
    }
}

/// Waits for any of several words, until a time of CLOCK_MONOTONIC; answers which.
///
/// # Errors
/// As for [`wait`].
pub(crate) fn wait_any(ctx: &TaskContext, words: &[WaitOn], until: Option<u64>) -> Result<u64, SysError> {
    let mut waiters: Vec<Arc<Waiter>> = Vec::with_capacity(words.len());
    let table = &ctx.kernel().futexes;
    // Those woken meanwhile are not in the table any more; the last of them is the answer, as on Linux.
    let leave = |waiters: &[Arc<Waiter>]| {
        let mut woken = None;
        for (index, waiter) in waiters.iter().enumerate() {
            if !table.remove(waiter) {
                woken = Some(index as u64);
            }
        }
        woken
    };
    for word in words {
        let queued = word.place.key(ctx.mm()).and_then(|key| {
            let waiter = new_waiter(ctx, key, word.place.address, Kind::Plain(word.mask), None);
            enqueue(ctx, &waiter, word.value)?;
            waiters.push(waiter);
            Ok(())
        });
        if let Err(errno) = queued {
            return leave(&waiters).ok_or(errno.into());
        }
    }
    let any = || waiters.iter().any(|waiter| waiter.is_woken()).then_some(());
    let end = ctx.wait(&[], moment(until), any);
    match (leave(&waiters), end) {
        (Some(index), _) => Ok(index),
        (None, Err(WaitEnd::TimedOut)) => Err(Errno::ETIMEDOUT.here().into()),
        (None, _) => Err(Restart::ByFlag.into()),
    }
}

/// `FUTEX_WAIT_REQUEUE_PI`: waits for a word, to be moved to a lock with priority inheritance and to own it.
///
/// # Errors
/// As for [`wait`], and `EINVAL` if both words are the same.
pub(crate) fn wait_for_requeue_pi(
    ctx: &TaskContext,
    on: WaitOn,
    lock: Place,
    until: Option<u64>,
) -> Result<(), SysError> {
    let mm = ctx.mm();
    let key = on.place.key(mm)?;
    let target = lock.key(mm)?;
    if key == target {
        return Err(Errno::EINVAL.here().into());
    }
    // The lock's page must be there to be written when the time comes.
    mm.with_word(lock.address, true, |_| ())?;
    let waiter = new_waiter(ctx, key, on.place.address, Kind::BeforeLock, Some((target, lock.address)));
    let table = &ctx.kernel().futexes;
    table.note_lock_wait();
    enqueue(ctx, &waiter, on.value)?;
    table.lock_waiters.enter(&waiter);
    let end = ctx.wait(&[], moment(until), || waiter.is_woken().then_some(()));
    table.lock_waiters.leave(waiter.tid);
    let moved = waiter.kind() == Kind::Lock;
    match end {
        Ok(()) => Ok(()),
        Err(_) if !table.remove(&waiter) => Ok(()),
        Err(WaitEnd::TimedOut) => Err(Errno::ETIMEDOUT.here().into()),
        // Moved already, the first word is waited for no more: the call cannot run again.
        Err(WaitEnd::Interrupted) if moved => Err(Errno::EAGAIN.here().into()),
        Err(WaitEnd::Interrupted) => Err(Restart::Always.into()),
    }
}

/// Lets garbage go; a name for the moment at which no lock is held any more.
pub(super) fn dispose(garbage: Garbage) {
    drop(garbage);
}
