//! Delivery of pending signals before a task returns to guest code.

use amber_abi::signal::{DefaultAction, SIG_DFL, SIG_IGN, SaFlags, SigAction};
use amber_abi::task::{Resource, WaitStatus};
use amber_abi::{Errno, SigInfo, Signal, SignalSet};

use crate::error::Restart;
use crate::signal::{frame, notify_parent_of_stop, stop};
use crate::task::{TaskContext, ThreadGroup};
use crate::users::Counted;

/// How the task continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It returns to guest code.
    Continue,
    /// It ends with this status.
    End(WaitStatus),
}

/// The next step.
enum Next {
    Nothing,
    End(WaitStatus),
    Handler(Signal, SigInfo, SigAction),
}

/// Number of restart_syscall(2).
const RESTART_SYSCALL: u64 = 219;
/// Length of the `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;

/// Handles all pending work: the end, stops, and signals with handlers. Restarts an interrupted call, depending on its
/// [`Restart`] and on the signal.
pub(crate) fn deliver_pending(ctx: &mut TaskContext) -> Outcome {
    loop {
        match next(ctx) {
            Next::End(status) => return Outcome::End(status),
            Next::Handler(signal, info, action) => {
                settle_interrupted_call(ctx, &action);
                enter_handler(ctx, signal, &info, &action);
            }
            Next::Nothing => {
                repeat_interrupted_call(ctx);
                match ctx.thread.saved_mask.take() {
                    // The restored mask may unblock pending signals.
                    Some(mask) => ctx.set_blocked_signals(mask),
                    None => return Outcome::Continue,
                }
            }
        }
    }
}

fn next(ctx: &TaskContext) -> Next {
    loop {
        let mut state = ctx.group().state();
        if let Some(status) = state.ending {
            return Next::End(status);
        }
        if ctx.is_killed() {
            // Killed by a member that executes a program. The status is not visible.
            return Next::End(WaitStatus::Signaled(Signal::SIGKILL, false));
        }
        if let Some(notice) = state.parent_notice.take() {
            drop(state);
            notify_parent_of_stop(ctx.kernel(), ctx.group(), notice);
            continue;
        }
        if state.stop.is_some() {
            stop::take_part(ctx, state);
            continue;
        }
        let info = {
            let mut own = ctx.signals();
            let wanted = own.blocked.complement();
            let pending = &mut own.pending;
            pending.take_synchronous(wanted).or_else(|| pending.take(wanted)).or_else(|| state.pending.take(wanted))
        };
        let Some((info, signal)) = info.and_then(|info| Some((info, Signal::from_raw(info.si_signo)?))) else {
            ctx.update_work_pending(&state);
            return Next::Nothing;
        };
        let action = state.actions.get(signal);
        match action.sa_handler {
            SIG_IGN => continue,
            SIG_DFL => {}
            _ => {
                if action.flags().contains(SaFlags::SA_RESETHAND) {
                    state.actions.reset_handler(signal);
                }
                return Next::Handler(signal, info, action);
            }
        }
        if state.protected && !SignalSet::UNBLOCKABLE.contains(signal) {
            continue;
        }
        match signal.default_action() {
            DefaultAction::Ignore | DefaultAction::Continue => {}
            DefaultAction::Stop => {
                let continues = state.continues;
                if signal != Signal::SIGSTOP {
                    drop(state);
                    if is_orphaned(ctx.group(), ctx) {
                        continue;
                    }
                    state = ctx.group().state();
                }
                if state.continues == continues && state.ending.is_none() {
                    state.begin_stop(signal);
                }
            }
            DefaultAction::Terminate => state.begin_end(WaitStatus::Signaled(signal, false)),
            DefaultAction::CoreDump => {
                let dumped = dumps_core(ctx);
                state.begin_end(WaitStatus::Signaled(signal, dumped));
            }
        }
    }
}

/// Whether the wait status reports a core dump. Amber behaves like Linux with a `core_pattern` whose program discards
/// the dump: the status is that of a dump, but there is no file.
pub(crate) fn dumps_core(ctx: &TaskContext) -> bool {
    ctx.group().limits().soft(Resource::RLIMIT_CORE) > 1 && ctx.group().dumpable() == 1
}

/// Whether the process group is orphaned.
fn is_orphaned(group: &ThreadGroup, ctx: &TaskContext) -> bool {
    let table = ctx.kernel().processes.lock();
    table.process(group.pid()).is_none_or(|p| table.is_orphaned(p.pgid))
}

/// Sets the result of an interrupted call after a handler, or makes the handler return to a restart.
fn settle_interrupted_call(ctx: &mut TaskContext, action: &SigAction) {
    let Some(restart) = ctx.thread.restart.take() else { return };
    let again = match restart {
        Restart::Always => true,
        Restart::ByFlag => action.flags().contains(SaFlags::SA_RESTART),
        Restart::UnlessHandled | Restart::Resume(_) => false,
    };
    if again {
        run_again(ctx, ctx.registers.orig_rax);
    } else {
        ctx.registers.rax = Errno::EINTR.to_register();
    }
}

/// Restarts an interrupted call without a handler.
fn repeat_interrupted_call(ctx: &mut TaskContext) {
    match ctx.thread.restart.take() {
        None => {}
        Some(Restart::Resume(resume)) => {
            ctx.thread.resume = Some(resume);
            run_again(ctx, RESTART_SYSCALL);
        }
        Some(Restart::Always | Restart::ByFlag | Restart::UnlessHandled) => run_again(ctx, ctx.registers.orig_rax),
    }
}

fn run_again(ctx: &mut TaskContext, number: u64) {
    ctx.registers.rax = number;
    ctx.registers.rip = ctx.registers.rip.wrapping_sub(SYSCALL_LENGTH);
}

fn enter_handler(ctx: &mut TaskContext, signal: Signal, info: &SigInfo, action: &SigAction) {
    let before = ctx.thread.saved_mask.unwrap_or_else(|| ctx.blocked_signals());
    let blocked = ctx.blocked_signals();
    match frame::push_frame(ctx, signal, info, action, before) {
        Ok(()) => {
            ctx.thread.saved_mask = None;
            let mut mask = blocked.union(action.sa_mask);
            if !action.flags().contains(SaFlags::SA_NODEFER) {
                mask.insert(signal);
            }
            ctx.set_blocked_signals(mask);
        }
        Err(_) => fail_frame(ctx, signal),
    }
}

/// Raises SIGSEGV because a handler's frame could not be written, or an invalid frame was restored.
pub(super) fn fail_frame(ctx: &TaskContext, signal: Signal) {
    if signal == Signal::SIGSEGV {
        ctx.group().state().actions.reset_handler(Signal::SIGSEGV);
    }
    force_fault(ctx, Signal::SIGSEGV, SigInfo::kernel(Signal::SIGSEGV));
}

/// Raises a signal that prevents the task from continuing: if it is blocked or ignored, the process is killed.
pub(crate) fn force_fault(ctx: &TaskContext, signal: Signal, info: SigInfo) {
    let charge = ctx.kernel().users.get(ctx.credentials().uid).charge(Counted::Signals);
    let mut state = ctx.group().state();
    let mut own = ctx.signals();
    let blocked = own.blocked.contains(signal);
    own.blocked.remove(signal);
    if !own.pending.set().contains(signal) {
        own.pending.push(signal, info, None, Some(charge));
    }
    drop(own);
    if blocked || state.actions.get(signal).sa_handler == SIG_IGN {
        state.actions.reset_handler(signal);
    }
    if state.actions.get(signal).sa_handler == SIG_DFL {
        state.protected = false;
    }
    ctx.update_work_pending(&state);
}
