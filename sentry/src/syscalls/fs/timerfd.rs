//! timerfd_create(2), timerfd_settime(2) and timerfd_gettime(2).

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::time::{ClockId, Itimerspec, TimerfdFlags, TimerfdSetFlags};

use crate::clock::Clock;
use crate::error::SysResult;
use crate::fs::timerfd::TimerFd;
use crate::syscalls::args::{Fd, In, Out};
use crate::syscalls::fs::anonymous::install;
use crate::task::TaskContext;
use crate::vfs::FileDescription;

/// timerfd_create(2).
pub(crate) fn timerfd_create(ctx: &mut TaskContext, id: ClockId, flags: TimerfdFlags) -> SysResult {
    let clock = match id {
        ClockId::CLOCK_REALTIME | ClockId::CLOCK_REALTIME_ALARM => Clock::Realtime,
        ClockId::CLOCK_MONOTONIC => Clock::Monotonic,
        ClockId::CLOCK_BOOTTIME | ClockId::CLOCK_BOOTTIME_ALARM => Clock::Boottime,
        _ => return Err(Errno::EINVAL.here().into()),
    };
    if !TimerfdFlags::all().contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let wakes = matches!(id, ClockId::CLOCK_REALTIME_ALARM | ClockId::CLOCK_BOOTTIME_ALARM);
    if wakes && !ctx.credentials().has(Capability::CAP_WAKE_ALARM) {
        return Err(Errno::EPERM.here().into());
    }
    let timer = TimerFd::new(&ctx.kernel().vfs, &ctx.kernel().time.timers, id, clock);
    install(ctx, timer, OpenFlags::O_RDWR, flags.bits())
}

/// timerfd_settime(2).
pub(crate) fn timerfd_settime(
    ctx: &mut TaskContext,
    fd: Fd,
    flags: TimerfdSetFlags,
    new_value: In<Itimerspec>,
    old_value: Out<Itimerspec>,
) -> SysResult {
    let setting = new_value.read(ctx)?;
    if !TimerfdSetFlags::all().contains(flags) || !setting.it_value.is_valid() || !setting.it_interval.is_valid() {
        return Err(Errno::EINVAL.here().into());
    }
    let description = ctx.files().get(fd.0)?;
    let old = timer(&description)?.set(&setting, flags)?;
    old_value.write_if_given(ctx, &old)?;
    Ok(0)
}

/// timerfd_gettime(2).
pub(crate) fn timerfd_gettime(ctx: &mut TaskContext, fd: Fd, value: Out<Itimerspec>) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    value.write(ctx, &timer(&description)?.get())?;
    Ok(0)
}

fn timer(description: &Arc<FileDescription>) -> Result<&TimerFd, Errno> {
    description.downcast().ok_or_else(|| Errno::EINVAL.here())
}
