//! The system calls of epoll(7).

use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::poll::{EpollCreateFlags, EpollEvent, EpollEvents, EpollOp, PollEvents};
use amber_abi::signal::SignalSet;
use amber_abi::time::Timespec;
use zerocopy::IntoBytes;

use crate::clock::deadline_of;
use crate::error::SysResult;
use crate::syscalls::args::{Fd, In, PtrOut};
use crate::syscalls::fs::anonymous::install;
use crate::syscalls::fs::poll::{mask_for_call, milliseconds};
use crate::syscalls::time::timeout::Timeout;
use crate::task::TaskContext;
use crate::users::Counted;
use crate::vfs::epoll::Epoll;
use crate::wait::WaitEnd;

/// Bytes of one event in guest memory.
const EVENT_SIZE: usize = size_of::<EpollEvent>();
/// Maximum number of events in one call.
const MAX_EVENTS: i32 = i32::MAX / EVENT_SIZE as i32;

/// epoll_create(2). The size is ignored, but must be positive.
pub(crate) fn epoll_create(ctx: &mut TaskContext, size: i32) -> SysResult {
    if size <= 0 {
        return Err(Errno::EINVAL.here().into());
    }
    epoll_create1(ctx, EpollCreateFlags::empty())
}

/// epoll_create1(2).
pub(crate) fn epoll_create1(ctx: &mut TaskContext, flags: EpollCreateFlags) -> SysResult {
    if !EpollCreateFlags::all().contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let epoll = Epoll::new(&ctx.kernel().vfs, &ctx.kernel().mm.frames);
    install(ctx, epoll, OpenFlags::O_RDWR, flags.bits())
}

/// epoll_ctl(2).
pub(crate) fn epoll_ctl(ctx: &mut TaskContext, epfd: Fd, op: EpollOp, fd: Fd, event: In<EpollEvent>) -> SysResult {
    let event = if op == EpollOp::EPOLL_CTL_DEL { EpollEvent::default() } else { event.read(ctx)? };
    let files = ctx.files();
    let epoll_description = files.get(epfd.0)?;
    let description = files.get(fd.0)?;
    if description.file().wait_queue().is_none() {
        return Err(Errno::EPERM.here().into());
    }
    let epoll = epoll_description.downcast::<Epoll>().ok_or_else(|| Errno::EINVAL.here())?;
    if std::sync::Arc::ptr_eq(&epoll_description, &description) {
        return Err(Errno::EINVAL.here().into());
    }
    // EPOLLWAKEUP has no effect, since the machine is never suspended.
    let interest = EpollEvents::from_bits_retain(event.events).difference(EpollEvents::EPOLLWAKEUP);
    match op {
        EpollOp::EPOLL_CTL_ADD => {
            let user = ctx.kernel().users.get(ctx.credentials().uid);
            let most = ctx.kernel().tunables.epoll_watches.count();
            let charge = || user.try_charge(Counted::EpollWatches, most);
            epoll.add(fd.0, &description, interest, event.data, charge)?;
        }
        EpollOp::EPOLL_CTL_MOD => epoll.modify(fd.0, &description, interest, event.data)?,
        EpollOp::EPOLL_CTL_DEL => epoll.remove(fd.0, &description)?,
        _ => return Err(Errno::EINVAL.here().into()),
    }
    Ok(0)
}

/// epoll_wait(2).
pub(crate) fn epoll_wait(ctx: &mut TaskContext, epfd: Fd, events: PtrOut, most: i32, timeout: i32) -> SysResult {
    wait_for_events(ctx, epfd, events, most, milliseconds(timeout).and_then(deadline_of))
}

/// epoll_pwait(2).
pub(crate) fn epoll_pwait(
    ctx: &mut TaskContext,
    epfd: Fd,
    events: PtrOut,
    most: i32,
    timeout: i32,
    mask: In<SignalSet>,
    mask_size: usize,
) -> SysResult {
    mask_for_call(ctx, mask, mask_size)?;
    wait_for_events(ctx, epfd, events, most, milliseconds(timeout).and_then(deadline_of))
}

/// epoll_pwait2(2).
pub(crate) fn epoll_pwait2(
    ctx: &mut TaskContext,
    epfd: Fd,
    events: PtrOut,
    most: i32,
    timeout: In<Timespec>,
    mask: In<SignalSet>,
    mask_size: usize,
) -> SysResult {
    let timeout = Timeout::read_timespec(ctx, timeout.0)?;
    mask_for_call(ctx, mask, mask_size)?;
    wait_for_events(ctx, epfd, events, most, timeout.deadline())
}

fn wait_for_events(ctx: &TaskContext, epfd: Fd, events: PtrOut, most: i32, deadline: Option<Instant>) -> SysResult {
    if most <= 0 || most > MAX_EVENTS {
        return Err(Errno::EINVAL.here().into());
    }
    let description = ctx.files().get(epfd.0)?;
    let epoll = description.downcast::<Epoll>().ok_or_else(|| Errno::EINVAL.here())?;
    let mut checks = 0;
    let found = ctx.wait_in_turn(epoll.waiters(), PollEvents::POLLIN, deadline, || {
        checks += 1;
        // The second check only finds notifications that preceded the registration. Events of host descriptors end the
        // sleep.
        if checks == 2 && !epoll.has_ready() {
            return None;
        }
        let found = epoll.harvest(most as usize);
        (!found.is_empty()).then_some(found)
    });
    let found = match found {
        Ok(found) => found,
        Err(WaitEnd::TimedOut) => return Ok(0),
        // Never restarted, whatever the handler's flags: see signal(7).
        Err(WaitEnd::Interrupted) => return Err(Errno::EINTR.here().into()),
    };
    let array: Vec<EpollEvent> = found.iter().map(|f| f.event).collect();
    let written = ctx.mm().write_partial(events.0, array.as_slice().as_bytes()) / EVENT_SIZE;
    if let Some(rest) = found.get(written..).filter(|rest| !rest.is_empty()) {
        epoll.put_back(rest);
        if written == 0 {
            return Err(Errno::EFAULT.here().into());
        }
    }
    Ok(written as u64)
}
