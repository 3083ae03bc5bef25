//! Clocks: reading them, and setting them, which guests may not.

use amber_abi::errno::Errno;
use amber_abi::time::{ClockId, NSEC_PER_SEC, Timespec, Timeval, Timezone};
use amber_vdso::data::TICK;

use crate::clock::{Clock, to_timespec};
use crate::error::SysResult;
use crate::syscalls::args::{In, Out};
use crate::task::TaskContext;
use crate::time::TimerClock;
use crate::time::cpu::{CpuClock, Part};

/// Resolution of coarse clocks and of clocks in ticks, in nanoseconds.
const COARSE: i64 = TICK as i64;

/// The low bits of the ID of a CPU time clock: the kind of time, and whether it is a thread's.
const CPU_KIND: i32 = 3;
const CPU_THREAD: i32 = 4;
/// Values of [`CPU_KIND`]: all time in ticks, user time in ticks, exact time.
const CPU_PROF: i32 = 0;
const CPU_VIRT: i32 = 1;
const CPU_SCHED: i32 = 2;

/// A clock, as its ID specifies it.
pub(crate) struct Named {
    /// The clock.
    pub clock: TimerClock,
    /// The resolution in nanoseconds.
    pub resolution: i64,
    /// Timers and sleeps are possible.
    pub can_wait: bool,
    /// It is the calling thread's own CPU time.
    pub own_thread: bool,
}

/// The clock with this ID. With `for_reading`, the ID of a process clock may contain the calling thread's ID.
///
/// # Errors
/// `EINVAL` for unknown clocks, and for alarm clocks, since there is no real-time clock to wake the machine.
pub(crate) fn named(ctx: &TaskContext, id: ClockId, for_reading: bool) -> Result<Named, Errno> {
    let system = |clock, resolution, can_wait| {
        Ok(Named { clock: TimerClock::System(clock), resolution, can_wait, own_thread: false })
    };
    match id {
        ClockId::CLOCK_REALTIME => system(Clock::Realtime, 1, true),
        ClockId::CLOCK_MONOTONIC => system(Clock::Monotonic, 1, true),
        ClockId::CLOCK_BOOTTIME => system(Clock::Boottime, 1, true),
        ClockId::CLOCK_TAI => system(Clock::Tai, 1, true),
        ClockId::CLOCK_MONOTONIC_RAW => system(Clock::MonotonicRaw, 1, false),
        ClockId::CLOCK_REALTIME_COARSE => system(Clock::RealtimeCoarse, COARSE, false),
        ClockId::CLOCK_MONOTONIC_COARSE => system(Clock::MonotonicCoarse, COARSE, false),
        ClockId::CLOCK_PROCESS_CPUTIME_ID => cpu(ctx, CPU_SCHED, 0, for_reading),
        ClockId::CLOCK_THREAD_CPUTIME_ID => cpu(ctx, CPU_SCHED | CPU_THREAD, 0, for_reading),
        id if id.raw() < 0 => cpu(ctx, id.raw() & (CPU_KIND | CPU_THREAD), !(id.raw() >> 3), for_reading),
        _ => Err(Errno::EINVAL.here()),
    }
}

/// The CPU time clock of the process or thread `number`; 0 is the caller.
fn cpu(ctx: &TaskContext, kind: i32, number: i32, for_reading: bool) -> Result<Named, Errno> {
    let (part, resolution) = match kind & CPU_KIND {
        CPU_PROF => (Part::All, COARSE),
        CPU_VIRT => (Part::User, COARSE),
        CPU_SCHED => (Part::All, 1),
        // Dynamic clocks, which are descriptors of devices.
        _ => return Err(Errno::EINVAL.here()),
    };
    let of_thread = kind & CPU_THREAD != 0;
    let task = match number {
        0 => ctx.task().clone(),
        number => ctx.kernel().processes.lock().task(number).cloned().ok_or_else(|| Errno::EINVAL.here())?,
    };
    let clock = if of_thread {
        if task.group().pid() != ctx.group().pid() {
            return Err(Errno::EINVAL.here());
        }
        CpuClock::of_thread(&task, part)
    } else {
        let is_process = number == 0 || task.is_leader() || (for_reading && task.tid() == ctx.tid());
        if !is_process {
            return Err(Errno::EINVAL.here());
        }
        CpuClock::of_process(task.group(), part)
    };
    let own_thread = of_thread && task.tid() == ctx.tid();
    Ok(Named { clock: TimerClock::Cpu(clock), resolution, can_wait: true, own_thread })
}

/// clock_gettime(2).
pub(crate) fn clock_gettime(ctx: &mut TaskContext, id: ClockId, time: Out<Timespec>) -> SysResult {
    let now = match named(ctx, id, true)?.clock {
        TimerClock::System(clock) => ctx.kernel().time.vdso.now(clock),
        clock => clock.now().map_err(|_| Errno::EINVAL.here())?,
    };
    time.write(ctx, &to_timespec(now))?;
    Ok(0)
}

/// clock_getres(2).
pub(crate) fn clock_getres(ctx: &mut TaskContext, id: ClockId, resolution: Out<Timespec>) -> SysResult {
    let clock = named(ctx, id, true)?;
    resolution.write_if_given(ctx, &Timespec::from_nanos(clock.resolution))?;
    Ok(0)
}

/// clock_settime(2). Fails as without CAP_SYS_TIME, since the host sets the time.
pub(crate) fn clock_settime(ctx: &mut TaskContext, id: ClockId, time: In<Timespec>) -> SysResult {
    let clock = named(ctx, id, true)?.clock;
    if !matches!(clock, TimerClock::System(Clock::Realtime) | TimerClock::Cpu(_)) {
        return Err(Errno::EINVAL.here().into());
    }
    if !time.read(ctx)?.is_valid() {
        return Err(Errno::EINVAL.here().into());
    }
    Err(Errno::EPERM.here().into())
}

/// gettimeofday(2).
pub(crate) fn gettimeofday(ctx: &mut TaskContext, time: Out<Timeval>, zone: Out<Timezone>) -> SysResult {
    let now = i64::try_from(ctx.kernel().time.vdso.now(Clock::Realtime)).unwrap_or(i64::MAX);
    time.write_if_given(ctx, &Timeval::from_nanos(now))?;
    zone.write_if_given(ctx, &Timezone::default())?;
    Ok(0)
}

/// settimeofday(2); see [`clock_settime`].
pub(crate) fn settimeofday(ctx: &mut TaskContext, time: In<Timeval>, zone: In<Timezone>) -> SysResult {
    let time = time.read_if_given(ctx)?;
    zone.read_if_given(ctx)?;
    if time.is_some_and(|time| !time.is_valid()) {
        return Err(Errno::EINVAL.here().into());
    }
    Err(Errno::EPERM.here().into())
}

/// time(2).
pub(crate) fn time(ctx: &mut TaskContext, time: Out<i64>) -> SysResult {
    let now = (ctx.kernel().time.vdso.now(Clock::Realtime) / NSEC_PER_SEC as u64) as i64;
    time.write_if_given(ctx, &now)?;
    Ok(now as u64)
}
