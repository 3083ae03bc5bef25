//! Sending of signals.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::siginfo::{SI_TKILL, SI_USER};
use amber_abi::{SigInfo, Signal};

use crate::error::SysResult;
use crate::signal::{OutgoingSignal, Wakes, may_signal};
use crate::syscalls::args::{In, SignalNumber};
use crate::task::{Process, ProcessTable, Task, TaskContext, ThreadGroup};

/// kill(2).
pub(crate) fn kill(ctx: &mut TaskContext, pid: i32, signal: SignalNumber) -> SysResult {
    let mut wakes = Wakes::default();
    let result = kill_selected(ctx, pid, signal.0, &mut wakes);
    wakes.run();
    result.map(|()| 0).map_err(Into::into)
}

fn kill_selected(ctx: &TaskContext, pid: i32, signal: i32, wakes: &mut Wakes) -> Result<(), Errno> {
    let info = own_info(ctx, signal, SI_USER);
    let own = ctx.group().pid();
    let kernel = ctx.kernel().clone();
    let table = kernel.processes.lock();
    match pid {
        1.. => {
            let group = table.task(pid).map(|t| t.group().clone()).ok_or_else(|| Errno::ESRCH.here())?;
            send_to_process(ctx, &table, &group, signal, &info, wakes)
        }
        i32::MIN => Err(Errno::ESRCH.here()),
        _ => {
            let pgid = match pid {
                0 => table.process(own).map(|p| p.pgid),
                -1 => None,
                _ => Some(-pid),
            };
            let send = |p: &Process| send_to_process(ctx, &table, &p.group, signal, &info, wakes);
            let others = |p: &&Process| p.group.pid() != ProcessTable::INIT && p.group.pid() != own;
            // One success suffices. If all fail, only a process group reports it.
            let results: Vec<_> = match pgid {
                Some(pgid) => table.members(pgid).map(send).collect(),
                None => table.processes().filter(others).map(send).collect(),
            };
            match results.iter().find(|r| r.is_ok()).or(results.last()) {
                Some(Err(Errno::EPERM)) if pid == -1 => Ok(()),
                Some(result) => *result,
                None => Err(Errno::ESRCH.here()),
            }
        }
    }
}

/// The information of a signal from this task.
pub(in crate::syscalls) fn own_info(ctx: &TaskContext, signal: i32, code: i32) -> Option<SigInfo> {
    Signal::from_raw(signal).map(|s| SigInfo::kill(s, code, ctx.group().pid(), ctx.credentials().uid))
}

/// Checks that the caller may send this signal to a process.
pub(in crate::syscalls) fn check(
    ctx: &TaskContext,
    table: &ProcessTable,
    target: &Arc<ThreadGroup>,
    signal: i32,
) -> Result<(), Errno> {
    if signal != 0 && Signal::from_raw(signal).is_none() {
        return Err(Errno::EINVAL.here());
    }
    let same = target.pid() == ctx.group().pid();
    let leader = table.task(target.pid());
    let session = |pid| table.process(pid).map(|p| p.sid);
    let continues = signal == Signal::SIGCONT.raw() && session(target.pid()) == session(ctx.group().pid());
    let allowed = same || continues || leader.is_some_and(|l| may_signal(&ctx.credentials(), &l.credentials()));
    if allowed { Ok(()) } else { Err(Errno::EPERM.here()) }
}

fn send_to_process(
    ctx: &TaskContext,
    table: &ProcessTable,
    target: &Arc<ThreadGroup>,
    signal: i32,
    info: &Option<SigInfo>,
    wakes: &mut Wakes,
) -> Result<(), Errno> {
    check(ctx, table, target, signal)?;
    match (Signal::from_raw(signal), info) {
        (Some(signal), Some(info)) => target.send_later(OutgoingSignal::new(signal, *info), wakes),
        _ => Ok(()),
    }
}

fn send_to_task(ctx: &TaskContext, tgid: Option<i32>, tid: i32, signal: i32, info: Option<SigInfo>) -> SysResult {
    let task: Arc<Task> = {
        let table = ctx.kernel().processes.lock();
        let task =
            table.task(tid).filter(|t| tgid.is_none_or(|g| t.group().pid() == g)).ok_or_else(|| Errno::ESRCH.here())?;
        check(ctx, &table, task.group(), signal)?;
        task.clone()
    };
    if let (Some(signal), Some(info)) = (Signal::from_raw(signal), info)
        && !task.has_ended()
    {
        task.send(OutgoingSignal::new(signal, info))?;
    }
    Ok(0)
}

/// tkill(2).
pub(crate) fn tkill(ctx: &mut TaskContext, tid: i32, signal: SignalNumber) -> SysResult {
    if tid <= 0 {
        return Err(Errno::EINVAL.here().into());
    }
    send_to_task(ctx, None, tid, signal.0, own_info(ctx, signal.0, SI_TKILL))
}

/// tgkill(2).
pub(crate) fn tgkill(ctx: &mut TaskContext, tgid: i32, tid: i32, signal: SignalNumber) -> SysResult {
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL.here().into());
    }
    send_to_task(ctx, Some(tgid), tid, signal.0, own_info(ctx, signal.0, SI_TKILL))
}

/// Signal information supplied by the guest. Except to the calling thread itself (`target`), it must not look like that
/// of the kernel or of kill(2).
pub(in crate::syscalls) fn given_info(
    ctx: &TaskContext,
    target: i32,
    signal: i32,
    info: In<SigInfo>,
) -> Result<SigInfo, Errno> {
    let mut info = info.read(ctx)?;
    info.si_signo = signal;
    if (info.si_code >= 0 || info.si_code == SI_TKILL) && target != ctx.tid() {
        return Err(Errno::EPERM.here());
    }
    Ok(info)
}

/// rt_sigqueueinfo(2).
pub(crate) fn rt_sigqueueinfo(ctx: &mut TaskContext, tgid: i32, signal: SignalNumber, info: In<SigInfo>) -> SysResult {
    let info = given_info(ctx, tgid, signal.0, info)?;
    let mut wakes = Wakes::default();
    let result = {
        let table = ctx.kernel().processes.lock();
        let group = table.task(tgid).map(|t| t.group().clone()).ok_or_else(|| Errno::ESRCH.here())?;
        send_to_process(ctx, &table, &group, signal.0, &Some(info), &mut wakes)
    };
    wakes.run();
    Ok(result.map(|()| 0)?)
}

/// rt_tgsigqueueinfo(2).
pub(crate) fn rt_tgsigqueueinfo(
    ctx: &mut TaskContext,
    tgid: i32,
    tid: i32,
    signal: SignalNumber,
    info: In<SigInfo>,
) -> SysResult {
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let info = given_info(ctx, tid, signal.0, info)?;
    send_to_task(ctx, Some(tgid), tid, signal.0, Some(info))
}
