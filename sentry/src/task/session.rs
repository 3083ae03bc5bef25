//! Sessions, process groups and their relation to a terminal.

use std::any::Any;
use std::sync::Arc;

use amber_abi::{Errno, SigInfo, Signal};

use crate::error::{Restart, SysError};
use crate::kernel::Kernel;
use crate::signal::{OutgoingSignal, Wakes};
use crate::task::{ProcessTable, TaskContext};

/// The terminal of a session.
pub(crate) trait ControllingTerminal: Send + Sync {
    /// Makes it the controlling terminal of a session, with this process group in the foreground. Called with the
    /// process table locked.
    fn control(&self, session: i32, foreground: i32);

    /// Releases it from its session, whose leader has ended or gave it up. Returns the foreground process group. Called
    /// with the process table locked.
    fn release(&self) -> Option<i32>;

    /// Its device number in `/proc/PID/stat`.
    fn device_number(&self) -> u32;

    /// The foreground process group.
    fn foreground(&self) -> Option<i32>;

    /// Hangs it up for all its users. Called without locks.
    fn hang_up(&self);

    /// For downcasts in the terminal's own code.
    fn as_any(&self) -> &dyn Any;
}

impl Kernel {
    /// Sends a kernel signal (such as SIGINT or SIGWINCH from a terminal) to all members of a process group. Returns
    /// whether it has any.
    pub(crate) fn signal_process_group(&self, pgid: i32, signal: Signal) -> bool {
        let mut wakes = Wakes::default();
        let any = {
            let table = self.processes.lock();
            signal_members(&table, pgid, signal, &mut wakes)
        };
        wakes.run();
        any
    }

    /// Handles the loss of a session's terminal: its leader gets SIGHUP and SIGCONT, and when it ends, the foreground
    /// group does.
    pub(crate) fn hang_up_session(&self, sid: i32, foreground: Option<i32>) {
        let mut wakes = Wakes::default();
        {
            let mut table = self.processes.lock();
            table.clear_terminals(sid);
            if let Some(session) = table.session_mut(sid) {
                session.old_foreground = foreground;
            }
            if let Some(leader) = table.process(sid) {
                for signal in [Signal::SIGHUP, Signal::SIGCONT] {
                    // The kernel's own signals never fail for lack of queue space.
                    let _ = leader.group.send_later(OutgoingSignal::new(signal, SigInfo::kernel(signal)), &mut wakes);
                }
            }
        }
        wakes.run();
    }

    /// Gives up a process's terminal. If the process leads its session, the other members lose the terminal as well,
    /// and the foreground group gets SIGHUP and SIGCONT.
    pub(crate) fn drop_terminal(&self, pid: i32) {
        let mut wakes = Wakes::default();
        {
            let mut table = self.processes.lock();
            let leads = table.process(pid).is_some_and(|p| p.sid == pid);
            let terminal = table.set_terminal(pid, None);
            if let (true, Some(terminal)) = (leads, terminal) {
                if let Some(foreground) = terminal.release() {
                    signal_members(&table, foreground, Signal::SIGHUP, &mut wakes);
                    signal_members(&table, foreground, Signal::SIGCONT, &mut wakes);
                }
                table.clear_terminals(pid);
            }
        }
        wakes.run();
    }
}

fn signal_members(table: &ProcessTable, pgid: i32, signal: Signal, wakes: &mut Wakes) -> bool {
    let mut any = false;
    for process in table.members(pgid) {
        any = true;
        // The kernel's own signals never fail for lack of queue space.
        let _ = process.group.send_later(OutgoingSignal::new(signal, SigInfo::kernel(signal)), wakes);
    }
    any
}

/// Sends SIGHUP and SIGCONT to a process group that has become orphaned and has stopped members.
pub(super) fn hang_up_if_orphaned(table: &ProcessTable, pgid: i32, wakes: &mut Wakes) {
    if table.is_orphaned(pgid) && table.has_stopped_member(pgid) {
        signal_members(table, pgid, Signal::SIGHUP, wakes);
        signal_members(table, pgid, Signal::SIGCONT, wakes);
    }
}

