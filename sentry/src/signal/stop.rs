//! Stops and continuations of processes.

use std::sync::Arc;

use amber_abi::siginfo::{CLD_CONTINUED, CLD_STOPPED};
use amber_abi::signal::{SIG_IGN, SaFlags};
use amber_abi::time::USER_HZ;
use amber_abi::{SigInfo, Signal};

use crate::kernel::Kernel;
use crate::signal::{OutgoingSignal, Wakes};
use crate::sync::MutexGuard;
use crate::task::{Activity, GroupState, GroupStop, ProcessTable, StopNotice, TaskContext, ThreadGroup};

/// Nanoseconds in a tick of `si_utime`.
const TICK: u64 = 1_000_000_000 / USER_HZ;

/// Reports a stop or its end to the parent, by SIGCHLD and a wake-up.
pub(crate) fn notify_parent_of_stop(kernel: &Kernel, group: &Arc<ThreadGroup>, notice: StopNotice) {
    let mut wakes = Wakes::default();
    {
        let table = kernel.processes.lock();
        let Some(parent) = table.parent(group.pid()) else {
            drop(table);
            if group.pid() == ProcessTable::INIT && matches!(notice, StopNotice::Stopped(_)) {
                kernel.end.first_stopped();
            }
            return;
        };
        let uid = table.task(group.pid()).map_or(0, |t| t.credentials().uid);
        let (code, status) = match notice {
            StopNotice::Stopped(signal) => (CLD_STOPPED, signal),
            StopNotice::Continued => (CLD_CONTINUED, Signal::SIGCONT),
        };
        let usage = group.usage();
        let ticks = |nanos: u64| (nanos / TICK) as i64;
        let (user, system) = (ticks(usage.user), ticks(usage.system));
        let info = SigInfo::child(Signal::SIGCHLD, code, group.pid(), uid, status.raw(), user, system);
        let action = parent.group.actions().get(Signal::SIGCHLD);
        if action.sa_handler != SIG_IGN && !action.flags().contains(SaFlags::SA_NOCLDSTOP) {
            // The kernel's own signals never fail for lack of queue space.
            let _ = parent.group.send_later(OutgoingSignal::new(Signal::SIGCHLD, info), &mut wakes);
        }
        wakes.child_changed(&parent.group);
    }
    wakes.run();
}

impl GroupState {
    /// Starts a stop of all members.
    pub(crate) fn begin_stop(&mut self, signal: Signal) {
        if self.stop.is_none() {
            self.stop = Some(GroupStop { signal, complete: false });
            self.continue_report = false;
            self.tasks.iter().for_each(|t| t.set_work_pending());
        }
    }

    /// Completes the stop if every member has stopped, and returns the report for the parent, if one is due.
    pub(crate) fn complete_stop(&mut self) -> Option<StopNotice> {
        let all = self.is_at_rest();
        let stop = self.stop.as_mut().filter(|s| all && !s.complete)?;
        stop.complete = true;
        self.stop_report = Some(stop.signal);
        Some(StopNotice::Stopped(stop.signal))
    }
}

/// Stops the task for the group's stop, and returns when the stop is over.
pub(super) fn take_part(ctx: &TaskContext, mut state: MutexGuard<'_, GroupState>) {
    state.change_member(ctx.task(), |signals| signals.stopped = true);
    let notice = state.complete_stop();
    drop(state);
    if let Some(notice) = notice {
        notify_parent_of_stop(ctx.kernel(), ctx.group(), notice);
    }
    let before = ctx.stats().begin(Activity::Stopped);
    loop {
        {
            let mut state = ctx.group().state();
            if state.stop.is_none() || ctx.is_killed() {
                state.change_member(ctx.task(), |signals| signals.stopped = false);
                break;
            }
        }
        ctx.parker().park(None);
    }
    ctx.stats().begin(before);
}
