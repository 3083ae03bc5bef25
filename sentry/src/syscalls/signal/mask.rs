//! Signal masks, and waits for signals.

use std::time::Duration;

use amber_abi::errno::Errno;
use amber_abi::signal::{SIGSET_SIZE, SigHow};
use amber_abi::time::Timespec;
use amber_abi::{SigInfo, SignalSet};

use crate::error::{Restart, SysResult};
use crate::syscalls::args::{In, Out};
use crate::task::TaskContext;
use crate::wait::{WaitEnd, deadline_in};

/// rt_sigprocmask(2).
pub(crate) fn rt_sigprocmask(
    ctx: &mut TaskContext,
    how: SigHow,
    new: In<SignalSet>,
    old: Out<SignalSet>,
    set_size: usize,
) -> SysResult {
    if set_size != SIGSET_SIZE {
        return Err(Errno::EINVAL.here().into());
    }
    let before = ctx.blocked_signals();
    if let Some(new) = new.read_if_given(ctx)? {
        let mask = match how {
            SigHow::SIG_BLOCK => before.union(new),
            SigHow::SIG_UNBLOCK => before.difference(new),
            SigHow::SIG_SETMASK => new,
            _ => return Err(Errno::EINVAL.here().into()),
        };
        ctx.set_blocked_signals(mask);
    }
    old.write_if_given(ctx, &before)?;
    Ok(0)
}

/// rt_sigpending(2).
pub(crate) fn rt_sigpending(ctx: &mut TaskContext, set: Out<SignalSet>, set_size: usize) -> SysResult {
    if set_size > SIGSET_SIZE {
        return Err(Errno::EINVAL.here().into());
    }
    let pending = ctx.pending_signals().intersection(ctx.blocked_signals());
    let bytes = pending.0.to_le_bytes();
    ctx.write_bytes(set.0, bytes.get(..set_size).unwrap_or_default())?;
    Ok(0)
}

/// rt_sigsuspend(2).
pub(crate) fn rt_sigsuspend(ctx: &mut TaskContext, mask: In<SignalSet>, set_size: usize) -> SysResult {
    if set_size != SIGSET_SIZE {
        return Err(Errno::EINVAL.here().into());
    }
    let mask = mask.read(ctx)?;
    ctx.set_temporary_mask(mask);
    pause(ctx)
}

/// pause(2).
pub(crate) fn pause(ctx: &mut TaskContext) -> SysResult {
    // Only a signal ends this wait.
    let _: Result<(), WaitEnd> = ctx.wait(&[], None, || None);
    Err(Restart::UnlessHandled.into())
}

/// rt_sigtimedwait(2).
pub(crate) fn rt_sigtimedwait(
    ctx: &mut TaskContext,
    set: In<SignalSet>,
    info: Out<SigInfo>,
    timeout: In<Timespec>,
    set_size: usize,
) -> SysResult {
    if set_size != SIGSET_SIZE {
        return Err(Errno::EINVAL.here().into());
    }
    let set = set.read(ctx)?.difference(SignalSet::UNBLOCKABLE);
    let timeout = timeout.read_if_given(ctx)?;
    if timeout.is_some_and(|t| !t.is_valid()) {
        return Err(Errno::EINVAL.here().into());
    }
    let mut taken = ctx.take_signal(set);
    let mut end = WaitEnd::TimedOut;
    let limit = timeout.map(|t| Duration::from_nanos(t.to_nanos().max(0) as u64));
    if taken.is_none() && limit != Some(Duration::ZERO) {
        // During the wait, the task takes these signals although they are blocked.
        let blocked = ctx.begin_signal_wait(set);
        let waited: Result<(), WaitEnd> = ctx.wait(&[], limit.and_then(deadline_in), || None);
        end = waited.err().unwrap_or(WaitEnd::Interrupted);
        taken = ctx.end_signal_wait(set, blocked);
    }
    match taken {
        Some(taken) => {
            info.write_if_given(ctx, &taken)?;
            Ok(taken.si_signo as u64)
        }
        None if end == WaitEnd::Interrupted => Err(Errno::EINTR.here().into()),
        None => Err(Errno::EAGAIN.here().into()),
    }
}
