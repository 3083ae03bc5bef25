//! IDs of tasks, processes, groups and sessions.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;

use crate::error::SysResult;
use crate::task::{Process, TaskContext};

/// getpid(2).
pub(crate) fn getpid(ctx: &mut TaskContext) -> SysResult {
    Ok(ctx.group().pid() as u64)
}

/// gettid(2).
pub(crate) fn gettid(ctx: &mut TaskContext) -> SysResult {
    Ok(ctx.tid() as u64)
}

/// Calls `get` with the process of a task ID; 0 is the caller.
fn of_process(ctx: &TaskContext, pid: i32, get: impl Fn(&Process) -> i32) -> SysResult {
    let table = ctx.kernel().processes.lock();
    let pid =
        if pid == 0 { ctx.group().pid() } else { table.task(pid).ok_or_else(|| Errno::ESRCH.here())?.group().pid() };
    let process = table.process(pid).ok_or_else(|| Errno::ESRCH.here())?;
    Ok(get(process) as u64)
}

/// getppid(2).
pub(crate) fn getppid(ctx: &mut TaskContext) -> SysResult {
    of_process(ctx, 0, |p| p.parent)
}

/// getpgrp(2).
pub(crate) fn getpgrp(ctx: &mut TaskContext) -> SysResult {
    of_process(ctx, 0, |p| p.pgid)
}

/// getpgid(2).
pub(crate) fn getpgid(ctx: &mut TaskContext, pid: i32) -> SysResult {
    of_process(ctx, pid, |p| p.pgid)
}

/// getsid(2).
pub(crate) fn getsid(ctx: &mut TaskContext, pid: i32) -> SysResult {
    of_process(ctx, pid, |p| p.sid)
}

/// setpgid(2).
pub(crate) fn setpgid(ctx: &mut TaskContext, pid: i32, pgid: i32) -> SysResult {
    ctx.set_process_group(pid, pgid)?;
    Ok(0)
}

/// vhangup(2): hangs up the caller's controlling terminal, if there is one.
pub(crate) fn vhangup(ctx: &mut TaskContext) -> SysResult {
    if !ctx.credentials().has(Capability::CAP_SYS_TTY_CONFIG) {
        return Err(Errno::EPERM.here().into());
    }
    if let Some(terminal) = ctx.controlling_terminal() {
        terminal.hang_up();
    }
    Ok(0)
}

/// setsid(2).
pub(crate) fn setsid(ctx: &mut TaskContext) -> SysResult {
    Ok(ctx.start_session()? as u64)
}
