//! Directory entries: mkdir(2), mknod(2), link(2), unlink(2), rename(2) and related calls.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::open::{AT_FDCWD, AtFlags, RenameFlags, UnlinkFlags};
use amber_abi::stat::{Device, FileType, S_IFMT};

use super::support::{find_at, parent_at};
use crate::error::SysResult;
use crate::syscalls::args::{DeviceNumber, DirFd, FileMode, Path};
use crate::task::TaskContext;
use crate::vfs::namei::{self, Creation};

const HERE: DirFd = DirFd(AT_FDCWD);

/// mkdir(2).
pub(crate) fn mkdir(ctx: &mut TaskContext, path: Path, mode: FileMode) -> SysResult {
    mkdirat(ctx, HERE, path, mode)
}

/// mkdirat(2).
pub(crate) fn mkdirat(ctx: &mut TaskContext, dirfd: DirFd, path: Path, mode: FileMode) -> SysResult {
    let target = parent_at(ctx, dirfd.0, path.0)?;
    // The set-ID bits of directories come only from the parent.
    let creation = Creation::plain(FileType::Directory, (mode.0 & 0o1777) as u16, ctx.fs().umask());
    namei::create(&ctx.credentials(), &target, &creation)?;
    Ok(0)
}

/// mknod(2).
pub(crate) fn mknod(ctx: &mut TaskContext, path: Path, mode: FileMode, device: DeviceNumber) -> SysResult {
    mknodat(ctx, HERE, path, mode, device)
}

/// mknodat(2).
pub(crate) fn mknodat(
    ctx: &mut TaskContext,
    dirfd: DirFd,
    path: Path,
    mode: FileMode,
    device: DeviceNumber,
) -> SysResult {
    let kind = match mode.0 & S_IFMT {
        0 => FileType::Regular,
        bits => match FileType::from_mode(bits) {
            Some(FileType::Directory) => return Err(Errno::EPERM.here().into()),
            None | Some(FileType::Symlink) => return Err(Errno::EINVAL.here().into()),
            Some(kind) => kind,
        },
    };
    let special = match kind {
        FileType::CharacterDevice | FileType::BlockDevice => Device::from_raw(device.0.into()),
        _ => Device::default(),
    };
    let target = parent_at(ctx, dirfd.0, path.0)?;
    let plain = Creation::plain(kind, (mode.0 & 0o7777) as u16, ctx.fs().umask());
    namei::create(&ctx.credentials(), &target, &Creation { special, ..plain })?;
    Ok(0)
}

/// symlink(2).
pub(crate) fn symlink(ctx: &mut TaskContext, text: Path, path: Path) -> SysResult {
    symlinkat(ctx, text, HERE, path)
}

/// symlinkat(2).
pub(crate) fn symlinkat(ctx: &mut TaskContext, text: Path, dirfd: DirFd, path: Path) -> SysResult {
    let text = ctx.read_path(text.0)?;
    if text.is_empty() {
        return Err(Errno::ENOENT.here().into());
    }
    let target = parent_at(ctx, dirfd.0, path.0)?;
    namei::create(&ctx.credentials(), &target, &Creation::link(&text))?;
    Ok(0)
}

/// link(2).
pub(crate) fn link(ctx: &mut TaskContext, old: Path, new: Path) -> SysResult {
    linkat(ctx, HERE, old, HERE, new, AtFlags::empty())
}

/// linkat(2).
pub(crate) fn linkat(
    ctx: &mut TaskContext,
    old_fd: DirFd,
    old: Path,
    fd: DirFd,
    new: Path,
    flags: AtFlags,
) -> SysResult {
    if !(AtFlags::AT_SYMLINK_FOLLOW | AtFlags::AT_EMPTY_PATH).contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let empty = flags.contains(AtFlags::AT_EMPTY_PATH);
    if empty && ctx.read_path(old.0)?.is_empty() && !ctx.credentials().has(Capability::CAP_DAC_READ_SEARCH) {
        return Err(Errno::ENOENT.here().into());
    }
    let follow = flags.contains(AtFlags::AT_SYMLINK_FOLLOW);
    let source = find_at(ctx, old_fd.0, old.0, follow, empty)?;
    let target = parent_at(ctx, fd.0, new.0)?;
    let protected = ctx.kernel().tunables.protected_hardlinks.get() != 0;
    namei::link(&ctx.credentials(), source.path_or(Errno::EXDEV)?, &target, protected)?;
    Ok(0)
}

/// unlink(2).
pub(crate) fn unlink(ctx: &mut TaskContext, path: Path) -> SysResult {
    unlinkat(ctx, HERE, path, UnlinkFlags::empty())
}

/// rmdir(2).
pub(crate) fn rmdir(ctx: &mut TaskContext, path: Path) -> SysResult {
    unlinkat(ctx, HERE, path, UnlinkFlags::AT_REMOVEDIR)
}

/// unlinkat(2).
pub(crate) fn unlinkat(ctx: &mut TaskContext, dirfd: DirFd, path: Path, flags: UnlinkFlags) -> SysResult {
    if !UnlinkFlags::AT_REMOVEDIR.contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let target = parent_at(ctx, dirfd.0, path.0)?;
    if flags.contains(UnlinkFlags::AT_REMOVEDIR) {
        namei::rmdir(&ctx.credentials(), &target)?;
    } else {
        namei::unlink(&ctx.credentials(), &target)?;
    }
    Ok(0)
}

/// rename(2).
pub(crate) fn rename(ctx: &mut TaskContext, old: Path, new: Path) -> SysResult {
    renameat2(ctx, HERE, old, HERE, new, RenameFlags::empty())
}

/// renameat(2).
pub(crate) fn renameat(ctx: &mut TaskContext, old_fd: DirFd, old: Path, fd: DirFd, new: Path) -> SysResult {
    renameat2(ctx, old_fd, old, fd, new, RenameFlags::empty())
}

/// renameat2(2).
pub(crate) fn renameat2(
    ctx: &mut TaskContext,
    old_fd: DirFd,
    old: Path,
    fd: DirFd,
    new: Path,
    flags: RenameFlags,
) -> SysResult {
    let exclusive = RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_WHITEOUT;
    if RenameFlags::from_bits(flags.bits()).is_none()
        || (flags.contains(RenameFlags::RENAME_EXCHANGE) && flags.intersects(exclusive))
    {
        return Err(Errno::EINVAL.here().into());
    }
    let credentials = ctx.credentials();
    if flags.contains(RenameFlags::RENAME_WHITEOUT) && !credentials.has(Capability::CAP_MKNOD) {
        return Err(Errno::EPERM.here().into());
    }
    let from = parent_at(ctx, old_fd.0, old.0)?;
    let to = parent_at(ctx, fd.0, new.0)?;
    namei::rename(&credentials, &from, &to, flags)?;
    Ok(0)
}
