//! Signal actions, the alternate stack, and the return from a handler.

use amber_abi::errno::Errno;
use amber_abi::signal::{SIGSET_SIZE, SaFlags, SigAction, SsFlags, StackT};
use amber_abi::{Signal, SignalSet};

use crate::error::SysResult;
use crate::signal::{restore_frame, set_alt_stack};
use crate::syscalls::args::{In, Out, SignalNumber};
use crate::task::TaskContext;

/// Supported flags; others are cleared (sigaction(2), SA_UNSUPPORTED).
const KEPT: SaFlags = SaFlags::SA_NOCLDSTOP
    .union(SaFlags::SA_NOCLDWAIT)
    .union(SaFlags::SA_SIGINFO)
    .union(SaFlags::SA_ONSTACK)
    .union(SaFlags::SA_RESTART)
    .union(SaFlags::SA_NODEFER)
    .union(SaFlags::SA_RESETHAND)
    .union(SaFlags::SA_EXPOSE_TAGBITS)
    .union(SaFlags::SA_RESTORER);

/// rt_sigaction(2).
pub(crate) fn rt_sigaction(
    ctx: &mut TaskContext,
    signal: SignalNumber,
    new: In<SigAction>,
    old: Out<SigAction>,
    set_size: usize,
) -> SysResult {
    if set_size != SIGSET_SIZE {
        return Err(Errno::EINVAL.here().into());
    }
    let new = new.read_if_given(ctx)?;
    let signal = Signal::from_raw(signal.0).ok_or_else(|| Errno::EINVAL.here())?;
    if new.is_some() && SignalSet::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL.here().into());
    }
    let before = {
        let mut state = ctx.group().state();
        match new {
            None => state.actions.get(signal),
            Some(mut action) => {
                action.sa_flags &= KEPT.bits();
                action.sa_mask = action.sa_mask.difference(SignalSet::UNBLOCKABLE);
                let before = state.actions.replace(signal, action);
                if state.actions.is_ignored(signal) {
                    // POSIX: ignoring a signal discards its pending instances, blocked or not.
                    state.discard(SignalSet::of(&[signal]));
                }
                before
            }
        }
    };
    old.write_if_given(ctx, &before)?;
    Ok(0)
}

/// rt_sigreturn(2).
pub(crate) fn rt_sigreturn(ctx: &mut TaskContext) -> SysResult {
    Ok(restore_frame(ctx))
}

/// sigaltstack(2).
pub(crate) fn sigaltstack(ctx: &mut TaskContext, new: In<StackT>, old: Out<StackT>) -> SysResult {
    let new = new.read_if_given(ctx)?;
    let stack = ctx.thread.alt_stack;
    let state = if stack.size == 0 {
        SsFlags::SS_DISABLE
    } else if stack.contains(ctx.registers.rsp) {
        SsFlags::SS_ONSTACK
    } else {
        SsFlags::empty()
    };
    let flags = state | (stack.flags & SsFlags::SS_AUTODISARM);
    let before = StackT { ss_sp: stack.start, ss_flags: flags.bits(), ss_size: stack.size, ..StackT::default() };
    if let Some(new) = new {
        set_alt_stack(ctx, &new)?;
    }
    old.write_if_given(ctx, &before)?;
    Ok(0)
}
