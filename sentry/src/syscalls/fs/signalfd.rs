//! signalfd(2).

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::poll::SignalfdFlags;
use amber_abi::signal::{SIGSET_SIZE, SignalSet};

use crate::error::SysResult;
use crate::fs::signalfd::SignalFd;
use crate::syscalls::args::{Fd, In};
use crate::syscalls::fs::anonymous::install;
use crate::task::TaskContext;

/// signalfd(2) without flags.
pub(crate) fn signalfd(ctx: &mut TaskContext, fd: Fd, mask: In<SignalSet>, mask_size: usize) -> SysResult {
    signalfd4(ctx, fd, mask, mask_size, SignalfdFlags::empty())
}

/// signalfd(2), as libraries call it.
pub(crate) fn signalfd4(
    ctx: &mut TaskContext,
    fd: Fd,
    mask: In<SignalSet>,
    mask_size: usize,
    flags: SignalfdFlags,
) -> SysResult {
    if mask_size != SIGSET_SIZE {
        return Err(Errno::EINVAL.here().into());
    }
    let mask = mask.read(ctx)?;
    if !SignalfdFlags::all().contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    if fd.0 == -1 {
        return install(ctx, SignalFd::new(&ctx.kernel().vfs, mask), OpenFlags::O_RDWR, flags.bits());
    }
    let description = ctx.files().get(fd.0)?;
    description.downcast::<SignalFd>().ok_or_else(|| Errno::EINVAL.here())?.set_mask(mask);
    Ok(fd.0 as u64)
}
