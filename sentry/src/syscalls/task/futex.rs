//! futex(2) and the later futex calls.

use amber_abi::errno::Errno;
use amber_abi::futex::{FUTEX_WAITV_MAX, Futex2Flags, FutexCommand, FutexOp, FutexWaitv};
use amber_abi::time::{ClockId, Timespec};

use crate::clock::{Clock, monotonic};
use crate::error::{Restart, Resume, SysError, SysResult};
use crate::futex::{
    Place, Requeue, WaitOn, lock_pi, requeue, requeue_pi, unlock_pi, wait, wait_any, wait_for_requeue_pi, wake, wake_op,
};
use crate::syscalls::args::{In, PtrIn, PtrOut};
use crate::task::TaskContext;

/// Converts a time to nanoseconds.
fn nanos(time: Timespec) -> Result<u64, Errno> {
    if time.tv_sec < 0 || !(0..1_000_000_000).contains(&time.tv_nsec) {
        return Err(Errno::EINVAL.here());
    }
    Ok((time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64))
}

/// futex(2).
pub(crate) fn futex(
    ctx: &mut TaskContext,
    address: PtrOut,
    operation: FutexOp,
    value: u32,
    timeout: In<Timespec>,
    second: PtrOut,
    value3: u32,
) -> SysResult {
    use FutexCommand as Command;
    let command = operation.command();
    let clock = if operation.is_realtime() { Clock::Realtime } else { Clock::Monotonic };
    let clock_matters = [Command::FUTEX_WAIT_BITSET, Command::FUTEX_WAIT_REQUEUE_PI, Command::FUTEX_LOCK_PI2];
    let waits = clock_matters.contains(&command) || [Command::FUTEX_WAIT, Command::FUTEX_LOCK_PI].contains(&command);
    // The timeout is checked before the command.
    let time = if waits && !timeout.is_null() { Some(nanos(timeout.read(ctx)?)?) } else { None };
    if operation.is_realtime() && !clock_matters.contains(&command) {
        return Err(Errno::ENOSYS.here().into());
    }
    let until = time.map(|time| match command {
        Command::FUTEX_WAIT => monotonic().saturating_add(time),
        Command::FUTEX_LOCK_PI => Clock::Realtime.to_monotonic(time),
        _ => clock.to_monotonic(time),
    });
    let shared = !operation.is_private();
    let place = Place { address: address.0, shared };
    let other = Place { address: second.0, shared };
    // In commands without a timeout, its register is a second count.
    let count = value as i32;
    let count2 = timeout.0 as u32 as i32;
    let move_to = |value| Requeue { from: place, to: other, wake: count, most: count2, value };
    match command {
        Command::FUTEX_WAIT => wait_with_restart(ctx, place, value, u32::MAX, operation, until),
        Command::FUTEX_WAIT_BITSET => wait_with_restart(ctx, place, value, value3, operation, until),
        Command::FUTEX_WAKE => Ok(wake(ctx, place, count, u32::MAX)?),
        Command::FUTEX_WAKE_BITSET if value3 == 0 => Err(Errno::EINVAL.here().into()),
        Command::FUTEX_WAKE_BITSET => Ok(wake(ctx, place, count, value3)?),
        Command::FUTEX_REQUEUE => Ok(requeue(ctx, move_to(None))?),
        Command::FUTEX_CMP_REQUEUE => Ok(requeue(ctx, move_to(Some(value3)))?),
        Command::FUTEX_WAKE_OP => Ok(wake_op(ctx, place, other, count, count2, value3)?),
        Command::FUTEX_LOCK_PI | Command::FUTEX_LOCK_PI2 => lock_pi(ctx, place, until, false).map(|()| 0),
        Command::FUTEX_TRYLOCK_PI => lock_pi(ctx, place, None, true).map(|()| 0),
        Command::FUTEX_UNLOCK_PI => Ok(unlock_pi(ctx, place).map(|()| 0)?),
        Command::FUTEX_WAIT_REQUEUE_PI => {
            wait_for_requeue_pi(ctx, WaitOn { place, value, mask: u32::MAX }, other, until).map(|()| 0)
        }
        Command::FUTEX_CMP_REQUEUE_PI => Ok(requeue_pi(ctx, move_to(Some(value3)))?),
        _ => Err(Errno::ENOSYS.here().into()),
    }
}

/// Waits. After an interruption by a signal, the wait continues with the same deadline.
fn wait_with_restart(
    ctx: &TaskContext,
    place: Place,
    value: u32,
    mask: u32,
    operation: FutexOp,
    until: Option<u64>,
) -> SysResult {
    if mask == 0 {
        return Err(Errno::EINVAL.here().into());
    }
    match (wait(ctx, WaitOn { place, value, mask }, until), until) {
        (Ok(()), _) => Ok(0),
        (Err(SysError::Restart(Restart::ByFlag)), Some(until)) => Err(Restart::Resume(Resume::FutexWait {
            address: place.address,
            value,
            operation: operation.raw() as i32,
            mask,
            until,
        })
        .into()),
        (Err(error), _) => Err(error),
    }
}

