//! Moving waiters from one futex to another, and waking on two at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use amber_abi::errno::Errno;
use amber_abi::futex::{
    FUTEX_OP_ADD, FUTEX_OP_ANDN, FUTEX_OP_CMP_EQ, FUTEX_OP_CMP_GE, FUTEX_OP_CMP_GT, FUTEX_OP_CMP_LE, FUTEX_OP_CMP_LT,
    FUTEX_OP_CMP_NE, FUTEX_OP_OPARG_SHIFT, FUTEX_OP_OR, FUTEX_OP_SET, FUTEX_OP_XOR, FUTEX_TID_MASK,
};

use super::Place;
use super::pi::{Attempt, attempt};
use super::table::{FutexTable, Garbage, Kind, Waiter, wake_in};
use super::wait::dispose;
use crate::task::TaskContext;

/// A request to move waiters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requeue {
    /// Where they wait.
    pub from: Place,
    /// Where they shall wait.
    pub to: Place,
    /// How many to wake before.
    pub wake: i32,
    /// How many to move at most.
    pub most: i32,
    /// The value that the first word must have, if any.
    pub value: Option<u32>,
}

/// `FUTEX_REQUEUE` and `FUTEX_CMP_REQUEUE`; answers how many were woken or moved.
///
/// # Errors
/// `EAGAIN` if the value differs, `EINVAL` for negative counts or waiters for a lock, those of [`Place::key`].
pub(crate) fn requeue(ctx: &TaskContext, request: Requeue) -> Result<u64, Errno> {
    let Requeue { from, to, wake, most, value } = request;
    if wake < 0 || most < 0 {
        return Err(Errno::EINVAL.here());
    }
    let mm = ctx.mm();
    let (one, two) = (from.key(mm)?, to.key(mm)?);
    let table = &ctx.kernel().futexes;
    let mut garbage = Garbage::default();
    let mut work = |word: Option<&AtomicU32>| {
        let mut pair = table.lock_two(&one, &two);
        if let (Some(word), Some(value)) = (word, value)
            && word.load(Ordering::SeqCst) != value
        {
            return Err(Errno::EAGAIN.here());
        }
        let chosen: Vec<Arc<Waiter>> =
            pair.one().waiters(&one).take((wake as usize).saturating_add(most as usize)).cloned().collect();
        if chosen.iter().any(|waiter| !matches!(waiter.kind(), Kind::Plain(_))) {
            return Err(Errno::EINVAL.here());
        }
        for (index, waiter) in chosen.iter().enumerate() {
            if index < wake as usize {
                pair.one().wake(&one, waiter, &mut garbage);
            } else if one != two {
                FutexTable::requeue(&mut pair, &one, &two, waiter, to.address, &mut garbage);
            }
        }
        let count = chosen.len() as u64;
        garbage.0.extend(chosen);
        Ok(count)
    };
    let result = if value.is_some() { mm.with_word(from.address, false, |word| work(Some(word)))? } else { work(None) };
    dispose(garbage);
    result
}

/// `FUTEX_CMP_REQUEUE_PI`: gives the lock to the first waiter, or has it and `most` others wait for it. Answers how many
/// were woken or moved.
///
/// # Errors
/// `EAGAIN` if the value differs or the lock's word changed meanwhile, `EINVAL` if a waiter did not ask for this lock,
/// `ESRCH` if the lock's owner is no more.
pub(crate) fn requeue_pi(ctx: &TaskContext, request: Requeue) -> Result<u64, Errno> {
    let Requeue { from, to, wake, most, value } = request;
    let mm = ctx.mm();
    // Linux wakes exactly the one that gets the lock.
    if wake != 1 || most < 0 {
        return Err(Errno::EINVAL.here());
    }
    let (one, two) = (from.key(mm)?, to.key(mm)?);
    if one == two {
        return Err(Errno::EINVAL.here());
    }
    let table = &ctx.kernel().futexes;
    let mut garbage = Garbage::default();
    let word = mm.with_word(to.address, true, |word| word.load(Ordering::SeqCst))?;
    let known = table.lock(&two).owner(&two);
    let named = known.unwrap_or((word & FUTEX_TID_MASK) as i32);
    let owner_task = ctx.kernel().processes.lock().task(named).cloned();
    let seen = mm.with_word(from.address, false, |word| word.load(Ordering::SeqCst))?;
    if value.is_some_and(|value| value != seen) {
        return Err(Errno::EAGAIN.here());
    }
    let result = mm.with_word(to.address, true, |word| {
        let mut pair = table.lock_two(&one, &two);
        let chosen: Vec<Arc<Waiter>> =
            pair.one().waiters(&one).take((most as usize).saturating_add(1)).cloned().collect();
        let fits = |waiter: &Arc<Waiter>| {
            let place = waiter.place();
            place.kind == Kind::BeforeLock && place.target.is_some_and(|(key, _)| key == two)
        };
        if !chosen.iter().all(fits) {
            return Err(Errno::EINVAL.here());
        }
        let Some((first, others)) = chosen.split_first() else { return Ok(0) };
        let mut rest = &chosen[..];
        let mut count = 0;
        let owner = match attempt(pair.two(), &two, word, first.tid, chosen.len() > 1)? {
            Attempt::Taken => {
                pair.one().wake(&one, first, &mut garbage);
                rest = others;
                count = 1;
                first.tid
            }
            Attempt::Owned(owner) => {
                if owner != named {
                    return Err(Errno::EAGAIN.here());
                }
                if owner_task.as_ref().is_none_or(|task| task.has_released_futexes()) {
                    return Err(Errno::ESRCH.here());
                }
                owner
            }
            Attempt::Again => return Err(Errno::EAGAIN.here()),
        };
        for waiter in rest {
            let address = waiter.place().target.map_or(to.address, |(_, address)| address);
            FutexTable::requeue(&mut pair, &one, &two, waiter, address, &mut garbage);
            count += 1;
        }
        if !rest.is_empty() {
            pair.two().set_owner(&two, owner);
        }
        garbage.0.extend(chosen.iter().cloned());
        Ok(count)
    })?;
    dispose(garbage);
    result
}

