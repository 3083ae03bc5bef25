//! Scheduling: policies, priorities, affinity.

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::sched::{SCHED_ATTR_SIZE_VER0, SCHED_RESET_ON_FORK, SchedAttr, SchedFlags, SchedParam, SchedPolicy};
use amber_abi::task::{IoprioClass, IoprioWho, PriorityWhich, Resource};
use amber_abi::time::Timespec;
use amber_platform::PAGE_SIZE;
use zerocopy::IntoBytes;

use crate::credentials::Credentials;
use crate::error::SysResult;
use crate::syscalls::args::{In, Out, PtrIn, PtrOut};
use crate::task::{CpuSet, Schedule, Task, TaskContext};

/// The time slice of SCHED_RR in nanoseconds.
const TURN: i64 = 100_000_000;
/// Priorities of the real-time policies.
const REAL_TIME: std::ops::RangeInclusive<i32> = 1..=99;
/// Shift of the class in an I/O priority.
const IOPRIO_CLASS_SHIFT: u32 = 13;
/// Number of levels in a class of I/O priorities.
const IOPRIO_LEVELS: u16 = 8;

/// The task of a `pid` argument; 0 is the caller. Negative values are invalid.
fn task_of(ctx: &TaskContext, pid: i32) -> Result<Arc<Task>, Errno> {
    if pid < 0 { Err(Errno::EINVAL.here()) } else { found_task(ctx, pid) }
}

/// Like [`task_of`], for calls in which a negative ID is unknown instead of invalid.
fn found_task(ctx: &TaskContext, pid: i32) -> Result<Arc<Task>, Errno> {
    if pid == 0 {
        Ok(ctx.task().clone())
    } else {
        ctx.kernel().processes.lock().task(pid).cloned().ok_or_else(|| Errno::ESRCH.here())
    }
}

/// Whether the caller may change a task's scheduling: it belongs to the same user and has no further capabilities.
fn may_change(ctx: &TaskContext, task: &Task) -> bool {
    let (own, other) = (ctx.credentials(), task.credentials());
    own.has(Capability::CAP_SYS_NICE) || (is_users(&own, &other) && own.permitted.is_superset(other.permitted))
}

fn is_users(own: &Credentials, other: &Credentials) -> bool {
    own.euid == other.uid || own.euid == other.euid
}

/// Whether a task may get this nice value by RLIMIT_NICE, which is 20 minus the lowest one.
fn may_be_nice(ctx: &TaskContext, task: &Task, nice: i32) -> bool {
    let limit = task.group().limits().soft(Resource::RLIMIT_NICE);
    (20 - nice) as u64 <= limit || ctx.credentials().has(Capability::CAP_SYS_NICE)
}

/// sched_yield(2).
pub(crate) fn sched_yield(_: &mut TaskContext) -> SysResult {
    std::thread::yield_now();
    Ok(0)
}

fn priorities(policy: SchedPolicy) -> Result<std::ops::RangeInclusive<i32>, Errno> {
    match policy {
        SchedPolicy::SCHED_FIFO | SchedPolicy::SCHED_RR => Ok(REAL_TIME),
        SchedPolicy::SCHED_NORMAL | SchedPolicy::SCHED_BATCH | SchedPolicy::SCHED_IDLE => Ok(0..=0),
        SchedPolicy::SCHED_DEADLINE => Ok(0..=0),
        _ => Err(Errno::EINVAL.here()),
    }
}

/// sched_get_priority_max(2).
pub(crate) fn sched_get_priority_max(_: &mut TaskContext, policy: SchedPolicy) -> SysResult {
    Ok(*priorities(policy)?.end() as u64)
}

/// sched_get_priority_min(2).
pub(crate) fn sched_get_priority_min(_: &mut TaskContext, policy: SchedPolicy) -> SysResult {
    Ok(*priorities(policy)?.start() as u64)
}

