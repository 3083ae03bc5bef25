//! Attributes of files and file systems: stat(2), statx(2), statfs(2), access(2) and related calls.

use amber_abi::errno::Errno;
use amber_abi::open::{AT_FDCWD, AccessFlags, AccessMode, AtFlags};
use amber_abi::stat::{Device, Stat, StatFs, StatFsFlags, Statx, StatxAttributes, StatxMask, StatxTimestamp, Ustat};
use amber_abi::time::Timespec;

use super::support::{Found, find_at, find_path_at, scope_at};
use crate::credentials::Credentials;
use crate::error::SysResult;
use crate::id_map;
use crate::slices::at_most;
use crate::syscalls::args::{BufOut, DeviceNumber, DirFd, Fd, Out, Path, PtrOut};
use crate::task::TaskContext;
use crate::vfs::access::{self, Access};
use crate::vfs::{Metadata, Mount, MountOptions};

/// stat(2).
pub(crate) fn stat(ctx: &mut TaskContext, path: Path, out: Out<Stat>) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    write_stat(ctx, &found, out)
}

/// lstat(2).
pub(crate) fn lstat(ctx: &mut TaskContext, path: Path, out: Out<Stat>) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, false, false)?;
    write_stat(ctx, &found, out)
}

/// fstat(2), also for `O_PATH` descriptors.
pub(crate) fn fstat(ctx: &mut TaskContext, fd: Fd, out: Out<Stat>) -> SysResult {
    let found = Found::from(&*ctx.files().get_any(fd.0)?);
    write_stat(ctx, &found, out)
}

/// newfstatat(2).
pub(crate) fn newfstatat(ctx: &mut TaskContext, dirfd: DirFd, path: Path, out: Out<Stat>, flags: AtFlags) -> SysResult {
    let known = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT | AtFlags::AT_EMPTY_PATH;
    if !known.contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let follow = !flags.contains(AtFlags::AT_SYMLINK_NOFOLLOW);
    let found = find_at(ctx, dirfd.0, path.0, follow, flags.contains(AtFlags::AT_EMPTY_PATH))?;
    write_stat(ctx, &found, out)
}

fn write_stat(ctx: &TaskContext, found: &Found, out: Out<Stat>) -> SysResult {
    let m = found.inode.metadata()?;
    let stat = Stat {
        st_dev: m.device.raw(),
        st_ino: m.number,
        st_nlink: m.links.into(),
        st_mode: m.kind.mode() | u32::from(m.permissions),
        st_uid: id_map::shown(m.uid),
        st_gid: id_map::shown(m.gid),
        st_rdev: m.special.raw(),
        st_size: m.size as i64,
        st_blksize: m.block_size.into(),
        st_blocks: m.blocks as i64,
        st_atime: m.accessed.tv_sec,
        st_atime_nsec: m.accessed.tv_nsec,
        st_mtime: m.modified.tv_sec,
        st_mtime_nsec: m.modified.tv_nsec,
        st_ctime: m.changed.tv_sec,
        st_ctime_nsec: m.changed.tv_nsec,
        ..Stat::default()
    };
    ctx.write_object(out.0, &stat)?;
    Ok(0)
}

/// statx(2).
pub(crate) fn statx(
    ctx: &mut TaskContext,
    dirfd: DirFd,
    path: Path,
    flags: AtFlags,
    mask: StatxMask,
    out: Out<Statx>,
) -> SysResult {
    let known =
        AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT | AtFlags::AT_EMPTY_PATH | AtFlags::AT_STATX_SYNC_TYPE;
    if mask.contains(StatxMask::STATX__RESERVED)
        || !known.contains(flags)
        || flags.contains(AtFlags::AT_STATX_SYNC_TYPE)
    {
        return Err(Errno::EINVAL.here().into());
    }
    let follow = !flags.contains(AtFlags::AT_SYMLINK_NOFOLLOW);
    let found = find_at(ctx, dirfd.0, path.0, follow, flags.contains(AtFlags::AT_EMPTY_PATH))?;
    let statx = extended(&found, &found.inode.metadata()?, mask);
    ctx.write_object(out.0, &statx)?;
    Ok(0)
}

