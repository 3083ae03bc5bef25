//! Mounts: mount(2), umount2(2), pivot_root(2).

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::mount::{MS_MGC_VAL, MountFlags, UmountFlags};
use amber_abi::open::AT_FDCWD;

use super::support::{find_at, find_path_at, scope_at};
use crate::error::SysResult;
use crate::syscalls::args::{Path, PtrIn, Str};
use crate::task::TaskContext;
use crate::vfs::mounting;
use crate::vfs::propagation::{self, Spreading};
use crate::vfs::{MountOptions, Path as Place, SuperBlock};

/// Returns `EPERM` if the caller may not change mounts.
pub(super) fn check_admin(ctx: &TaskContext) -> Result<(), Errno> {
    if ctx.credentials().has(Capability::CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM.here()) }
}

fn place_of(ctx: &TaskContext, path: Path, follow: bool) -> Result<Place, Errno> {
    Ok(find_at(ctx, AT_FDCWD, path.0, follow, false)?.path_or(Errno::EINVAL)?.clone())
}

/// The per-mount options among the flags.
fn options_of(flags: MountFlags) -> MountOptions {
    let mut options = MountOptions::empty();
    for (flag, option) in [
        (MountFlags::MS_RDONLY, MountOptions::READ_ONLY),
        (MountFlags::MS_NOSUID, MountOptions::NO_SUID),
        (MountFlags::MS_NODEV, MountOptions::NO_DEV),
        (MountFlags::MS_NOEXEC, MountOptions::NO_EXEC),
        (MountFlags::MS_NOSYMFOLLOW, MountOptions::NO_SYMLINK_FOLLOW),
        (MountFlags::MS_NOATIME, MountOptions::NO_ATIME),
        (MountFlags::MS_NODIRATIME, MountOptions::NO_DIRECTORY_ATIME),
    ] {
        options.set(option, flags.contains(flag));
    }
    options.set(MountOptions::RELATIVE_ATIME, !flags.intersects(MountFlags::MS_NOATIME | MountFlags::MS_STRICTATIME));
    options
}

/// mount(2).
pub(crate) fn mount(
    ctx: &mut TaskContext,
    source: Path,
    target: Path,
    kind: Str,
    flags: MountFlags,
    data: PtrIn,
) -> SysResult {
    let mut bits = flags.bits();
    if bits & 0xffff_0000 == MS_MGC_VAL {
        bits &= !0xffff_0000;
    }
    let flags = MountFlags::from_bits_retain(bits);
    let kind = if kind.is_null() { Vec::new() } else { ctx.read_path(kind.0)? };
    let source = if source.is_null() { None } else { Some(ctx.read_path(source.0)?) };
    let data = read_data(ctx, data)?;
    let place = place_of(ctx, target, true)?;
    check_admin(ctx)?;
    let namespace = ctx.fs().namespace();
    if flags.contains(MountFlags::MS_REMOUNT) {
        return remount(&place, flags, &data, ctx);
    }
    let recursive = flags.contains(MountFlags::MS_REC);
    if flags.contains(MountFlags::MS_BIND) {
        let what = source_place(ctx, source.as_deref())?;
        mounting::bind(&namespace, &what, &place, recursive)?;
        return Ok(0);
    }
    let spreading = [
        (MountFlags::MS_SHARED, Spreading::Shared),
        (MountFlags::MS_PRIVATE, Spreading::Private),
        (MountFlags::MS_SLAVE, Spreading::Slave),
        (MountFlags::MS_UNBINDABLE, Spreading::Unbindable),
    ];
    let mut chosen = spreading.iter().filter(|(flag, _)| flags.contains(*flag));
    if let Some((flag, spreading)) = chosen.next() {
        let allowed = *flag | MountFlags::MS_REC | MountFlags::MS_SILENT;
        if chosen.next().is_some() || !allowed.contains(flags) || !place.is_mount_root() {
            return Err(Errno::EINVAL.here().into());
        }
        propagation::set_spreading(&namespace, &place.mount, *spreading, recursive);
        return Ok(0);
    }
    if flags.contains(MountFlags::MS_MOVE) {
        let what = source_place(ctx, source.as_deref())?;
        mounting::move_mount(&namespace, &what, &place)?;
        return Ok(0);
    }
    if kind.is_empty() {
        return Err(Errno::EINVAL.here().into());
    }
    let fs = (ctx.kernel().fs.registry.file_system(&kind)?.make)(ctx.kernel(), &data)?;
    let read_only = flags.contains(MountFlags::MS_RDONLY);
    let source = source.filter(|s| !s.is_empty()).unwrap_or_else(|| b"none".to_vec());
    let options = options_of(flags) - MountOptions::READ_ONLY;
    let super_block = SuperBlock::new(&ctx.kernel().vfs, fs, read_only);
    mounting::mount(&namespace, super_block, source, options, &place)?;
    Ok(0)
}

