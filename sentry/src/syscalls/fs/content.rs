//! Operations on whole files: length, allocation, write-back, and copies between files.

use amber_abi::errno::Errno;
use amber_abi::open::{AT_FDCWD, FallocateMode, FileAdvice, MAX_RW_COUNT, OpenFlags, SyncFileRangeFlags};
use amber_abi::stat::FileType;

use super::buffers::with_bounce;
use super::support::{find_at, room_at, send_signal, size_limit};
use crate::error::{Restart, SysError, SysResult};
use crate::slices::{at_most_mut, filled};
use crate::syscalls::args::{Fd, Path, PtrOut};
use crate::task::TaskContext;
use crate::vfs::FileDescription;
use crate::vfs::access::{self, Access};
use crate::vfs::notify::{self, mask};

/// truncate(2).
pub(crate) fn truncate(ctx: &mut TaskContext, path: Path, length: i64) -> SysResult {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL.here())?;
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    match found.inode.kind() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR.here().into()),
        _ => return Err(Errno::EINVAL.here().into()),
    }
    found.check_writable()?;
    let credentials = ctx.credentials();
    access::check(&credentials, &*found.inode, Access::WRITE)?;
    if ctx.kernel().vfs.file_uses.is_executed(&*found.inode)? {
        return Err(Errno::ETXTBSY.here().into());
    }
    check_size(ctx, length, found.inode.metadata()?.size)?;
    access::set_size(&ctx.kernel().vfs, &credentials, &*found.inode, length)?;
    if let Some(path) = &found.path {
        notify::happened(path, mask::IN_MODIFY);
    }
    Ok(0)
}

/// ftruncate(2).
pub(crate) fn ftruncate(ctx: &mut TaskContext, fd: Fd, length: i64) -> SysResult {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL.here())?;
    let description = ctx.files().get(fd.0)?;
    let inode = description.file().inode();
    if inode.kind() != FileType::Regular || !description.is_writable() {
        return Err(Errno::EINVAL.here().into());
    }
    check_size(ctx, length, inode.metadata()?.size)?;
    access::set_size(&ctx.kernel().vfs, &ctx.credentials(), &*inode, length)?;
    if let Some(path) = description.path() {
        notify::happened(path, mask::IN_MODIFY);
    }
    Ok(0)
}

fn check_size(ctx: &TaskContext, new: u64, old: u64) -> Result<(), Errno> {
    if new > old && new > size_limit(ctx) {
        send_signal(ctx, amber_abi::Signal::SIGXFSZ);
        return Err(Errno::EFBIG.here());
    }
    Ok(())
}

/// fallocate(2).
pub(crate) fn fallocate(ctx: &mut TaskContext, fd: Fd, mode: FallocateMode, offset: i64, len: i64) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    let (Ok(offset), Ok(len @ 1..)) = (u64::try_from(offset), u64::try_from(len)) else {
        return Err(Errno::EINVAL.here().into());
    };
    let keep = FallocateMode::FALLOC_FL_KEEP_SIZE;
    if FallocateMode::from_bits(mode.bits()).is_none() || mode.contains(FallocateMode::FALLOC_FL_NO_HIDE_STALE) {
        return Err(Errno::EOPNOTSUPP.here().into());
    }
    let punch = FallocateMode::FALLOC_FL_PUNCH_HOLE;
    let ways = [
        punch,
        FallocateMode::FALLOC_FL_COLLAPSE_RANGE,
        FallocateMode::FALLOC_FL_INSERT_RANGE,
        FallocateMode::FALLOC_FL_ZERO_RANGE,
        FallocateMode::FALLOC_FL_UNSHARE_RANGE,
    ];
    let chosen = ways.iter().filter(|way| mode.contains(**way)).count();
    let shifts = FallocateMode::FALLOC_FL_COLLAPSE_RANGE | FallocateMode::FALLOC_FL_INSERT_RANGE;
    if chosen > 1 || (mode.contains(punch) && !mode.contains(keep)) || (mode.intersects(shifts) && mode.contains(keep))
    {
        return Err(Errno::EOPNOTSUPP.here().into());
    }
    if !description.is_writable() {
        return Err(Errno::EBADF.here().into());
    }
    match description.kind() {
        FileType::Regular => {}
        FileType::Fifo => return Err(Errno::ESPIPE.here().into()),
        FileType::Directory => return Err(Errno::EISDIR.here().into()),
        _ => return Err(Errno::ENODEV.here().into()),
    }
    let end = offset.checked_add(len).filter(|&end| end <= i64::MAX as u64).ok_or_else(|| Errno::EFBIG.here())?;
    if !mode.contains(keep) {
        check_size(ctx, end, description.file().inode().metadata()?.size)?;
    }
    access::drop_privileges(&ctx.kernel().vfs, &ctx.credentials(), &*description.file().inode())?;
    description.file().allocate(mode, offset, len)?;
    if let Some(path) = description.path() {
        notify::happened(path, mask::IN_MODIFY);
    }
    Ok(0)
}