fn extended(found: &Found, m: &Metadata, requested: StatxMask) -> Statx {
    let time = |t: Timespec| StatxTimestamp { tv_sec: t.tv_sec, tv_nsec: t.tv_nsec as u32, ..Default::default() };
    let mut mask = StatxMask::STATX_BASIC_STATS;
    mask.set(StatxMask::STATX_BTIME, m.born.is_some());
    let mut attributes = StatxAttributes::empty();
    let mut mount_id = 0;
    if let Some(path) = &found.path {
        if requested.contains(StatxMask::STATX_MNT_ID_UNIQUE) {
            mask |= StatxMask::STATX_MNT_ID_UNIQUE;
            mount_id = path.mount.unique_id;
        } else {
            mask |= StatxMask::STATX_MNT_ID;
            mount_id = path.mount.id.into();
        }
        attributes.set(StatxAttributes::STATX_ATTR_MOUNT_ROOT, path.is_mount_root());
    }
    Statx {
        stx_mask: mask.bits(),
        stx_blksize: m.block_size,
        stx_attributes: attributes.bits(),
        stx_attributes_mask: StatxAttributes::STATX_ATTR_MOUNT_ROOT.bits(),
        stx_nlink: m.links,
        stx_uid: id_map::shown(m.uid),
        stx_gid: id_map::shown(m.gid),
        stx_mode: (m.kind.mode() | u32::from(m.permissions)) as u16,
        stx_ino: m.number,
        stx_size: m.size,
        stx_blocks: m.blocks,
        stx_atime: time(m.accessed),
        stx_btime: time(m.born.unwrap_or_default()),
        stx_ctime: time(m.changed),
        stx_mtime: time(m.modified),
        stx_rdev_major: m.special.major,
        stx_rdev_minor: m.special.minor,
        stx_dev_major: m.device.major,
        stx_dev_minor: m.device.minor,
        stx_mnt_id: mount_id,
        ..Statx::default()
    }
}

/// statfs(2).
pub(crate) fn statfs(ctx: &mut TaskContext, path: Path, out: Out<StatFs>) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    write_statfs(ctx, &found, out)
}

/// fstatfs(2).
pub(crate) fn fstatfs(ctx: &mut TaskContext, fd: Fd, out: Out<StatFs>) -> SysResult {
    let found = Found::from(&*ctx.files().get_any(fd.0)?);
    write_statfs(ctx, &found, out)
}

fn write_statfs(ctx: &TaskContext, found: &Found, out: Out<StatFs>) -> SysResult {
    let fs = found.inode.file_system();
    let mut stat = fs.statfs()?;
    let mut flags = StatFsFlags::ST_VALID;
    if let Some(path) = &found.path {
        flags |= mount_flags(&path.mount);
    }
    stat.f_flags = flags.bits() as i64;
    let device = fs.device().raw();
    stat.f_fsid = [device as i32, (device >> 32) as i32];
    ctx.write_object(out.0, &stat)?;
    Ok(0)
}

fn mount_flags(mount: &Mount) -> StatFsFlags {
    let options = mount.options();
    let mut flags = StatFsFlags::empty();
    flags.set(StatFsFlags::ST_RDONLY, mount.is_read_only());
    for (option, flag) in [
        (MountOptions::NO_SUID, StatFsFlags::ST_NOSUID),
        (MountOptions::NO_DEV, StatFsFlags::ST_NODEV),
        (MountOptions::NO_EXEC, StatFsFlags::ST_NOEXEC),
        (MountOptions::NO_ATIME, StatFsFlags::ST_NOATIME),
        (MountOptions::NO_DIRECTORY_ATIME, StatFsFlags::ST_NODIRATIME),
        (MountOptions::RELATIVE_ATIME, StatFsFlags::ST_RELATIME),
        (MountOptions::NO_SYMLINK_FOLLOW, StatFsFlags::ST_NOSYMFOLLOW),
    ] {
        flags.set(flag, options.contains(option));
    }
    flags
}

/// ustat(2): the file system mounted with this device number.
pub(crate) fn ustat(ctx: &mut TaskContext, device: DeviceNumber, out: PtrOut) -> SysResult {
    let device = Device::from_raw(device.0.into());
    let mounts = ctx.fs().namespace().mounts();
    let mount = mounts.iter().find(|m| m.fs().device() == device).ok_or_else(|| Errno::EINVAL.here())?;
    let stat = mount.fs().statfs()?;
    let ustat = Ustat { f_tfree: stat.f_bfree as i32, f_tinode: stat.f_ffree, ..Ustat::default() };
    ctx.write_object(out.0, &ustat)?;
    Ok(0)
}

