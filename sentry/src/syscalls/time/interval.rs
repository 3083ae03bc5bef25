//! setitimer(2), getitimer(2) and alarm(2).

use amber_abi::Signal;
use amber_abi::errno::Errno;
use amber_abi::time::{ItimerWhich, Itimerspec, Itimerval, NSEC_PER_SEC, Timespec, Timeval};

use crate::clock::Clock;
use crate::error::SysResult;
use crate::syscalls::args::{In, Out};
use crate::task::TaskContext;
use crate::time::cpu::{CpuClock, Part};
use crate::time::{Notice, SignalTimer, TimerClock};

/// getitimer(2).
pub(crate) fn getitimer(ctx: &mut TaskContext, which: ItimerWhich, value: Out<Itimerval>) -> SysResult {
    let index = index_of(which)?;
    let setting = ctx.group().timers().interval(index).map(|t| t.setting()).transpose()?;
    value.write(ctx, &to_itimerval(&setting.unwrap_or_default()))?;
    Ok(0)
}

/// setitimer(2). NULL disarms the timer.
pub(crate) fn setitimer(
    ctx: &mut TaskContext,
    which: ItimerWhich,
    value: In<Itimerval>,
    old_value: Out<Itimerval>,
) -> SysResult {
    let value = value.read_if_given(ctx)?.unwrap_or_default();
    if !value.it_value.is_valid() || !value.it_interval.is_valid() {
        return Err(Errno::EINVAL.here().into());
    }
    let old = set(ctx, index_of(which)?, &to_itimerspec(&value))?;
    old_value.write_if_given(ctx, &to_itimerval(&old))?;
    Ok(0)
}

/// alarm(2).
pub(crate) fn alarm(ctx: &mut TaskContext, seconds: u32) -> SysResult {
    let it_value = Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    let old = set(ctx, 0, &Itimerspec { it_value, ..Itimerspec::default() })?.it_value;
    // Rounded to the nearest second, but never to zero.
    let up = old.tv_nsec >= NSEC_PER_SEC / 2 || (old.tv_sec == 0 && old.tv_nsec > 0);
    Ok((old.tv_sec + i64::from(up)) as u64)
}

fn index_of(which: ItimerWhich) -> Result<usize, Errno> {
    usize::try_from(which.raw()).ok().filter(|&i| i < 3).ok_or_else(|| Errno::EINVAL.here())
}

fn set(ctx: &TaskContext, index: usize, setting: &Itimerspec) -> Result<Itimerspec, Errno> {
    let group = ctx.group();
    let timer = group.timers().interval_or_new(index, || {
        let (clock, signal) = match index {
            0 => (TimerClock::System(Clock::Monotonic), Signal::SIGALRM),
            1 => (TimerClock::Cpu(CpuClock::of_process(group, Part::User)), Signal::SIGVTALRM),
            _ => (TimerClock::Cpu(CpuClock::of_process(group, Part::All)), Signal::SIGPROF),
        };
        SignalTimer::new(&ctx.kernel().time.timers, group, 0, clock, Notice::Kernel(signal), None)
    });
    timer.ok_or_else(|| Errno::EINVAL.here())?.set(setting, false)
}

fn to_itimerspec(value: &Itimerval) -> Itimerspec {
    let convert = |time: &Timeval| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_usec * 1000 };
    Itimerspec { it_interval: convert(&value.it_interval), it_value: convert(&value.it_value) }
}

fn to_itimerval(setting: &Itimerspec) -> Itimerval {
    let convert = |time: &Timespec| Timeval { tv_sec: time.tv_sec, tv_usec: time.tv_nsec / 1000 };
    let mut value = Itimerval { it_interval: convert(&setting.it_interval), it_value: convert(&setting.it_value) };
    // An armed timer has a remaining time.
    if value.it_value == Timeval::default() && setting.it_value != Timespec::default() {
        value.it_value.tv_usec = 1;
    }
    value
}