fn source_place(ctx: &TaskContext, source: Option<&[u8]>) -> Result<Place, Errno> {
    let source = source.filter(|s| !s.is_empty()).ok_or_else(|| Errno::EINVAL.here())?;
    Ok(find_path_at(ctx, AT_FDCWD, source, true, false)?.path_or(Errno::EINVAL)?.clone())
}

/// The option string: at most a page, up to a zero byte or the end of memory.
fn read_data(ctx: &TaskContext, data: PtrIn) -> Result<String, Errno> {
    if data.is_null() {
        return Ok(String::new());
    }
    let mut bytes = vec![0; 4095];
    let got = ctx.mm().read_partial(data.0, &mut bytes);
    if got == 0 {
        return Err(Errno::EFAULT.here());
    }
    bytes.truncate(got);
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(got);
    bytes.truncate(end);
    String::from_utf8(bytes).map_err(|_| Errno::EINVAL.here())
}

fn remount(place: &Place, flags: MountFlags, data: &str, ctx: &TaskContext) -> SysResult {
    mounting::check_member(&ctx.fs().namespace(), &place.mount)?;
    if !place.is_mount_root() {
        return Err(Errno::EINVAL.here().into());
    }
    let mount = &place.mount;
    let atime = MountOptions::RELATIVE_ATIME | MountOptions::NO_ATIME | MountOptions::NO_DIRECTORY_ATIME;
    let mut options = options_of(flags);
    let says_atime =
        MountFlags::MS_NOATIME | MountFlags::MS_NODIRATIME | MountFlags::MS_RELATIME | MountFlags::MS_STRICTATIME;
    if !flags.intersects(says_atime) {
        options = (options - atime) | (mount.options() & atime);
    }
    if flags.contains(MountFlags::MS_BIND) {
        mount.set_options(options)?;
        return Ok(0);
    }
    mount.fs().reconfigure(data)?;
    mount.super_block.set_read_only(flags.contains(MountFlags::MS_RDONLY))?;
    mount.set_options(options - MountOptions::READ_ONLY)?;
    Ok(0)
}

/// umount2(2).
pub(crate) fn umount2(ctx: &mut TaskContext, target: Path, flags: UmountFlags) -> SysResult {
    let others = UmountFlags::MNT_FORCE | UmountFlags::MNT_DETACH;
    if UmountFlags::from_bits(flags.bits()).is_none()
        || (flags.contains(UmountFlags::MNT_EXPIRE) && flags.intersects(others))
    {
        return Err(Errno::EINVAL.here().into());
    }
    let follow = !flags.contains(UmountFlags::UMOUNT_NOFOLLOW);
    let path = ctx.read_path(target.0)?;
    let place = scope_at(ctx, &ctx.credentials(), AT_FDCWD, &path)?.resolve_mount(&path, follow)?;
    check_admin(ctx)?;
    if !place.is_mount_root() {
        return Err(Errno::EINVAL.here().into());
    }
    let mount = place.mount.clone();
    drop(place);
    mounting::check_member(&ctx.fs().namespace(), &mount)?;
    let lazily = flags.contains(UmountFlags::MNT_DETACH);
    let expires = flags.contains(UmountFlags::MNT_EXPIRE);
    if !lazily && Arc::ptr_eq(&ctx.fs().root().mount, &mount) {
        // The caller's root cannot be unmounted; as on Linux, it becomes read-only instead.
        return if expires {
            Err(Errno::EINVAL.here().into())
        } else {
            Ok(mount.super_block.set_read_only(true).map(|()| 0)?)
        };
    }
    if expires {
        if mount.is_busy(1) {
            return Err(Errno::EBUSY.here().into());
        }
        if !mount.expire() {
            return Err(Errno::EAGAIN.here().into());
        }
    }
    mounting::unmount(&ctx.fs().namespace(), &mount, lazily, 1)?;
    Ok(0)
}

/// pivot_root(2).
pub(crate) fn pivot_root(ctx: &mut TaskContext, new_root: Path, put_old: Path) -> SysResult {
    check_admin(ctx)?;
    let new = place_of(ctx, new_root, true)?;
    let old = place_of(ctx, put_old, true)?;
    if !new.dentry.is_directory() || !old.dentry.is_directory() {
        return Err(Errno::ENOTDIR.here().into());
    }
    let root = ctx.fs().root();
    let contexts: Vec<_> = {
        let tasks: Vec<Arc<crate::task::Task>> = ctx.kernel().processes.lock().tasks().cloned().collect();
        tasks.iter().map(|task| task.fs()).collect()
    };
    mounting::pivot(&ctx.fs().namespace(), &root, &new, &old, &contexts)?;
    Ok(0)
}
