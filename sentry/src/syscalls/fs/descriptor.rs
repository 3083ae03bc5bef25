//! Descriptors: close, duplicate, seek.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::{CloseRangeFlags, Whence};
use amber_abi::poll::PipeFlags;
use amber_abi::stat::FileType;

use super::support::descriptor_limit;
use crate::error::SysResult;
use crate::syscalls::args::Fd;
use crate::task::TaskContext;
use crate::task::pidfd::PidFd;
use crate::vfs::FileDescription;

/// close(2).
pub(crate) fn close(ctx: &mut TaskContext, fd: Fd) -> SysResult {
    let description = ctx.files().remove(fd.0)?;
    closed(ctx, &description)?;
    Ok(0)
}

/// The effects of closing a descriptor of a file.
pub(crate) fn closed(ctx: &TaskContext, description: &Arc<FileDescription>) -> Result<(), Errno> {
    description.closed(ctx.files().id());
    if description.is_path_only() {
        return Ok(());
    }
    let flushed = description.file().flush();
    if Arc::strong_count(description) == 1 {
        description.file().last_close(ctx);
    }
    flushed
}

/// close_range(2).
pub(crate) fn close_range(ctx: &mut TaskContext, first: u32, last: u32, flags: CloseRangeFlags) -> SysResult {
    if CloseRangeFlags::from_bits(flags.bits()).is_none() || first > last {
        return Err(Errno::EINVAL.here().into());
    }
    if flags.contains(CloseRangeFlags::CLOSE_RANGE_UNSHARE) {
        let own = ctx.files().duplicate()?;
        ctx.set_files(Arc::new(own));
    }
    let files = ctx.files();
    if flags.contains(CloseRangeFlags::CLOSE_RANGE_CLOEXEC) {
        files.set_close_on_exec_range(first, last);
        return Ok(0);
    }
    // Errors of single files cannot be reported.
    files.remove_range(
        first,
        last,
        |_| true,
        |description| {
            let _ = closed(ctx, &description);
        },
    );
    Ok(0)
}

/// dup(2).
pub(crate) fn dup(ctx: &mut TaskContext, fd: Fd) -> SysResult {
    let files = ctx.files();
    let description = files.get_any(fd.0)?;
    Ok(files.insert(description, false, descriptor_limit(ctx))? as u64)
}

/// dup2(2).
pub(crate) fn dup2(ctx: &mut TaskContext, old: Fd, new: Fd) -> SysResult {
    if old == new {
        ctx.files().get_any(old.0)?;
        return Ok(new.0 as u64);
    }
    replace(ctx, old, new, false)
}

/// dup3(2).
pub(crate) fn dup3(ctx: &mut TaskContext, old: Fd, new: Fd, flags: PipeFlags) -> SysResult {
    if !PipeFlags::O_CLOEXEC.contains(flags) || old == new {
        return Err(Errno::EINVAL.here().into());
    }
    replace(ctx, old, new, !flags.is_empty())
}

fn replace(ctx: &mut TaskContext, old: Fd, new: Fd, close_on_exec: bool) -> SysResult {
    let files = ctx.files();
    let limit = descriptor_limit(ctx);
    if u64::try_from(new.0).map_or(true, |new| new >= limit) {
        return Err(Errno::EBADF.here().into());
    }
    let description = files.get_any(old.0)?;
    if let Some(replaced) = files.replace(new.0, description, close_on_exec, limit)? {
        let _ = closed(ctx, &replaced);
    }
    Ok(new.0 as u64)
}

/// lseek(2).
pub(crate) fn lseek(ctx: &mut TaskContext, fd: Fd, offset: i64, whence: Whence) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    let file = description.file();
    if !matches!(whence, Whence::SEEK_SET | Whence::SEEK_CUR | Whence::SEEK_END | Whence::SEEK_DATA | Whence::SEEK_HOLE)
    {
        return Err(Errno::EINVAL.here().into());
    }
    if !file.is_seekable() {
        // Anonymous files such as eventfds, except pidfds, have a constant position.
        let stays = description.kind() == FileType::Anonymous && description.downcast::<PidFd>().is_none();
        return if stays { Ok(0) } else { Err(Errno::ESPIPE.here().into()) };
    }
    if !file.keeps_position() {
        return Ok(0);
    }
    let mut position = description.position();
    let directory = description.kind() == FileType::Directory;
    let from = match whence {
        Whence::SEEK_SET => 0,
        Whence::SEEK_CUR => *position as i64,
        Whence::SEEK_END if directory => return Err(Errno::EINVAL.here().into()),
        Whence::SEEK_END => file.inode().metadata()?.size as i64,
        _ if directory => return Err(Errno::EINVAL.here().into()),
        _ => {
            let at = u64::try_from(offset).map_err(|_| Errno::ENXIO.here())?;
            *position = file.seek_data(at, whence == Whence::SEEK_HOLE)?;
            return Ok(*position);
        }
    };
    let at = from.checked_add(offset).ok_or_else(|| Errno::EOVERFLOW.here())?;
    *position = u64::try_from(at).map_err(|_| Errno::EINVAL.here())?;
    Ok(*position)
}
