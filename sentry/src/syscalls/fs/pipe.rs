//! pipe(2) and pipe2(2).

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::poll::PipeFlags;

use crate::error::SysResult;
use crate::fs::pipe::{self, Ends};
use crate::syscalls::args::FdPair;
use crate::syscalls::fs::support::{check_open_files, descriptor_limit};
use crate::task::TaskContext;
use crate::vfs::FileDescription;

/// pipe(2).
pub(crate) fn pipe(ctx: &mut TaskContext, fds: FdPair) -> SysResult {
    pipe2(ctx, fds, PipeFlags::empty())
}

/// pipe2(2).
pub(crate) fn pipe2(ctx: &mut TaskContext, fds: FdPair, flags: PipeFlags) -> SysResult {
    if !PipeFlags::all().contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    if flags.contains(PipeFlags::O_EXCL) {
        // As on a Linux without notification pipes.
        return Err(Errno::ENOPKG.here().into());
    }
    let status = OpenFlags::from_bits_retain(flags.bits()) & (OpenFlags::O_NONBLOCK | OpenFlags::O_DIRECT);
    check_open_files(ctx)?;
    let kernel = ctx.kernel();
    let Ends { reader, writer } = pipe::create(&kernel.vfs, &kernel.fs.pipes, &ctx.credentials(), status)?;
    let reader = FileDescription::new(&ctx.kernel().vfs, reader, None, OpenFlags::O_RDONLY | status);
    let writer = FileDescription::new(&ctx.kernel().vfs, writer, None, OpenFlags::O_WRONLY | status);
    let (files, limit) = (ctx.files(), descriptor_limit(ctx));
    let (first, second) = (files.reserve(0, limit)?, files.reserve(0, limit)?);
    ctx.write_object(fds.0, &[first.fd(), second.fd()])?;
    let close_on_exec = flags.contains(PipeFlags::O_CLOEXEC);
    first.install(reader, close_on_exec);
    second.install(writer, close_on_exec);
    Ok(0)
}
