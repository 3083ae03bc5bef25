//! Descriptors that stand for processes.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::siginfo::SI_USER;
use amber_abi::task::{PidfdFlags, PidfdSignalFlags, Resource};
use amber_abi::{SigInfo, Signal};

use crate::error::SysResult;
use crate::signal::Sending;
use crate::syscalls::args::{Fd, In, SignalNumber};
use crate::syscalls::signal::send::{check, given_info};
use crate::task::pidfd::PidFd;
use crate::task::{Task, TaskContext};

/// pidfd_open(2).
pub fn pidfd_open(ctx: &mut TaskContext, pid: i32, flags: PidfdFlags) -> SysResult {
    if !PidfdFlags::all().contains(flags) || pid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let thread = flags.contains(PidfdFlags::PIDFD_THREAD);
    let task = ctx.kernel().processes.lock().task(pid).cloned().ok_or(Errno::ESRCH)?;
    if !thread && !task.is_leader() {
        return Err(Errno::ENOENT.into());
    }
    let description = PidFd::describe(task, thread, flags.contains(PidfdFlags::PIDFD_NONBLOCK));
    let limit = ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
    Ok(ctx.files().insert(description, true, limit)? as u64)
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(
    ctx: &mut TaskContext,
    pidfd: Fd,
    signal: SignalNumber,
    info: In<SigInfo>,
    flags: PidfdSignalFlags,
) -> SysResult {
    if !PidfdSignalFlags::all().contains(flags) || flags.bits().count_ones() > 1 {
        return Err(Errno::EINVAL.into());
    }
    let description = ctx.files().get(pidfd.0)?;
    let pidfd = description.downcast::<PidFd>().ok_or(Errno::EBADF)?;
    let target = pidfd.task().clone();
    let to_thread = flags == PidfdSignalFlags::PIDFD_SIGNAL_THREAD || (flags.is_empty() && pidfd.is_thread());
    let info = if info.is_null() {
        Signal::from_raw(signal.0).map(|s| SigInfo::kill(s, SI_USER, ctx.group().pid(), ctx.credentials().uid))
    } else {
        let told = info.read(ctx)?.si_signo;
        if told != signal.0 {
            return Err(Errno::EINVAL.into());
        }
        Some(given_info(ctx, pidfd.pid(), signal.0, info)?)
    };
    if pidfd.is_gone() {
        return Err(Errno::ESRCH.into());
    }
    let groups = {
        let table = ctx.kernel().processes.lock();
        let own = target.group().pid();
        let pgid = table.process(own).map(|p| p.pgid);
        let whole = flags == PidfdSignalFlags::PIDFD_SIGNAL_PROCESS_GROUP;
        let groups: Vec<_> = table
            .processes()
            .filter(|p| if whole { Some(p.pgid) == pgid } else { p.group.pid() == own })
            .map(|p| p.group.clone())
            .collect();
        let checks: Vec<_> = groups.iter().map(|g| check(ctx, &table, g, signal.0)).collect();
        if let Some(Err(errno)) = checks.iter().find(|r| r.is_ok()).or(checks.first()) {
            return Err((*errno).into());
        }
        groups.into_iter().zip(checks).filter(|(_, allowed)| allowed.is_ok()).map(|(g, _)| g).collect::<Vec<_>>()
    };
    if let (Some(signal), Some(info)) = (Signal::from_raw(signal.0), info) {
        if to_thread {
            target.send(Sending::new(signal, info))?;
        } else {
            groups.iter().try_for_each(|group| group.send(Sending::new(signal, info)))?;
        }
    }
    Ok(0)
}

/// Whether the caller may look into another process as ptrace(2) may.
pub(super) fn may_attach(ctx: &TaskContext, task: &Task) -> bool {
    let (own, other) = (ctx.credentials(), task.credentials());
    let users = [other.uid, other.euid, other.suid].iter().all(|&u| u == own.uid);
    let groups = [other.gid, other.egid, other.sgid].iter().all(|&g| g == own.gid);
    let open = task.group().dumpable() == 1 && own.permitted.is_superset(other.permitted);
    task.group().pid() == ctx.group().pid() || (users && groups && open) || own.has(Capability::CAP_SYS_PTRACE)
}

/// pidfd_getfd(2).
pub fn pidfd_getfd(ctx: &mut TaskContext, pidfd: Fd, target: Fd, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let description = ctx.files().get(pidfd.0)?;
    let pidfd = description.downcast::<PidFd>().ok_or(Errno::EBADF)?;
    let named = pidfd.task().clone();
    let task = if pidfd.is_thread() { Some(named) } else { named.group().tasks().into_iter().next() };
    let task = task.filter(|t| !t.has_ended()).ok_or(Errno::ESRCH)?;
    if !may_attach(ctx, &task) {
        return Err(Errno::EPERM.into());
    }
    let wanted = task.files().get_any(target.0)?;
    let limit = ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
    Ok(ctx.files().insert(wanted, true, limit)? as u64)
}