/// The change and the question of `FUTEX_WAKE_OP`, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WordOperation {
    operation: u32,
    argument: u32,
    comparison: u32,
    compared: i32,
}

impl WordOperation {
    fn decode(encoded: u32) -> Result<Self, Errno> {
        let sign_extend = |value: u32| ((value << 20) as i32) >> 20;
        let mut argument = sign_extend(encoded >> 12) as u32;
        let operation = encoded >> 28;
        if operation & FUTEX_OP_OPARG_SHIFT != 0 {
            argument = 1 << (argument & 31);
        }
        let operation = operation & 7;
        let comparison = (encoded >> 24) & 15;
        if operation > FUTEX_OP_XOR || comparison > FUTEX_OP_CMP_GE {
            return Err(Errno::ENOSYS.here());
        }
        Ok(WordOperation { operation, argument, comparison, compared: sign_extend(encoded) })
    }

    /// Changes the word; whether the old value answers the question with yes.
    fn apply(&self, word: &AtomicU32) -> bool {
        let argument = self.argument;
        let old = match self.operation {
            FUTEX_OP_SET => word.swap(argument, Ordering::SeqCst),
            FUTEX_OP_ADD => word.fetch_add(argument, Ordering::SeqCst),
            FUTEX_OP_OR => word.fetch_or(argument, Ordering::SeqCst),
            FUTEX_OP_ANDN => word.fetch_and(!argument, Ordering::SeqCst),
            _ => word.fetch_xor(argument, Ordering::SeqCst),
        } as i32;
        match self.comparison {
            FUTEX_OP_CMP_EQ => old == self.compared,
            FUTEX_OP_CMP_NE => old != self.compared,
            FUTEX_OP_CMP_LT => old < self.compared,
            FUTEX_OP_CMP_LE => old <= self.compared,
            FUTEX_OP_CMP_GT => old > self.compared,
            _ => old >= self.compared,
        }
    }
}

/// `FUTEX_WAKE_OP`: changes the second word, wakes `count` on the first, and `other` on the second if its old value says
/// so. Answers how many were woken.
///
/// # Errors
/// `ENOSYS` for an unknown operation, those of [`Place::key`].
pub(crate) fn wake_op(
    ctx: &TaskContext,
    first: Place,
    second: Place,
    count: i32,
    other: i32,
    encoded: u32,
) -> Result<u64, Errno> {
    let mm = ctx.mm();
    let (one, two) = (first.key(mm)?, second.key(mm)?);
    let operation = WordOperation::decode(encoded)?;
    let mut garbage = Garbage::default();
    let result = mm.with_word(second.address, true, |word| {
        let mut pair = ctx.kernel().futexes.lock_two(&one, &two);
        let also = operation.apply(word);
        let mut woken = wake_in(pair.one(), &one, count, u32::MAX, &mut garbage)?;
        if also {
            woken += wake_in(pair.two(), &two, other, u32::MAX, &mut garbage)?;
        }
        Ok(woken)
    })?;
    dispose(garbage);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_decoded_and_applied() {
        let encode = |op: u32, cmp: u32, argument: i32, compared: i32| {
            op << 28 | cmp << 24 | (argument as u32 & 0xfff) << 12 | compared as u32 & 0xfff
        };
        let word = AtomicU32::new(5);
        assert!(WordOperation::decode(encode(FUTEX_OP_ADD, FUTEX_OP_CMP_EQ, -2, 5)).unwrap().apply(&word));
        assert_eq!(word.load(Ordering::SeqCst), 3);
        let shifted = encode(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, FUTEX_OP_CMP_LT, 4, -1);
        assert!(!WordOperation::decode(shifted).unwrap().apply(&word));
        assert_eq!(word.load(Ordering::SeqCst), 19);
        assert_eq!(WordOperation::decode(encode(5, 0, 0, 0)), Err(Errno::ENOSYS));
        assert_eq!(WordOperation::decode(encode(0, 6, 0, 0)), Err(Errno::ENOSYS));
    }
}
