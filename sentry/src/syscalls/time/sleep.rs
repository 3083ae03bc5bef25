//! nanosleep(2) and clock_nanosleep(2).

use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::time::{ClockId, TimerFlags, Timespec};

use super::clock::{Named, named};
use crate::clock::{deadline_of, monotonic, to_timespec};
use crate::error::{Restart, Resume, SysResult};
use crate::syscalls::args::{In, Out};
use crate::task::TaskContext;
use crate::time::TimerClock;
use crate::wait::WaitEnd;

/// nanosleep(2).
pub(crate) fn nanosleep(ctx: &mut TaskContext, request: In<Timespec>, remainder: Out<Timespec>) -> SysResult {
    clock_nanosleep(ctx, ClockId::CLOCK_MONOTONIC, TimerFlags::empty(), request, remainder)
}

/// clock_nanosleep(2).
pub(crate) fn clock_nanosleep(
    ctx: &mut TaskContext,
    id: ClockId,
    flags: TimerFlags,
    request: In<Timespec>,
    remainder: Out<Timespec>,
) -> SysResult {
    if matches!(id, ClockId::CLOCK_REALTIME_ALARM | ClockId::CLOCK_BOOTTIME_ALARM) {
        return Err(Errno::EOPNOTSUPP.here().into());
    }
    let Named { clock, can_wait, own_thread, .. } = named(ctx, id, false)?;
    if !can_wait || id == ClockId::CLOCK_THREAD_CPUTIME_ID {
        return Err(Errno::EOPNOTSUPP.here().into());
    }
    let time = request.read(ctx)?;
    // The clock of the caller's own CPU time stands still during a sleep.
    if !time.is_valid() || own_thread {
        return Err(Errno::EINVAL.here().into());
    }
    let nanos = time.to_nanos().unsigned_abs();
    if flags.contains(TimerFlags::TIMER_ABSTIME) {
        return match sleep_until(ctx, &clock, nanos) {
            Err(WaitEnd::Interrupted) => Err(Restart::UnlessHandled.into()),
            _ => Ok(0),
        };
    }
    // A relative sleep does not depend on changes of the clock.
    let clock_number = if id == ClockId::CLOCK_REALTIME { ClockId::CLOCK_MONOTONIC } else { id };
    let until = named(ctx, clock_number, false)?.clock.now()?.saturating_add(nanos);
    resume(ctx, clock_number.raw(), until, remainder.0)
}

/// Sleeps until the clock reaches `until` nanoseconds. Also continues a sleep that a signal interrupted.
pub(crate) fn resume(ctx: &mut TaskContext, clock_number: i32, until: u64, remainder: u64) -> SysResult {
    let clock = named(ctx, ClockId::from_raw(clock_number), false)?.clock;
    if sleep_until(ctx, &clock, until) != Err(WaitEnd::Interrupted) {
        return Ok(0);
    }
    if remainder != 0 {
        let left = until.saturating_sub(clock.now().unwrap_or(until));
        ctx.write_object(remainder, &to_timespec(left))?;
    }
    Err(Restart::Resume(Resume::Sleep { clock: clock_number, until, remainder }).into())
}

fn sleep_until(ctx: &TaskContext, clock: &TimerClock, until: u64) -> Result<(), WaitEnd> {
    loop {
        // As on Linux, the end of the clock's process ends the sleep.
        let over = || clock.now().ok().is_none_or(|now| now >= until).then_some(());
        match ctx.wait(&[], next_check(clock, until), over) {
            // The clock was set back, or stood still because no task ran.
            Err(WaitEnd::TimedOut) => {}
            end => return end,
        }
    }
}

/// The earliest time at which the clock can reach `until`.
fn next_check(clock: &TimerClock, until: u64) -> Option<Instant> {
    match clock {
        TimerClock::System(clock) => deadline_of(clock.to_monotonic(until)),
        TimerClock::Cpu(cpu) => {
            /// Interval between checks of a clock that stands still, in nanoseconds.
            const PAUSE: u64 = 20_000_000;
            let remaining = until.saturating_sub(cpu.now().unwrap_or(until));
            let delay = cpu.check_delay(remaining).unwrap_or(remaining.max(PAUSE));
            deadline_of(monotonic().saturating_add(delay))
        }
    }
}
