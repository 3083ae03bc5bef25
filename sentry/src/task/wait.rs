//! wait(2) for children.

use amber_abi::poll::PollEvents;
use amber_abi::siginfo::{CLD_CONTINUED, CLD_STOPPED};
use amber_abi::task::{WaitOptions, WaitStatus};
use amber_abi::{Errno, Signal};

use crate::error::{Restart, SysError};
use crate::task::{Process, ProcessTable, TaskContext, Usage, exit};

/// The children to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// Any.
    Any,
    /// The one with this PID.
    Process(i32),
    /// Those in this process group.
    Group(i32),
}

/// A reported change of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    /// Its PID.
    pub pid: i32,
    /// Its real user ID.
    pub uid: u32,
    /// The status as wait4(2) reports it.
    pub status: WaitStatus,
    /// Resource usage of the child and of the children it waited for.
    pub usage: Usage,
}

impl Waited {
    /// `si_code` and `si_status` of waitid(2).
    pub(crate) fn code_and_status(&self) -> (i32, i32) {
        match self.status {
            WaitStatus::Stopped(signal) => (CLD_STOPPED, signal as i32),
            WaitStatus::Continued => (CLD_CONTINUED, Signal::SIGCONT.raw()),
            ended => exit::child_status(ended),
        }
    }
}

/// Waits for a change of a child that `options` select; none under `WNOHANG` if there is none.
///
/// # Errors
/// `ECHILD` if no child is selected, or a restart.
pub(crate) fn wait_for_child(
    ctx: &TaskContext,
    which: WaitFor,
    options: WaitOptions,
) -> Result<Option<Waited>, SysError> {
    let attempt = || match find_change(ctx, which, options) {
        Ok(None) if !options.contains(WaitOptions::WNOHANG) => None,
        answer => Some(answer),
    };
    let queue = ctx.group().children_changed();
    let answer = ctx.wait(&[(queue, PollEvents::all())], None, attempt);
    Ok(answer.map_err(|_| Restart::ByFlag)??)
}

fn find_change(ctx: &TaskContext, which: WaitFor, options: WaitOptions) -> Result<Option<Waited>, Errno> {
    let mut table = ctx.kernel().processes.lock();
    let Some(own) = table.process(ctx.group().pid()) else { return Err(Errno::ECHILD.here()) };
    let process = |pid| table.process(pid).filter(|child| is_selected(ctx, child, which, options));
    let change = |child| change_of(&table, child, options);
    let named = match which {
        WaitFor::Process(pid) => table.process(pid).filter(|child| child.parent == own.group.pid()).map(|_| pid),
        WaitFor::Any | WaitFor::Group(_) => None,
    };
    let found = match which {
        WaitFor::Process(_) => named.and_then(process).and_then(change),
        // Only zombies are relevant, which have an index.
        _ if !options.intersects(WaitOptions::WSTOPPED | WaitOptions::WCONTINUED) => {
            own.children.ended().filter_map(process).find_map(change)
        }
        _ => own.children.iter().filter_map(process).find_map(change),
    };
    let Some(waited) = found else {
        let any = match which {
            WaitFor::Process(_) => named.and_then(process).is_some(),
            _ => own.children.iter().any(|pid| process(pid).is_some()),
        };
        return if any { Ok(None) } else { Err(Errno::ECHILD.here()) };
    };
    let ended = matches!(waited.status, WaitStatus::Exited(_) | WaitStatus::Signaled(..));
    if ended && !options.contains(WaitOptions::WNOWAIT) {
        table.remove_process(waited.pid);
        ctx.group().add_usage(|usage| usage.children = usage.children.plus(waited.usage));
    }
    Ok(Some(waited))
}

fn is_selected(ctx: &TaskContext, child: &Process, which: WaitFor, options: WaitOptions) -> bool {
    let named = match which {
        WaitFor::Any => true,
        WaitFor::Process(pid) => child.group.pid() == pid,
        WaitFor::Group(pgid) => child.pgid == pgid,
    };
    let own = !options.contains(WaitOptions::__WNOTHREAD) || child.parent_thread == ctx.tid();
    let clone = child.exit_signal != Signal::SIGCHLD.raw();
    let kind = options.contains(WaitOptions::__WALL) || clone == options.contains(WaitOptions::__WCLONE);
    named && own && kind
}

/// The change of a child to report, if `options` select it.
fn change_of(table: &ProcessTable, child: &Process, options: WaitOptions) -> Option<Waited> {
    let pid = child.group.pid();
    let keep = options.contains(WaitOptions::WNOWAIT);
    let status = match child.zombie {
        Some(status) => options.contains(WaitOptions::WEXITED).then_some(status),
        None => {
            let mut state = child.group.state();
            if options.contains(WaitOptions::WSTOPPED) && state.stop_report.is_some() {
                let signal = if keep { state.stop_report } else { state.stop_report.take() };
                signal.map(|s| WaitStatus::Stopped(s.raw() as u32))
            } else if options.contains(WaitOptions::WCONTINUED) && state.continue_report {
                state.continue_report = keep;
                Some(WaitStatus::Continued)
            } else {
                None
            }
        }
    };
    status.map(|status| Waited {
        pid,
        uid: table.task(pid).map_or(0, |t| t.credentials().uid),
        status,
        usage: child.group.usage().plus(child.group.past_usage().children),
    })
}
