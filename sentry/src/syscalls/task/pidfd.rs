//! Calls on pidfds.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::siginfo::{SI_TKILL, SI_USER};
use amber_abi::task::{PidfdFlags, PidfdSignalFlags, Resource};
use amber_abi::{SigInfo, Signal};

use crate::error::SysResult;
use crate::fs::proc::process_of;
use crate::signal::OutgoingSignal;
use crate::syscalls::args::{Fd, In, SignalNumber};
use crate::syscalls::signal::send::{check, given_info, own_info};
use crate::task::TaskContext;
use crate::task::pidfd::PidFd;

/// pidfd_open(2).
pub(crate) fn pidfd_open(ctx: &mut TaskContext, pid: i32, flags: PidfdFlags) -> SysResult {
    if !PidfdFlags::all().contains(flags) || pid <= 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let thread = flags.contains(PidfdFlags::PIDFD_THREAD);
    let task = ctx.kernel().processes.lock().task(pid).cloned().ok_or_else(|| Errno::ESRCH.here())?;
    if !thread && !task.is_leader() {
        return Err(Errno::EINVAL.here().into());
    }
    let description = PidFd::describe(task, thread, flags.contains(PidfdFlags::PIDFD_NONBLOCK));
    let limit = ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
    Ok(ctx.files().insert(description, true, limit)? as u64)
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_send_signal(
    ctx: &mut TaskContext,
    pidfd: Fd,
    signal: SignalNumber,
    info: In<SigInfo>,
    flags: PidfdSignalFlags,
) -> SysResult {
    if !PidfdSignalFlags::all().contains(flags) || flags.bits().count_ones() > 1 {
        return Err(Errno::EINVAL.here().into());
    }
    let description = ctx.files().get(pidfd.0)?;
    let (target, pid, is_thread, is_gone) = match description.downcast::<PidFd>() {
        Some(pidfd) => (pidfd.task().clone(), pidfd.pid(), pidfd.is_thread(), pidfd.is_gone()),
        // A directory in /proc refers to its process as well.
        None => {
            let task = process_of(&*description.file().inode()).ok_or_else(|| Errno::EBADF.here())??;
            let (pid, is_gone) = (task.group().pid(), PidFd::is_reaped(&task));
            (task, pid, false, is_gone)
        }
    };
    let to_thread = flags == PidfdSignalFlags::PIDFD_SIGNAL_THREAD || (flags.is_empty() && is_thread);
    let to_group = flags == PidfdSignalFlags::PIDFD_SIGNAL_PROCESS_GROUP;
    let info = if info.is_null() {
        own_info(ctx, signal.0, if to_thread { SI_TKILL } else { SI_USER })
    } else {
        let info_signal = info.read(ctx)?.si_signo;
        if info_signal != signal.0 {
            return Err(Errno::EINVAL.here().into());
        }
        // Except to itself, the caller must not send information like that of the kernel or of kill(2).
        Some(given_info(ctx, if to_group { 0 } else { pid }, signal.0, info)?)
    };
    if is_gone {
        return Err(Errno::ESRCH.here().into());
    }
    let groups = {
        let table = ctx.kernel().processes.lock();
        let groups: Vec<_> = if to_group {
            table.members(pid).map(|p| p.group.clone()).collect()
        } else {
            let process = table.process(target.group().pid());
            process.map(|p| p.group.clone()).filter(|group| Arc::ptr_eq(group, target.group())).into_iter().collect()
        };
        let checks: Vec<_> = groups.iter().map(|g| check(ctx, &table, g, signal.0)).collect();
        // One permitted process suffices.
        checks.iter().find(|r| r.is_ok()).or(checks.first()).copied().unwrap_or(Err(Errno::ESRCH.here()))?;
        groups.into_iter().zip(checks).filter(|(_, allowed)| allowed.is_ok()).map(|(g, _)| g).collect::<Vec<_>>()
    };
    if let (Some(signal), Some(info)) = (Signal::from_raw(signal.0), info) {
        if to_thread {
            target.send(OutgoingSignal::new(signal, info))?;
        } else {
            groups.iter().try_for_each(|group| group.send(OutgoingSignal::new(signal, info)))?;
        }
    }
    Ok(0)
}

/// pidfd_getfd(2).
pub(crate) fn pidfd_getfd(ctx: &mut TaskContext, pidfd: Fd, target: Fd, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let description = ctx.files().get(pidfd.0)?;
    let pidfd = description.downcast::<PidFd>().ok_or_else(|| Errno::EBADF.here())?;
    let named = pidfd.task().clone();
    let task = if pidfd.is_thread() { Some(named) } else { named.group().tasks().into_iter().next() };
    let task = task.filter(|t| !t.has_ended()).ok_or_else(|| Errno::ESRCH.here())?;
    let description = task.attach(ctx.task(), || task.files().get_any(target.0))??;
    let limit = ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
    Ok(ctx.files().insert(description, true, limit)? as u64)
}
