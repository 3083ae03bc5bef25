//! ioctl(2): the commands of all files. Others are handled by the file.

use amber_abi::errno::Errno;
use amber_abi::ioctl::IoctlRequest;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;

use crate::error::SysResult;
use crate::signal;
use crate::syscalls::args::{Fd, PtrOut};
use crate::task::TaskContext;
use crate::vfs::sigio::{self, SignalIo};

/// ioctl(2).
pub(crate) fn ioctl(ctx: &mut TaskContext, fd: Fd, request: IoctlRequest, argument: PtrOut) -> SysResult {
    let files = ctx.files();
    let description = files.get(fd.0)?;
    let kind = description.kind();
    match request {
        IoctlRequest::FIOCLEX => files.set_close_on_exec(fd.0, true)?,
        IoctlRequest::FIONCLEX => files.set_close_on_exec(fd.0, false)?,
        IoctlRequest::FIONBIO => {
            let on: i32 = ctx.read_object(argument.0)?;
            let mut flags = description.flags();
            flags.set(OpenFlags::O_NONBLOCK, on != 0);
            description.set_flags(flags);
        }
        IoctlRequest::FIOASYNC => {
            let on = ctx.read_object::<i32>(argument.0)? != 0;
            let changes = description.flags().contains(OpenFlags::FASYNC) != on;
            if changes && description.file().signal_io() == SignalIo::Absent {
                return Err(Errno::ENOTTY.here().into());
            }
            signal::io::switch(ctx, &description, fd.0, on);
        }
        IoctlRequest::FIOSETOWN | IoctlRequest::SIOCSPGRP if kind == FileType::Socket => {
            signal::io::set_signed_owner(ctx, &description, ctx.read_object(argument.0)?)?;
        }
        IoctlRequest::FIOGETOWN | IoctlRequest::SIOCGPGRP if kind == FileType::Socket => {
            ctx.write_object(argument.0, &sigio::signed_owner(&description))?;
        }
        IoctlRequest::FIOQSIZE if matches!(kind, FileType::Regular | FileType::Directory | FileType::Symlink) => {
            let size = description.file().inode().metadata()?.size;
            ctx.write_object(argument.0, &size)?;
        }
        IoctlRequest::FIONREAD if kind == FileType::Regular => {
            let size = description.file().inode().metadata()?.size as i64;
            let left = size.wrapping_sub(*description.position() as i64);
            ctx.write_object(argument.0, &(left as i32))?;
        }
        _ => {
            let file = description.file().clone();
            return file.ioctl(ctx, request.raw(), argument.0);
        }
    }
    Ok(0)
}