/// fsync(2).
pub(crate) fn fsync(ctx: &mut TaskContext, fd: Fd) -> SysResult {
    ctx.files().get(fd.0)?.file().sync(false)?;
    Ok(0)
}

/// fdatasync(2).
pub(crate) fn fdatasync(ctx: &mut TaskContext, fd: Fd) -> SysResult {
    ctx.files().get(fd.0)?.file().sync(true)?;
    Ok(0)
}

/// sync(2).
pub(crate) fn sync(ctx: &mut TaskContext) -> SysResult {
    for mount in ctx.fs().namespace().mounts() {
        if let Err(errno) = mount.fs().sync() {
            log::warn!("sync: {errno}");
        }
    }
    Ok(0)
}

/// syncfs(2).
pub(crate) fn syncfs(ctx: &mut TaskContext, fd: Fd) -> SysResult {
    ctx.files().get(fd.0)?.file().inode().file_system().sync()?;
    Ok(0)
}

/// sync_file_range(2).
pub(crate) fn sync_file_range(
    ctx: &mut TaskContext,
    fd: Fd,
    offset: i64,
    len: i64,
    flags: SyncFileRangeFlags,
) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    if SyncFileRangeFlags::from_bits(flags.bits()).is_none()
        || offset < 0
        || len < 0
        || offset.checked_add(len).is_none()
    {
        return Err(Errno::EINVAL.here().into());
    }
    match description.kind() {
        FileType::Regular | FileType::BlockDevice | FileType::Directory | FileType::Symlink => {}
        _ => return Err(Errno::ESPIPE.here().into()),
    }
    description.file().sync(true)?;
    Ok(0)
}

/// readahead(2). Pages are read on demand, so only the checks remain.
pub(crate) fn readahead(ctx: &mut TaskContext, fd: Fd, _offset: i64, _count: usize) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    if !description.is_readable() {
        return Err(Errno::EBADF.here().into());
    }
    if !matches!(description.kind(), FileType::Regular | FileType::BlockDevice) {
        return Err(Errno::EINVAL.here().into());
    }
    Ok(0)
}

/// fadvise64(2). The advice is ignored.
pub(crate) fn fadvise64(ctx: &mut TaskContext, fd: Fd, _offset: i64, len: i64, advice: FileAdvice) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    if description.kind() == FileType::Fifo {
        return Err(Errno::ESPIPE.here().into());
    }
    if len < 0 || advice.raw() > FileAdvice::POSIX_FADV_NOREUSE.raw() {
        return Err(Errno::EINVAL.here().into());
    }
    Ok(0)
}

/// The position of a copy: an offset in guest memory, or the file position.
pub(super) enum Place {
    /// An offset in guest memory, which is updated.
    Given {
        /// Its guest address.
        address: u64,
        /// The initial offset.
        at: u64,
    },
    /// The file position.
    Position(u64),
}

impl Place {
    /// The position that the guest specifies; NULL for the file position.
    pub(super) fn new(ctx: &TaskContext, description: &FileDescription, address: PtrOut) -> Result<Self, Errno> {
        if address.is_null() {
            return Ok(Place::Position(*description.position()));
        }
        let at: i64 = ctx.read_object(address.0)?;
        let at = u64::try_from(at).map_err(|_| Errno::EINVAL.here())?;
        Ok(Place::Given { address: address.0, at })
    }

    /// The initial offset.
    pub(super) fn at(&self) -> u64 {
        match *self {
            Place::Given { at, .. } | Place::Position(at) => at,
        }
    }

    /// Advances the position by the copied bytes.
    pub(super) fn finish(&self, ctx: &TaskContext, description: &FileDescription, moved: u64) -> Result<(), Errno> {
        match self {
            Place::Given { address, at } => ctx.write_object(*address, &(at + moved)),
            Place::Position(at) => {
                *description.position() = at + moved;
                Ok(())
            }
        }
    }
}

/// sendfile(2).
pub(crate) fn sendfile(ctx: &mut TaskContext, out: Fd, input: Fd, offset: PtrOut, count: usize) -> SysResult {
    let from = ctx.files().get(input.0)?;
    let to = ctx.files().get(out.0)?;
    if !from.is_readable() || !to.is_writable() {
        return Err(Errno::EBADF.here().into());
    }
    if !offset.is_null() && !from.file().is_seekable() {
        return Err(Errno::ESPIPE.here().into());
    }
    if from.kind() == FileType::Directory || to.flags().contains(OpenFlags::O_APPEND) {
        return Err(Errno::EINVAL.here().into());
    }
    if !from.file().is_seekable() {
        return Err(Errno::EINVAL.here().into());
    }
    let place = Place::new(ctx, &from, offset)?;
    let count = (count as u64).min(MAX_RW_COUNT as u64);
    let start = if to.file().is_seekable() { *to.position() } else { 0 };
    let (done, failure) = pour(ctx, &from, place.at(), &to, start, count);
    if to.file().is_seekable() {
        *to.position() = start + done;
    }
    place.finish(ctx, &from, done)?;
    ctx.stats().count_read(done);
    ctx.stats().count_write(done);
    match failure {
        Some(error) if done == 0 => Err(error),
        _ => Ok(done),
    }
}

