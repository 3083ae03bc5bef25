//! ioctl(2): the commands that every file has; the others are the file's own.

use amber_abi::ioctl::IoctlRequest;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;

use crate::error::SysResult;
use crate::syscalls::args::{Fd, PtrOut};
use crate::task::TaskContext;

/// ioctl(2).
pub fn ioctl(ctx: &mut TaskContext, fd: Fd, request: IoctlRequest, argument: PtrOut) -> SysResult {
    let files = ctx.files();
    let description = files.get(fd.0)?;
    let switch = |ctx: &TaskContext, flag: OpenFlags| -> SysResult {
        let on: i32 = ctx.read_object(argument.0)?;
        let mut flags = description.flags();
        flags.set(flag, on != 0);
        description.set_flags(flags);
        Ok(0)
    };
    let kind = description.kind();
    match request {
        IoctlRequest::FIOCLEX => files.set_close_on_exec(fd.0, true)?,
        IoctlRequest::FIONCLEX => files.set_close_on_exec(fd.0, false)?,
        IoctlRequest::FIONBIO => return switch(ctx, OpenFlags::O_NONBLOCK),
        IoctlRequest::FIOASYNC => return switch(ctx, OpenFlags::FASYNC),
        IoctlRequest::FIOQSIZE if matches!(kind, FileType::Regular | FileType::Directory | FileType::Symlink) => {
            let size = description.file().inode().metadata()?.size;
            ctx.write_object(argument.0, &size)?;
        }
        IoctlRequest::FIONREAD if kind == FileType::Regular => {
            let size = description.file().inode().metadata()?.size as i64;
            let left = size.wrapping_sub(*description.position().lock() as i64);
            ctx.write_object(argument.0, &(left as i32))?;
        }
        _ => {
            let file = description.file().clone();
            return file.ioctl(ctx, request.raw(), argument.0);
        }
    }
    Ok(0)
}