/// New scheduling parameters.
struct Request {
    policy: SchedPolicy,
    priority: i32,
    nice: Option<i32>,
    reset_on_fork: bool,
}

fn change(ctx: &TaskContext, task: &Arc<Task>, request: &Request) -> Result<(), Errno> {
    // SCHED_DEADLINE cannot be guaranteed on host CPUs.
    if request.policy == SchedPolicy::SCHED_DEADLINE || !priorities(request.policy)?.contains(&request.priority) {
        return Err(Errno::EINVAL.here());
    }
    let old = task.schedule();
    let able = ctx.credentials().has(Capability::CAP_SYS_NICE);
    let real_time = REAL_TIME.contains(&request.priority);
    let limit = task.group().limits().soft(Resource::RLIMIT_RTPRIO);
    let gains = real_time
        && ((old.policy != request.policy && limit == 0)
            || (request.priority as u64 > u64::from(old.priority) && request.priority as u64 > limit));
    let from_idle = old.policy == SchedPolicy::SCHED_IDLE
        && request.policy != SchedPolicy::SCHED_IDLE
        && !may_be_nice(ctx, task, old.nice);
    let nicer = request.nice.is_some_and(|n| n < old.nice && !may_be_nice(ctx, task, n));
    let unreset = old.reset_on_fork && !request.reset_on_fork;
    if !may_change(ctx, task) || (!able && (gains || from_idle || nicer || unreset)) {
        return Err(Errno::EPERM.here());
    }
    task.change_schedule(|schedule| {
        schedule.policy = request.policy;
        schedule.priority = request.priority as u32;
        schedule.nice = request.nice.unwrap_or(schedule.nice);
        schedule.reset_on_fork = request.reset_on_fork;
    });
    // Real-time tasks have no timer slack.
    task.change_settings(|settings| {
        if REAL_TIME.contains(&request.priority) {
            settings.timer_slack = 0;
        } else if settings.timer_slack == 0 {
            settings.timer_slack = settings.default_timer_slack;
        }
    });
    Ok(())
}

/// sched_setscheduler(2).
pub(crate) fn sched_setscheduler(
    ctx: &mut TaskContext,
    pid: i32,
    policy: SchedPolicy,
    param: In<SchedParam>,
) -> SysResult {
    if (policy.raw() as i32) < 0 || param.is_null() {
        return Err(Errno::EINVAL.here().into());
    }
    let priority = param.read(ctx)?.sched_priority;
    let task = task_of(ctx, pid)?;
    let reset_on_fork = policy.raw() & SCHED_RESET_ON_FORK != 0;
    let policy = SchedPolicy::from_raw(policy.raw() & !SCHED_RESET_ON_FORK);
    change(ctx, &task, &Request { policy, priority, nice: None, reset_on_fork })?;
    Ok(0)
}

/// sched_getscheduler(2).
pub(crate) fn sched_getscheduler(ctx: &mut TaskContext, pid: i32) -> SysResult {
    let schedule = task_of(ctx, pid)?.schedule();
    let reset = if schedule.reset_on_fork { SCHED_RESET_ON_FORK } else { 0 };
    Ok(u64::from(schedule.policy.raw() | reset))
}

/// sched_setparam(2).
pub(crate) fn sched_setparam(ctx: &mut TaskContext, pid: i32, param: In<SchedParam>) -> SysResult {
    if param.is_null() {
        return Err(Errno::EINVAL.here().into());
    }
    let priority = param.read(ctx)?.sched_priority;
    let task = task_of(ctx, pid)?;
    let Schedule { policy, reset_on_fork, .. } = task.schedule();
    change(ctx, &task, &Request { policy, priority, nice: None, reset_on_fork })?;
    Ok(0)
}

/// sched_getparam(2).
pub(crate) fn sched_getparam(ctx: &mut TaskContext, pid: i32, param: Out<SchedParam>) -> SysResult {
    if param.is_null() {
        return Err(Errno::EINVAL.here().into());
    }
    let sched_priority = task_of(ctx, pid)?.schedule().priority as i32;
    param.write(ctx, &SchedParam { sched_priority })?;
    Ok(0)
}