/// access(2).
pub(crate) fn access(ctx: &mut TaskContext, path: Path, mode: AccessMode) -> SysResult {
    faccessat2(ctx, DirFd(AT_FDCWD), path, mode, AccessFlags::empty())
}

/// faccessat(2), which has no flags argument.
pub(crate) fn faccessat(ctx: &mut TaskContext, dirfd: DirFd, path: Path, mode: AccessMode) -> SysResult {
    faccessat2(ctx, dirfd, path, mode, AccessFlags::empty())
}

/// faccessat2(2).
pub(crate) fn faccessat2(
    ctx: &mut TaskContext,
    dirfd: DirFd,
    path: Path,
    mode: AccessMode,
    flags: AccessFlags,
) -> SysResult {
    if AccessMode::from_bits(mode.bits()).is_none() || AccessFlags::from_bits(flags.bits()).is_none() {
        return Err(Errno::EINVAL.here().into());
    }
    let mut credentials = (*ctx.credentials()).clone();
    if !flags.contains(AccessFlags::AT_EACCESS) {
        as_real_user(&mut credentials);
    }
    let path = ctx.read_path(path.0)?;
    let follow = !flags.contains(AccessFlags::AT_SYMLINK_NOFOLLOW);
    let found = if path.is_empty() && flags.contains(AccessFlags::AT_EMPTY_PATH) {
        let found = find_path_at(ctx, dirfd.0, &path, follow, true)?;
        found.inode.refresh()?;
        found
    } else {
        Found::try_from(scope_at(ctx, &credentials, dirfd.0, &path)?.resolve(&path, follow)?)?
    };
    let mut wanted = Access::empty();
    wanted.set(Access::READ, mode.contains(AccessMode::R_OK));
    wanted.set(Access::WRITE, mode.contains(AccessMode::W_OK));
    wanted.set(Access::EXECUTE, mode.contains(AccessMode::X_OK));
    let kind = found.inode.kind();
    let regular = kind == amber_abi::stat::FileType::Regular;
    if let Some(path) = &found.path
        && regular
        && wanted.contains(Access::EXECUTE)
        && path.mount.options().contains(MountOptions::NO_EXEC)
    {
        return Err(Errno::EACCES.here().into());
    }
    if wanted.is_empty() {
        return Ok(0);
    }
    match &found.path {
        Some(path) => access::check_path(&credentials, path, wanted)?,
        None => access::check(&credentials, &*found.inode, wanted)?,
    }
    if wanted.contains(Access::WRITE) && access::is_stored(kind) {
        found.check_writable()?;
    }
    Ok(0)
}

/// The credentials for access(2): those of the real user and group.
fn as_real_user(credentials: &mut Credentials) {
    const SECURE_NO_SETUID_FIXUP: u32 = 4;
    credentials.fsuid = credentials.uid;
    credentials.fsgid = credentials.gid;
    if credentials.securebits & SECURE_NO_SETUID_FIXUP == 0 {
        credentials.effective = if credentials.uid == 0 { credentials.permitted } else { Default::default() };
    }
}

/// readlink(2).
pub(crate) fn readlink(ctx: &mut TaskContext, path: Path, buf: BufOut, size: i32) -> SysResult {
    readlinkat(ctx, DirFd(AT_FDCWD), path, buf, size)
}

/// readlinkat(2). The empty path refers to a link opened with `O_PATH | O_NOFOLLOW`.
pub(crate) fn readlinkat(ctx: &mut TaskContext, dirfd: DirFd, path: Path, buf: BufOut, size: i32) -> SysResult {
    let size = usize::try_from(size).ok().filter(|&s| s > 0).ok_or_else(|| Errno::EINVAL.here())?;
    let path = ctx.read_path(path.0)?;
    let found = find_path_at(ctx, dirfd.0, &path, false, dirfd.0 != AT_FDCWD)?;
    if found.inode.kind() != amber_abi::stat::FileType::Symlink {
        return Err(if path.is_empty() { Errno::ENOENT.here() } else { Errno::EINVAL.here() }.into());
    }
    let text = found.inode.read_link_as(ctx)?;
    let text = at_most(&text, size);
    ctx.write_bytes(buf.0, text)?;
    Ok(text.len() as u64)
}
