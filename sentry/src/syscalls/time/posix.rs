//! The timers of timer_create(2).

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::signal::{SigEvent, SigevNotify, Signal};
use amber_abi::task::Resource;
use amber_abi::time::{ClockId, Itimerspec, TimerFlags};

use super::clock::named;
use crate::error::SysResult;
use crate::syscalls::args::{In, Out};
use crate::task::TaskContext;
use crate::time::{Notice, SignalTimer};
use crate::users::Counted;

/// timer_create(2).
pub(crate) fn timer_create(ctx: &mut TaskContext, id: ClockId, event: In<SigEvent>, timer: Out<i32>) -> SysResult {
    if matches!(id, ClockId::CLOCK_REALTIME_ALARM | ClockId::CLOCK_BOOTTIME_ALARM) {
        return Err(Errno::EOPNOTSUPP.here().into());
    }
    let clock = named(ctx, id, false)?;
    if !clock.can_wait {
        return Err(Errno::EOPNOTSUPP.here().into());
    }
    let event = event.read_if_given(ctx)?;
    let user = ctx.kernel().users.get(ctx.credentials().uid);
    let limit = ctx.group().limits().soft(Resource::RLIMIT_SIGPENDING);
    let charge = user.try_charge(Counted::Signals, limit).ok_or_else(|| Errno::EAGAIN.here())?;
    let notice = event.map(|event| notice(ctx, &event)).transpose()?;
    let group = ctx.group().clone();
    let number = group.timers().add(|number| {
        // Without a `sigevent`, SIGALRM has the timer's ID as value.
        let notice =
            notice.unwrap_or(Notice::Posix { signal: Signal::SIGALRM, value: u64::from(number as u32), task: None });
        SignalTimer::new(&ctx.kernel().time.timers, &group, number, clock.clock, notice, Some(charge))
    })?;
    if let Err(errno) = timer.write(ctx, &number) {
        drop(group.timers().remove(number));
        return Err(errno.into());
    }
    Ok(0)
}

/// The effect of an expiration that the guest requests.
fn notice(ctx: &TaskContext, event: &SigEvent) -> Result<Notice, Errno> {
    let how = SigevNotify::from_raw(event.sigev_notify);
    let signal = || Signal::from_raw(event.sigev_signo).ok_or_else(|| Errno::EINVAL.here());
    let value = event.sigev_value;
    match how {
        SigevNotify::SIGEV_NONE => Ok(Notice::None),
        SigevNotify::SIGEV_SIGNAL | SigevNotify::SIGEV_THREAD => {
            Ok(Notice::Posix { signal: signal()?, value, task: None })
        }
        SigevNotify::SIGEV_THREAD_ID => {
            let number = event.sigev_notify_thread_id;
            let task = ctx.kernel().processes.lock().task(number).cloned();
            let task = task.filter(|t| t.group().pid() == ctx.group().pid()).ok_or_else(|| Errno::EINVAL.here())?;
            Ok(Notice::Posix { signal: signal()?, value, task: Some(Arc::downgrade(&task)) })
        }
        _ => Err(Errno::EINVAL.here()),
    }
}

/// timer_settime(2).
pub(crate) fn timer_settime(
    ctx: &mut TaskContext,
    timer: i32,
    flags: TimerFlags,
    new_value: In<Itimerspec>,
    old_value: Out<Itimerspec>,
) -> SysResult {
    let setting = new_value.read_if_given(ctx)?.ok_or_else(|| Errno::EINVAL.here())?;
    if !setting.it_value.is_valid() || !setting.it_interval.is_valid() {
        return Err(Errno::EINVAL.here().into());
    }
    let timer = ctx.group().timers().get(timer)?;
    let old = timer.set(&setting, flags.contains(TimerFlags::TIMER_ABSTIME))?;
    old_value.write_if_given(ctx, &old)?;
    Ok(0)
}

/// timer_gettime(2).
pub(crate) fn timer_gettime(ctx: &mut TaskContext, timer: i32, value: Out<Itimerspec>) -> SysResult {
    let setting = ctx.group().timers().get(timer)?.setting()?;
    value.write(ctx, &setting)?;
    Ok(0)
}

/// timer_getoverrun(2).
pub(crate) fn timer_getoverrun(ctx: &mut TaskContext, timer: i32) -> SysResult {
    Ok(ctx.group().timers().get(timer)?.overrun() as u64)
}

/// timer_delete(2). A pending signal remains.
pub(crate) fn timer_delete(ctx: &mut TaskContext, timer: i32) -> SysResult {
    ctx.group().timers().remove(timer)?.disarm();
    Ok(0)
}