/// sched_rr_get_interval(2).
pub(crate) fn sched_rr_get_interval(ctx: &mut TaskContext, pid: i32, out: Out<Timespec>) -> SysResult {
    let turn = match task_of(ctx, pid)?.schedule().policy {
        SchedPolicy::SCHED_RR => TURN,
        SchedPolicy::SCHED_FIFO => 0,
        _ => 4_000_000,
    };
    out.write(ctx, &Timespec::from_nanos(turn))?;
    Ok(0)
}

/// sched_setattr(2).
pub(crate) fn sched_setattr(ctx: &mut TaskContext, pid: i32, attr: PtrIn, flags: u32) -> SysResult {
    if attr.is_null() || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let given = ctx.read_object::<u32>(attr.0)? as usize;
    let size = if given == 0 { SCHED_ATTR_SIZE_VER0 } else { given };
    let mut bytes = vec![0; size.min(PAGE_SIZE as usize)];
    let known = size_of::<SchedAttr>();
    if size < SCHED_ATTR_SIZE_VER0 || size > PAGE_SIZE as usize {
        ctx.write_object(attr.0, &(known as u32))?;
        return Err(Errno::E2BIG.here().into());
    }
    ctx.read_bytes(attr.0, &mut bytes)?;
    let mut attributes = SchedAttr::default();
    let (head, tail) = bytes.split_at(size.min(known));
    if tail.iter().any(|&b| b != 0) {
        ctx.write_object(attr.0, &(known as u32))?;
        return Err(Errno::E2BIG.here().into());
    }
    if let Some(place) = attributes.as_mut_bytes().get_mut(..head.len()) {
        place.copy_from_slice(head);
    }
    let task = task_of(ctx, pid)?;
    let old = task.schedule();
    let flags = SchedFlags::from_bits_retain(attributes.sched_flags);
    let offered =
        SchedFlags::SCHED_FLAG_RESET_ON_FORK | SchedFlags::SCHED_FLAG_KEEP_POLICY | SchedFlags::SCHED_FLAG_KEEP_PARAMS;
    if !offered.contains(flags) || (attributes.sched_policy as i32) < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let keeps_policy = flags.contains(SchedFlags::SCHED_FLAG_KEEP_POLICY);
    let keeps_params = flags.contains(SchedFlags::SCHED_FLAG_KEEP_PARAMS);
    let policy = if keeps_policy { old.policy } else { SchedPolicy::from_raw(attributes.sched_policy) };
    let priority = if keeps_params { old.priority as i32 } else { attributes.sched_priority as i32 };
    let fair = matches!(policy, SchedPolicy::SCHED_NORMAL | SchedPolicy::SCHED_BATCH);
    let nice = (fair && !keeps_params).then(|| attributes.sched_nice.clamp(-20, 19));
    let reset_on_fork = flags.contains(SchedFlags::SCHED_FLAG_RESET_ON_FORK);
    change(ctx, &task, &Request { policy, priority, nice, reset_on_fork })?;
    Ok(0)
}

/// sched_getattr(2).
pub(crate) fn sched_getattr(ctx: &mut TaskContext, pid: i32, attr: PtrOut, size: u32, flags: u32) -> SysResult {
    let size = size as usize;
    if attr.is_null() || flags != 0 || !(SCHED_ATTR_SIZE_VER0..=PAGE_SIZE as usize).contains(&size) {
        return Err(Errno::EINVAL.here().into());
    }
    let schedule = task_of(ctx, pid)?.schedule();
    let written = size.min(size_of::<SchedAttr>());
    let attributes = SchedAttr {
        size: written as u32,
        sched_policy: schedule.policy.raw(),
        sched_flags: if schedule.reset_on_fork { SchedFlags::SCHED_FLAG_RESET_ON_FORK.bits() } else { 0 },
        sched_nice: if schedule.is_real_time() { 0 } else { schedule.nice },
        sched_priority: schedule.priority,
        ..SchedAttr::default()
    };
    ctx.write_bytes(attr.0, attributes.as_bytes().get(..written).unwrap_or_default())?;
    Ok(0)
}