/// copy_file_range(2).
pub(crate) fn copy_file_range(
    ctx: &mut TaskContext,
    input: Fd,
    offset_in: PtrOut,
    out: Fd,
    offset_out: PtrOut,
    len: usize,
    flags: u32,
) -> SysResult {
    let from = ctx.files().get(input.0)?;
    let to = ctx.files().get(out.0)?;
    let (from_place, to_place) = (Place::new(ctx, &from, offset_in)?, Place::new(ctx, &to, offset_out)?);
    if flags != 0 {
        return Err(Errno::EINVAL.here().into());
    }
    for description in [&from, &to] {
        match description.kind() {
            FileType::Directory => return Err(Errno::EISDIR.here().into()),
            FileType::Regular => {}
            _ => return Err(Errno::EINVAL.here().into()),
        }
    }
    if !from.is_readable() || !to.is_writable() || to.flags().contains(OpenFlags::O_APPEND) {
        return Err(Errno::EBADF.here().into());
    }
    let (source, sink) = (from.file().inode(), to.file().inode());
    let size = source.metadata()?.size;
    let len = (len as u64).min(MAX_RW_COUNT as u64).min(size.saturating_sub(from_place.at()));
    from_place.at().checked_add(len).ok_or_else(|| Errno::EOVERFLOW.here())?;
    to_place.at().checked_add(len).ok_or_else(|| Errno::EOVERFLOW.here())?;
    if source.identity()? == sink.identity()? && from_place.at().abs_diff(to_place.at()) < len {
        return Err(Errno::EINVAL.here().into());
    }
    if len == 0 {
        return Ok(0);
    }
    let (done, failure) = pour(ctx, &from, from_place.at(), &to, to_place.at(), len);
    from_place.finish(ctx, &from, done)?;
    to_place.finish(ctx, &to, done)?;
    ctx.stats().count_read(done);
    ctx.stats().count_write(done);
    match failure {
        Some(error) if done == 0 => Err(error),
        _ => Ok(done),
    }
}

/// Copies from a seekable file to any other. Blocks for streams unless they are non-blocking.
fn pour(
    ctx: &TaskContext,
    from: &FileDescription,
    start: u64,
    to: &FileDescription,
    to_start: u64,
    count: u64,
) -> (u64, Option<SysError>) {
    use amber_abi::poll::PollEvents;
    let regular = to.kind() == FileType::Regular;
    let events = PollEvents::POLLOUT | PollEvents::POLLWRNORM;
    let mut total = 0;
    let result = with_bounce(ctx, count as usize, |buffer| -> Result<(), SysError> {
        if regular {
            access::drop_privileges(&ctx.kernel().vfs, &ctx.credentials(), &*to.file().inode())?;
        }
        while total < count {
            let mut want = ((count - total) as usize).min(buffer.len());
            if regular {
                want = room_at(ctx, to_start + total, want as u64, total > 0)? as usize;
            }
            let got = from.file().read_at(at_most_mut(buffer, want), start + total)?;
            if got == 0 {
                break;
            }
            let data = filled(buffer, got)?;
            let mut done = 0;
            while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
                let attempt = || match to.file().write_at(rest, to_start + total) {
                    Err(Errno::EAGAIN) if !to.is_nonblocking() => None,
                    answer => Some(answer),
                };
                let answer = match (attempt(), to.file().wait_queue()) {
                    (Some(answer), _) => answer,
                    (None, None) => Err(Errno::EAGAIN.here()),
                    (None, Some(queue)) => {
                        ctx.wait(&[(queue, events)], None, attempt).map_err(|_| SysError::from(Restart::ByFlag))?
                    }
                };
                let written = match answer {
                    Err(Errno::EPIPE) => {
                        send_signal(ctx, amber_abi::Signal::SIGPIPE);
                        return Err(Errno::EPIPE.here().into());
                    }
                    answer => answer?,
                };
                done += written;
                total += written as u64;
            }
            // As on Linux, any signal ends the copy.
            if ctx.is_interrupted() {
                break;
            }
        }
        Ok(())
    });
    if total > 0
        && let Some(path) = to.path()
    {
        notify::happened(path, mask::IN_MODIFY);
    }
    (total, result.err())
}