/// Continues an interrupted wait, for restart_syscall(2).
pub(crate) fn resume(ctx: &TaskContext, address: u64, value: u32, operation: i32, mask: u32, until: u64) -> SysResult {
    let operation = FutexOp::from_raw(operation as u32);
    let place = Place { address, shared: !operation.is_private() };
    wait_with_restart(ctx, place, value, mask, operation, Some(until))
}

/// Checks the flags of the newer calls. Returns whether the futex is shared.
fn check_flags(flags: Futex2Flags) -> Result<bool, Errno> {
    let size = Futex2Flags::from_bits_retain(3);
    if !(size | Futex2Flags::FUTEX2_PRIVATE).contains(flags) {
        return Err(Errno::EINVAL.here());
    }
    // As in Linux so far, only words of 32 bits.
    if flags & size != Futex2Flags::FUTEX2_SIZE_U32 {
        return Err(Errno::EINVAL.here());
    }
    Ok(!flags.contains(Futex2Flags::FUTEX2_PRIVATE))
}

/// The deadline of the newer calls, absolute on the given clock.
fn deadline(ctx: &TaskContext, timeout: In<Timespec>, clock: ClockId) -> Result<Option<u64>, Errno> {
    if timeout.is_null() {
        return Ok(None);
    }
    let clock = match clock {
        ClockId::CLOCK_REALTIME => Clock::Realtime,
        ClockId::CLOCK_MONOTONIC => Clock::Monotonic,
        _ => return Err(Errno::EINVAL.here()),
    };
    Ok(Some(clock.to_monotonic(nanos(timeout.read(ctx)?)?)))
}

fn check_word(value: u64, flags: Futex2Flags) -> Result<(bool, u32), Errno> {
    let shared = check_flags(flags)?;
    Ok((shared, u32::try_from(value).map_err(|_| Errno::EINVAL.here())?))
}

/// Reads the arrays of futex_waitv(2) and futex_requeue(2).
fn read_words(ctx: &TaskContext, waiters: PtrIn, count: usize) -> Result<Vec<WaitOn>, Errno> {
    let list: Vec<FutexWaitv> = ctx.read_array(waiters.0, count)?;
    let word = |waiter: &FutexWaitv| {
        if waiter.__reserved != 0 {
            return Err(Errno::EINVAL.here());
        }
        let (shared, value) = check_word(waiter.val, Futex2Flags::from_bits_retain(waiter.flags))?;
        Ok(WaitOn { place: Place { address: waiter.uaddr, shared }, value, mask: u32::MAX })
    };
    list.iter().map(word).collect()
}

/// futex_waitv(2).
pub(crate) fn futex_waitv(
    ctx: &mut TaskContext,
    waiters: PtrIn,
    count: u32,
    flags: u32,
    timeout: In<Timespec>,
    clock: ClockId,
) -> SysResult {
    if flags != 0 || count == 0 || count as usize > FUTEX_WAITV_MAX || waiters.is_null() {
        return Err(Errno::EINVAL.here().into());
    }
    let until = deadline(ctx, timeout, clock)?;
    let words = read_words(ctx, waiters, count as usize)?;
    wait_any(ctx, &words, until)
}

/// futex_wake(2).
pub(crate) fn futex_wake(
    ctx: &mut TaskContext,
    address: PtrIn,
    mask: u64,
    count: i32,
    flags: Futex2Flags,
) -> SysResult {
    let (shared, mask) = check_word(mask, flags)?;
    let place = Place { address: address.0, shared };
    if mask == 0 {
        return Err(Errno::EINVAL.here().into());
    }
    if count == 0 {
        place.key(ctx.mm())?;
        return Ok(0);
    }
    Ok(wake(ctx, place, count, mask)?)
}

/// futex_wait(2).
pub(crate) fn futex_wait(
    ctx: &mut TaskContext,
    address: PtrIn,
    value: u64,
    mask: u64,
    flags: Futex2Flags,
    timeout: In<Timespec>,
    clock: ClockId,
) -> SysResult {
    let (shared, value) = check_word(value, flags)?;
    let (_, mask) = check_word(mask, flags)?;
    let until = deadline(ctx, timeout, clock)?;
    if mask == 0 {
        return Err(Errno::EINVAL.here().into());
    }
    // The deadline is absolute, so the call can be restarted.
    wait(ctx, WaitOn { place: Place { address: address.0, shared }, value, mask }, until).map(|()| 0)
}

/// futex_requeue(2).
pub(crate) fn futex_requeue(ctx: &mut TaskContext, waiters: PtrIn, flags: u32, wake: i32, most: i32) -> SysResult {
    if flags != 0 || waiters.is_null() {
        return Err(Errno::EINVAL.here().into());
    }
    let words = read_words(ctx, waiters, 2)?;
    let [from, to] = words[..] else { return Err(Errno::EINVAL.here().into()) };
    Ok(requeue(ctx, Requeue { from: from.place, to: to.place, wake, most, value: Some(from.value) })?)
}