/// sched_setaffinity(2).
pub(crate) fn sched_setaffinity(ctx: &mut TaskContext, pid: i32, size: u32, mask: PtrIn) -> SysResult {
    let all = CpuSet::first(ctx.kernel().cpus);
    let most = all.words().len() * 8;
    let mut bytes = vec![0; most];
    let given = most.min(size as usize);
    ctx.read_bytes(mask.0, bytes.get_mut(..given).unwrap_or_default())?;
    let words = bytes.chunks_exact(8).filter_map(|c| c.try_into().ok()).map(u64::from_le_bytes).collect();
    let task = found_task(ctx, pid)?;
    if !may_change(ctx, &task) {
        return Err(Errno::EPERM.here().into());
    }
    let affinity = all.intersection(&CpuSet::from_words(words));
    if affinity.is_empty() {
        return Err(Errno::EINVAL.here().into());
    }
    if affinity.first_cpu() != 0 {
        // Must precede the visible change.
        ctx.kernel().time.vdso.ask_for_processors();
    }
    task.change_schedule(|schedule| schedule.affinity = affinity);
    Ok(0)
}

/// sched_getaffinity(2). Returns the number of bytes written.
pub(crate) fn sched_getaffinity(ctx: &mut TaskContext, pid: i32, size: u32, mask: PtrOut) -> SysResult {
    if (size as usize).saturating_mul(8) < ctx.kernel().cpus || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL.here().into());
    }
    let affinity = found_task(ctx, pid)?.schedule().affinity;
    let bytes: Vec<u8> = affinity.words().iter().flat_map(|w| w.to_le_bytes()).take(size as usize).collect();
    ctx.write_bytes(mask.0, &bytes)?;
    Ok(bytes.len() as u64)
}

/// The tasks selected by getpriority(2), ioprio_get(2) and the like. `level` is 0 for a process, 1 for a group, 2 for a
/// user.
fn selected_tasks(ctx: &TaskContext, level: i32, who: i32) -> Result<Vec<Arc<Task>>, Errno> {
    let table = ctx.kernel().processes.lock();
    let found = match level {
        0 if who == 0 => vec![ctx.task().clone()],
        0 => table.task(who).cloned().into_iter().collect(),
        1 => {
            let own = table.process(ctx.group().pid()).map_or(0, |p| p.pgid);
            let pgid = if who == 0 { own } else { who };
            table.members(pgid).flat_map(|p| p.group.tasks()).collect()
        }
        _ => {
            let uid = if who == 0 { ctx.credentials().uid } else { who as u32 };
            let all = table.processes().flat_map(|p| p.group.tasks());
            all.filter(|t| t.credentials().uid == uid).collect()
        }
    };
    if found.is_empty() { Err(Errno::ESRCH.here()) } else { Ok(found) }
}

fn level_of_priority(which: PriorityWhich) -> Result<i32, Errno> {
    if (0..=2).contains(&which.raw()) { Ok(which.raw()) } else { Err(Errno::EINVAL.here()) }
}

/// getpriority(2). Returns 20 minus the lowest nice value, so that no result looks like an error.
pub(crate) fn getpriority(ctx: &mut TaskContext, which: PriorityWhich, who: i32) -> SysResult {
    let tasks = selected_tasks(ctx, level_of_priority(which)?, who)?;
    let nice = tasks.iter().map(|t| t.schedule().nice).min().ok_or_else(|| Errno::ESRCH.here())?;
    Ok((20 - nice) as u64)
}

