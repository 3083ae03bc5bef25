//! eventfd(2).

use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::poll::EventfdFlags;

use crate::error::SysResult;
use crate::fs::eventfd::EventFd;
use crate::syscalls::fs::anonymous::install;
use crate::task::TaskContext;

/// eventfd(2) without flags.
pub(crate) fn eventfd(ctx: &mut TaskContext, count: u32) -> SysResult {
    eventfd2(ctx, count, EventfdFlags::empty())
}

/// eventfd(2), as libraries call it.
pub(crate) fn eventfd2(ctx: &mut TaskContext, count: u32, flags: EventfdFlags) -> SysResult {
    if !EventfdFlags::all().contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let kernel = ctx.kernel();
    let id = kernel.fs.eventfds.fetch_add(1, Ordering::Relaxed);
    let event = EventFd::new(&kernel.vfs, id, count, flags.contains(EventfdFlags::EFD_SEMAPHORE));
    install(ctx, event, OpenFlags::O_RDWR, flags.bits())
}
