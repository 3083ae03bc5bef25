//! Controlling terminals of sessions, and foreground process groups (credentials(7), tty_ioctl(4)).

use std::sync::Arc;

use amber_abi::Errno;
use amber_abi::capability::Capability;

use super::pty::Pty;
use crate::error::SysError;
use crate::task::{ControllingTerminal, TaskContext};

/// Returns `ENOTTY` unless the terminal is the task's controlling one.
pub(super) fn require_controlling(ctx: &TaskContext, pty: &Pty) -> Result<(), Errno> {
    let found = ctx.controlling_terminal().is_some_and(|terminal| pty.is(&terminal));
    if found { Ok(()) } else { Err(Errno::ENOTTY.here()) }
}

/// `TIOCSPGRP`: makes a process group of the terminal's session the foreground group.
pub(super) fn set_foreground(ctx: &TaskContext, pty: &Pty, argument: u64) -> Result<(), SysError> {
    let pgid = ctx.read_object::<i32>(argument)?;
    if pgid < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let (_, sid) = ctx.group_and_session();
    let table = ctx.kernel().processes.lock();
    let mut state = pty.lock();
    if state.session != Some(sid) {
        return Err(Errno::ENOTTY.here().into());
    }
    if table.members(pgid).next().is_none() {
        return Err(Errno::ESRCH.here().into());
    }
    if !table.group_is_in_session(pgid, sid) {
        return Err(Errno::EPERM.here().into());
    }
    state.foreground = Some(pgid);
    Ok(())
}

/// `TIOCSCTTY`: makes the terminal the controlling terminal of the caller, a session leader.
pub(super) fn acquire(ctx: &TaskContext, pty: &Arc<Pty>, steal: bool) -> Result<(), Errno> {
    let terminal = pty.terminal().ok_or_else(|| Errno::EIO.here())?;
    let may_steal = steal && ctx.credentials().has(Capability::CAP_SYS_ADMIN);
    let pid = ctx.group().pid();
    let mut table = ctx.kernel().processes.lock();
    let process = table.process(pid).ok_or_else(|| Errno::EPERM.here())?;
    let (pgid, sid) = (process.pgid, process.sid);
    let held = pty.lock().session;
    if sid == pid && held == Some(sid) {
        return Ok(());
    }
    if sid != pid || process.terminal.is_some() || (held.is_some() && !may_steal) {
        return Err(Errno::EPERM.here());
    }
    if let Some(robbed) = held {
        table.clear_terminals(robbed);
    }
    table.set_terminal(pid, Some(terminal));
    pty.control(sid, pgid);
    Ok(())
}

/// Makes a free terminal opened without `O_NOCTTY` the controlling terminal of a session leader without one.
pub(crate) fn acquire_if_free(ctx: &TaskContext, pty: &Arc<Pty>) {
    if pty.lock().session.is_none() {
        // Linux does not report errors here either.
        let _ = acquire(ctx, pty, false);
    }
}

/// `TIOCNOTTY`: releases the process's controlling terminal.
pub(super) fn give_up(ctx: &TaskContext, pty: &Arc<Pty>) -> Result<(), Errno> {
    require_controlling(ctx, pty)?;
    ctx.kernel().drop_terminal(ctx.group().pid());
    Ok(())
}