/// Handles the end of a session's leader: releases the terminal and hangs up its foreground group, or the one at the
/// time of an earlier hangup.
pub(super) fn leader_ended(table: &mut ProcessTable, pid: i32, wakes: &mut Wakes) {
    if table.process(pid).is_none_or(|p| p.sid != pid) {
        return;
    }
    let left = table.session_mut(pid).and_then(|s| s.old_foreground.take());
    match table.set_terminal(pid, None) {
        Some(terminal) => {
            if let Some(foreground) = terminal.release() {
                signal_members(table, foreground, Signal::SIGHUP, wakes);
            }
        }
        None => {
            if let Some(foreground) = left {
                signal_members(table, foreground, Signal::SIGHUP, wakes);
                signal_members(table, foreground, Signal::SIGCONT, wakes);
            }
        }
    }
    table.clear_terminals(pid);
}

impl TaskContext {
    /// The controlling terminal of the task's process.
    pub(crate) fn controlling_terminal(&self) -> Option<Arc<dyn ControllingTerminal>> {
        self.kernel().processes.lock().process(self.group().pid())?.terminal.clone()
    }

    /// Process group and session of the task's process.
    pub(crate) fn group_and_session(&self) -> (i32, i32) {
        let table = self.kernel().processes.lock();
        table.process(self.group().pid()).map_or((0, 0), |p| (p.pgid, p.sid))
    }

    /// Checks that a process may use its terminal. A background process group gets SIGTTIN for reads, or SIGTTOU for
    /// writes and changes, and the call is restarted when the group is continued.
    ///
    /// # Errors
    /// A restart if the signal was sent. `EIO` if no process could continue the group, or for SIGTTIN if the caller
    /// blocks or ignores it. A caller that blocks or ignores SIGTTOU may continue.
    pub(crate) fn stop_background(&self, signal: Signal) -> Result<(), SysError> {
        let ignored = self.blocked_signals().contains(signal) || self.group().actions().is_ignored(signal);
        if ignored {
            return if signal == Signal::SIGTTOU { Ok(()) } else { Err(Errno::EIO.here().into()) };
        }
        let (pgid, _) = self.group_and_session();
        if self.kernel().processes.lock().is_orphaned(pgid) {
            return Err(Errno::EIO.here().into());
        }
        self.kernel().signal_process_group(pgid, signal);
        Err(Restart::ByFlag.into())
    }

    /// setsid(2).
    pub(crate) fn start_session(&self) -> Result<i32, Errno> {
        let pid = self.group().pid();
        let mut table = self.kernel().processes.lock();
        let leads = table.process(pid).is_none_or(|p| p.sid == pid);
        if leads || table.members(pid).next().is_some() {
            return Err(Errno::EPERM.here());
        }
        table.start_session(pid);
        Ok(pid)
    }

    /// setpgid(2).
    pub(crate) fn set_process_group(&self, pid: i32, pgid: i32) -> Result<(), Errno> {
        let own = self.group().pid();
        let pid = if pid == 0 { own } else { pid };
        let pgid = if pgid == 0 { pid } else { pgid };
        if pgid < 0 {
            return Err(Errno::EINVAL.here());
        }
        let mut table = self.kernel().processes.lock();
        let own_session = table.process(own).map_or(0, |p| p.sid);
        let Some(process) = table.process(pid) else {
            // A thread that is not a leader has no group to set.
            return Err(if table.task(pid).is_some() { Errno::EINVAL.here() } else { Errno::ESRCH.here() });
        };
        if process.parent == own {
            if process.sid != own_session {
                return Err(Errno::EPERM.here());
            }
            if process.group.has_executed() {
                return Err(Errno::EACCES.here());
            }
        } else if pid != own {
            return Err(Errno::ESRCH.here());
        }
        if process.sid == pid {
            return Err(Errno::EPERM.here());
        }
        if pgid != pid && !table.group_is_in_session(pgid, own_session) {
            return Err(Errno::EPERM.here());
        }
        table.set_group(pid, pgid);
        Ok(())
    }
}
