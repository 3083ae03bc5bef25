//! Opening: open(2), openat2(2) and creat(2).

use amber_abi::errno::Errno;
use amber_abi::open::{AT_FDCWD, OPEN_HOW_SIZE_VER0, OpenFlags, OpenHow, ResolveFlags};
use zerocopy::IntoBytes;

use super::support::{check_open_files, descriptor_limit, restricted_scope_at};
use crate::error::SysResult;
use crate::syscalls::args::{DirFd, FileMode, In, Path};
use crate::task::TaskContext;
use crate::vfs::open::{How, open as open_path};

const O_TMPFILE_ALONE: OpenFlags = OpenFlags::O_TMPFILE.difference(OpenFlags::O_DIRECTORY);
const MODE_BITS: u64 = 0o7777;

/// open(2).
pub(crate) fn open(ctx: &mut TaskContext, path: Path, flags: OpenFlags, mode: FileMode) -> SysResult {
    openat(ctx, DirFd(AT_FDCWD), path, flags, mode)
}

/// creat(2).
pub(crate) fn creat(ctx: &mut TaskContext, path: Path, mode: FileMode) -> SysResult {
    openat(ctx, DirFd(AT_FDCWD), path, OpenFlags::O_CREAT | OpenFlags::O_WRONLY | OpenFlags::O_TRUNC, mode)
}

/// openat(2). Unknown flags and mode bits are ignored.
pub(crate) fn openat(ctx: &mut TaskContext, dirfd: DirFd, path: Path, flags: OpenFlags, mode: FileMode) -> SysResult {
    let mut flags = OpenFlags::from_bits_truncate(flags.bits());
    if flags.contains(OpenFlags::O_PATH) {
        flags &= OpenFlags::O_PATH | OpenFlags::O_DIRECTORY | OpenFlags::O_NOFOLLOW | OpenFlags::O_CLOEXEC;
    }
    let makes = flags.contains(OpenFlags::O_CREAT) || flags.contains(O_TMPFILE_ALONE);
    let mode = if makes { u64::from(mode.0) & MODE_BITS } else { 0 };
    go(ctx, dirfd.0, path, flags, mode, ResolveFlags::empty())
}

/// openat2(2). Unknown flags and mode bits are refused.
pub(crate) fn openat2(ctx: &mut TaskContext, dirfd: DirFd, path: Path, how: In<OpenHow>, size: usize) -> SysResult {
    if size < OPEN_HOW_SIZE_VER0 {
        return Err(Errno::EINVAL.here().into());
    }
    if size > 4096 {
        return Err(Errno::E2BIG.here().into());
    }
    let mut bytes = vec![0; size];
    ctx.read_bytes(how.0, &mut bytes)?;
    if bytes.iter().skip(size_of::<OpenHow>()).any(|&b| b != 0) {
        return Err(Errno::E2BIG.here().into());
    }
    let mut how = OpenHow::default();
    let known = size_of::<OpenHow>();
    how.as_mut_bytes().copy_from_slice(bytes.get(..known).ok_or_else(|| Errno::EINVAL.here())?);

    let flags = u32::try_from(how.flags).map_err(|_| Errno::EINVAL.here())?;
    let flags = OpenFlags::from_bits(flags).ok_or_else(|| Errno::EINVAL.here())?;
    let resolve = ResolveFlags::from_bits(how.resolve).ok_or_else(|| Errno::EINVAL.here())?;
    let both = ResolveFlags::RESOLVE_BENEATH | ResolveFlags::RESOLVE_IN_ROOT;
    let path_flags = OpenFlags::O_PATH | OpenFlags::O_DIRECTORY | OpenFlags::O_NOFOLLOW | OpenFlags::O_CLOEXEC;
    let makes = flags.contains(OpenFlags::O_CREAT) || flags.contains(O_TMPFILE_ALONE);
    if resolve.contains(both)
        || how.mode & !MODE_BITS != 0
        || (!makes && how.mode != 0)
        || (flags.contains(OpenFlags::O_PATH) && !path_flags.contains(flags))
    {
        return Err(Errno::EINVAL.here().into());
    }
    go(ctx, dirfd.0, path, flags, how.mode, resolve)
}

fn go(
    ctx: &mut TaskContext,
    dirfd: i32,
    path: Path,
    mut flags: OpenFlags,
    mode: u64,
    resolve: ResolveFlags,
) -> SysResult {
    if flags.contains(OpenFlags::O_CREAT | OpenFlags::O_DIRECTORY) {
        return Err(Errno::EINVAL.here().into());
    }
    if flags.contains(O_TMPFILE_ALONE) {
        let writes = flags.writes() || flags.contains(OpenFlags::O_ACCMODE);
        if !flags.contains(OpenFlags::O_DIRECTORY) || !writes || flags.contains(OpenFlags::O_CREAT) {
            return Err(Errno::EINVAL.here().into());
        }
    }
    if flags.contains(OpenFlags::O_CREAT | OpenFlags::O_EXCL) {
        flags |= OpenFlags::O_NOFOLLOW;
    }
    let close_on_exec = flags.contains(OpenFlags::O_CLOEXEC);
    let path = ctx.read_path(path.0)?;
    let reserved = ctx.files().reserve(0, descriptor_limit(ctx))?;
    check_open_files(ctx)?;
    let credentials = ctx.credentials();
    let scope = restricted_scope_at(ctx, &credentials, dirfd, &path, resolve)?;
    let opened = open_path(ctx, &scope, &path, How { flags, permissions: mode as u16 })?;
    Ok(reserved.install(opened, close_on_exec) as u64)
}