/// setpriority(2).
pub(crate) fn setpriority(ctx: &mut TaskContext, which: PriorityWhich, who: i32, nice: i32) -> SysResult {
    let nice = nice.clamp(-20, 19);
    let mut result = Ok(0);
    for task in selected_tasks(ctx, level_of_priority(which)?, who)? {
        let (own, other) = (ctx.credentials(), task.credentials());
        let related = own.has(Capability::CAP_SYS_NICE) || is_users(&own, &other);
        if related && nice < task.schedule().nice && !may_be_nice(ctx, &task, nice) {
            result = Err(Errno::EACCES.here().into());
        } else if !may_change(ctx, &task) {
            result = Err(Errno::EPERM.here().into());
        } else {
            task.change_schedule(|schedule| schedule.nice = nice);
        }
    }
    result
}

fn level_of_io(which: IoprioWho) -> Result<i32, Errno> {
    if (1..=3).contains(&which.raw()) { Ok(which.raw() - 1) } else { Err(Errno::EINVAL.here()) }
}

/// ioprio_set(2).
pub(crate) fn ioprio_set(ctx: &mut TaskContext, which: IoprioWho, who: i32, priority: i32) -> SysResult {
    let priority = u16::try_from(priority).map_err(|_| Errno::EINVAL.here())?;
    let level = priority & ((1 << IOPRIO_CLASS_SHIFT) - 1);
    match IoprioClass::from_raw(priority >> IOPRIO_CLASS_SHIFT) {
        IoprioClass::IOPRIO_CLASS_NONE if level != 0 => return Err(Errno::EINVAL.here().into()),
        IoprioClass::IOPRIO_CLASS_NONE | IoprioClass::IOPRIO_CLASS_IDLE => {}
        IoprioClass::IOPRIO_CLASS_BE if level < IOPRIO_LEVELS => {}
        IoprioClass::IOPRIO_CLASS_RT if level < IOPRIO_LEVELS => {
            let own = ctx.credentials();
            if !own.has(Capability::CAP_SYS_ADMIN) && !own.has(Capability::CAP_SYS_NICE) {
                return Err(Errno::EPERM.here().into());
            }
        }
        _ => return Err(Errno::EINVAL.here().into()),
    }
    for task in selected_tasks(ctx, level_of_io(which)?, who)? {
        let (own, other) = (ctx.credentials(), task.credentials());
        let related = (other.uid == own.euid || other.uid == own.uid) && own.permitted.is_superset(other.permitted);
        if !related && !own.has(Capability::CAP_SYS_NICE) {
            return Err(Errno::EPERM.here().into());
        }
        task.change_schedule(|schedule| schedule.io_priority = priority);
    }
    Ok(0)
}

/// ioprio_get(2): the highest of the selected tasks. Without an I/O priority of its own, a task has the class of its
/// policy and the level of its nice value.
pub(crate) fn ioprio_get(ctx: &mut TaskContext, which: IoprioWho, who: i32) -> SysResult {
    let tasks = selected_tasks(ctx, level_of_io(which)?, who)?;
    let best = tasks.iter().map(|t| effective_io_priority(&t.schedule())).min().ok_or_else(|| Errno::ESRCH.here())?;
    Ok(u64::from(best))
}

fn effective_io_priority(schedule: &Schedule) -> u16 {
    if schedule.io_priority >> IOPRIO_CLASS_SHIFT != 0 {
        return schedule.io_priority;
    }
    let class = if schedule.is_real_time() {
        IoprioClass::IOPRIO_CLASS_RT
    } else if schedule.policy == SchedPolicy::SCHED_IDLE {
        IoprioClass::IOPRIO_CLASS_IDLE
    } else {
        IoprioClass::IOPRIO_CLASS_BE
    };
    let level = ((schedule.nice + 20) / 5).clamp(0, 7) as u16;
    class.raw() << IOPRIO_CLASS_SHIFT | level
}
