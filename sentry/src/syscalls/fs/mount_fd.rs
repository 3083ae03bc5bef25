//! Mounts by descriptors: fsopen(2), fsconfig(2), fsmount(2), fspick(2), open_tree(2), move_mount(2), mount_setattr(2).

use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::mount::{
    FsconfigCommand, FsmountFlags, FsopenFlags, FspickFlags, MountAttr, MountAttributes, MountFlags, MoveMountFlags,
    OpenTreeFlags,
};
use amber_abi::open::{AT_FDCWD, AtFlags, OpenFlags};
use zerocopy::IntoBytes;

use super::anonymous::install;
use super::mount::check_admin;
use super::support::{check_open_files, descriptor_limit, find_at};
use crate::error::SysResult;
use crate::syscalls::args::{DirFd, Fd, Path, PtrIn, Str};
use crate::task::TaskContext;
use crate::vfs::mount_context::MountContext;
use crate::vfs::mounting;
use crate::vfs::open::open_path_only;
use crate::vfs::propagation::{self, Spreading};
use crate::vfs::{FileDescription, Mount, MountOptions, Path as Place};

/// Maximum length of a key or value of a parameter, with its zero byte.
const TEXT_MOST: usize = 256;

fn place_at(ctx: &TaskContext, dirfd: DirFd, path: Path, follow: bool, empty: bool) -> Result<Place, Errno> {
    Ok(find_at(ctx, dirfd.0, path.0, follow, empty)?.path_or(Errno::EINVAL)?.clone())
}

/// Installs an `O_PATH` descriptor for a path.
fn install_place(ctx: &TaskContext, place: Place, close_on_exec: bool) -> SysResult {
    check_open_files(ctx)?;
    let reserved = ctx.files().reserve(0, descriptor_limit(ctx))?;
    let description = open_path_only(place, OpenFlags::O_PATH)?;
    Ok(reserved.install(description, close_on_exec) as u64)
}

fn install_context(ctx: &TaskContext, context: Arc<MountContext>, close_on_exec: bool) -> SysResult {
    let flags = if close_on_exec { OpenFlags::O_CLOEXEC } else { OpenFlags::empty() };
    install(ctx, context, OpenFlags::O_RDWR, flags.bits())
}

fn context_of(description: &FileDescription) -> Result<&MountContext, Errno> {
    description.downcast().ok_or_else(|| Errno::EINVAL.here())
}

fn text(ctx: &TaskContext, address: u64) -> Result<Vec<u8>, Errno> {
    ctx.read_string(address, TEXT_MOST)
        .map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::EINVAL.here() } else { errno })
}

/// fsopen(2).
pub(crate) fn fsopen(ctx: &mut TaskContext, name: Str, flags: FsopenFlags) -> SysResult {
    check_admin(ctx)?;
    let flags = FsopenFlags::from_bits(flags.bits()).ok_or_else(|| Errno::EINVAL.here())?;
    let kind = ctx.kernel().fs.registry.file_system(&text(ctx, name.0)?)?;
    install_context(ctx, MountContext::create(&ctx.kernel().vfs, kind), flags.contains(FsopenFlags::FSOPEN_CLOEXEC))
}

/// fspick(2).
pub(crate) fn fspick(ctx: &mut TaskContext, dirfd: DirFd, path: Path, flags: FspickFlags) -> SysResult {
    check_admin(ctx)?;
    let flags = FspickFlags::from_bits(flags.bits()).ok_or_else(|| Errno::EINVAL.here())?;
    let follow = !flags.contains(FspickFlags::FSPICK_SYMLINK_NOFOLLOW);
    let place = place_at(ctx, dirfd, path, follow, flags.contains(FspickFlags::FSPICK_EMPTY_PATH))?;
    if !place.is_mount_root() {
        return Err(Errno::EINVAL.here().into());
    }
    let context = MountContext::change(place.mount.super_block.clone());
    install_context(ctx, context, flags.contains(FspickFlags::FSPICK_CLOEXEC))
}

/// fsconfig(2).
pub(crate) fn fsconfig(
    ctx: &mut TaskContext,
    fd: Fd,
    command: FsconfigCommand,
    key: Str,
    value: PtrIn,
    aux: i32,
) -> SysResult {
    if fd.0 < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let (has_key, has_value) = (!key.is_null(), !value.is_null());
    let well_formed = match command {
        FsconfigCommand::FSCONFIG_SET_FLAG => has_key && !has_value && aux == 0,
        FsconfigCommand::FSCONFIG_SET_STRING => has_key && has_value && aux == 0,
        FsconfigCommand::FSCONFIG_SET_BINARY => has_key && has_value && (1..=1 << 20).contains(&aux),
        FsconfigCommand::FSCONFIG_SET_PATH | FsconfigCommand::FSCONFIG_SET_PATH_EMPTY => {
            has_key && has_value && (aux == AT_FDCWD || aux >= 0)
        }
        FsconfigCommand::FSCONFIG_SET_FD => has_key && !has_value && aux >= 0,
        FsconfigCommand::FSCONFIG_CMD_CREATE
        | FsconfigCommand::FSCONFIG_CMD_CREATE_EXCL
        | FsconfigCommand::FSCONFIG_CMD_RECONFIGURE => !has_key && !has_value && aux == 0,
        _ => return Err(Errno::EOPNOTSUPP.here().into()),
    };
    if !well_formed {
        return Err(Errno::EINVAL.here().into());
    }
    let description = ctx.files().get(fd.0)?;
    let context = context_of(&description)?;
    match command {
        FsconfigCommand::FSCONFIG_SET_FLAG => context.set(&text(ctx, key.0)?, None)?,
        FsconfigCommand::FSCONFIG_SET_STRING => {
            let key = text(ctx, key.0)?;
            context.set(&key, Some(&text(ctx, value.0)?))?;
        }
        FsconfigCommand::FSCONFIG_CMD_CREATE | FsconfigCommand::FSCONFIG_CMD_CREATE_EXCL => {
            check_admin(ctx)?;
            context.make(ctx.kernel())?;
        }
        FsconfigCommand::FSCONFIG_CMD_RECONFIGURE => {
            check_admin(ctx)?;
            context.apply()?;
        }
        // No file system here has parameters of other types.
        _ => return Err(Errno::EINVAL.here().into()),
    }
    Ok(0)
}

/// The options for attributes; `__ATIME` is an enumeration in three bits.
fn options_of(attributes: MountAttributes) -> Result<MountOptions, Errno> {
    let mut options = MountOptions::empty();
    for (attribute, option) in [
        (MountAttributes::MOUNT_ATTR_RDONLY, MountOptions::READ_ONLY),
        (MountAttributes::MOUNT_ATTR_NOSUID, MountOptions::NO_SUID),
        (MountAttributes::MOUNT_ATTR_NODEV, MountOptions::NO_DEV),
        (MountAttributes::MOUNT_ATTR_NOEXEC, MountOptions::NO_EXEC),
        (MountAttributes::MOUNT_ATTR_NODIRATIME, MountOptions::NO_DIRECTORY_ATIME),
        (MountAttributes::MOUNT_ATTR_NOSYMFOLLOW, MountOptions::NO_SYMLINK_FOLLOW),
    ] {
        options.set(option, attributes.contains(attribute));
    }
    options |= match attributes & MountAttributes::MOUNT_ATTR__ATIME {
        none if none.is_empty() => MountOptions::RELATIVE_ATIME,
        MountAttributes::MOUNT_ATTR_NOATIME => MountOptions::NO_ATIME,
        MountAttributes::MOUNT_ATTR_STRICTATIME => MountOptions::empty(),
        _ => return Err(Errno::EINVAL.here()),
    };
    Ok(options)
}

/// fsmount(2).
pub(crate) fn fsmount(ctx: &mut TaskContext, fd: Fd, flags: FsmountFlags, attributes: MountAttributes) -> SysResult {
    check_admin(ctx)?;
    let flags = FsmountFlags::from_bits(flags.bits()).ok_or_else(|| Errno::EINVAL.here())?;
    let attributes = MountAttributes::from_bits(attributes.bits()).ok_or_else(|| Errno::EINVAL.here())?;
    if attributes.contains(MountAttributes::MOUNT_ATTR_IDMAP) {
        return Err(Errno::EINVAL.here().into());
    }
    let options = options_of(attributes)?;
    let description = ctx.files().get(fd.0)?;
    let mount = context_of(&description)?.mount(options)?;
    install_place(ctx, mount.root_path(), flags.contains(FsmountFlags::FSMOUNT_CLOEXEC))
}

/// open_tree(2).
pub(crate) fn open_tree(ctx: &mut TaskContext, dirfd: DirFd, path: Path, flags: OpenTreeFlags) -> SysResult {
    let flags = OpenTreeFlags::from_bits(flags.bits()).ok_or_else(|| Errno::EINVAL.here())?;
    let (clones, recursive) =
        (flags.contains(OpenTreeFlags::OPEN_TREE_CLONE), flags.contains(OpenTreeFlags::AT_RECURSIVE));
    if recursive && !clones {
        return Err(Errno::EINVAL.here().into());
    }
    if clones {
        check_admin(ctx)?;
    }
    let follow = !flags.contains(OpenTreeFlags::AT_SYMLINK_NOFOLLOW);
    let mut place = place_at(ctx, dirfd, path, follow, flags.contains(OpenTreeFlags::AT_EMPTY_PATH))?;
    if clones {
        place = mounting::copy_detached(&ctx.fs().namespace(), &place, recursive)?.root_path();
    }
    install_place(ctx, place, flags.contains(OpenTreeFlags::OPEN_TREE_CLOEXEC))
}

/// move_mount(2). `MOVE_MOUNT_SET_GROUP` and `MOVE_MOUNT_BENEATH` fail as in releases without them.
pub(crate) fn move_mount(
    ctx: &mut TaskContext,
    from_fd: DirFd,
    from: Path,
    to_fd: DirFd,
    to: Path,
    flags: MoveMountFlags,
) -> SysResult {
    check_admin(ctx)?;
    let younger = MoveMountFlags::MOVE_MOUNT_SET_GROUP | MoveMountFlags::MOVE_MOUNT_BENEATH;
    let flags = MoveMountFlags::from_bits(flags.bits())
        .filter(|f| !f.intersects(younger))
        .ok_or_else(|| Errno::EINVAL.here())?;
    let has = |flag| flags.contains(flag);
    let (follow, empty) = (MoveMountFlags::MOVE_MOUNT_F_SYMLINKS, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    let from = place_at(ctx, from_fd, from, has(follow), has(empty))?;
    let (follow, empty) = (MoveMountFlags::MOVE_MOUNT_T_SYMLINKS, MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);
    let to = place_at(ctx, to_fd, to, has(follow), has(empty))?;
    mounting::move_mount(&ctx.fs().namespace(), &from, &to)?;
    Ok(0)
}

/// mount_setattr(2). ID-mapped mounts need user namespaces, which are not supported.
pub(crate) fn mount_setattr(
    ctx: &mut TaskContext,
    dirfd: DirFd,
    path: Path,
    flags: AtFlags,
    attr: PtrIn,
    size: usize,
) -> SysResult {
    let known =
        AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT | AtFlags::AT_RECURSIVE;
    if !known.contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    if size > 4096 {
        return Err(Errno::E2BIG.here().into());
    }
    if size < size_of::<MountAttr>() {
        return Err(Errno::EINVAL.here().into());
    }
    check_admin(ctx)?;
    let mut bytes = vec![0; size];
    ctx.read_bytes(attr.0, &mut bytes)?;
    let (known, rest) = bytes.split_at(size_of::<MountAttr>());
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG.here().into());
    }
    let mut attr = MountAttr::default();
    attr.as_mut_bytes().copy_from_slice(known);
    if attr.attr_set == 0 && attr.attr_clr == 0 && attr.propagation == 0 {
        return Ok(0);
    }
    let spreading = spreading_of(attr.propagation)?;
    let (set, clear) = (attributes(attr.attr_set)?, attributes(attr.attr_clr)?);
    let atime = MountAttributes::MOUNT_ATTR__ATIME;
    let sets_atime = clear.contains(atime);
    if clear.intersects(atime) != sets_atime || (set.intersects(atime) && !sets_atime) {
        return Err(Errno::EINVAL.here().into());
    }
    let follow = !flags.contains(AtFlags::AT_SYMLINK_NOFOLLOW);
    let place = place_at(ctx, dirfd, path, follow, flags.contains(AtFlags::AT_EMPTY_PATH))?;
    let mount = place.mount.clone();
    let namespace = ctx.fs().namespace();
    if !place.is_mount_root() || (mount.namespace().is_some() && mounting::check_member(&namespace, &mount).is_err()) {
        return Err(Errno::EINVAL.here().into());
    }
    let recursive = flags.contains(AtFlags::AT_RECURSIVE);
    let atimes = MountOptions::RELATIVE_ATIME | MountOptions::NO_ATIME;
    let (mut cleared, mut given) = (options_of(clear - atime)? - atimes, options_of(set)?);
    if sets_atime {
        cleared |= atimes;
    } else {
        given -= atimes;
    }
    let mounts = if recursive { mount.tree() } else { vec![mount.clone()] };
    change_options(&mounts, |old| (old - cleared) | given)?;
    if let Some(spreading) = spreading {
        propagation::set_spreading(&namespace, &mount, spreading, recursive);
    }
    Ok(0)
}

fn attributes(bits: u64) -> Result<MountAttributes, Errno> {
    let known = MountAttributes::from_bits(bits).ok_or_else(|| Errno::EINVAL.here())?;
    if known.contains(MountAttributes::MOUNT_ATTR_IDMAP) { Err(Errno::EINVAL.here()) } else { Ok(known) }
}

fn spreading_of(propagation: u64) -> Result<Option<Spreading>, Errno> {
    let flag = u32::try_from(propagation).ok().and_then(|bits| MountFlags::from_bits(bits.into()));
    match flag.ok_or_else(|| Errno::EINVAL.here())? {
        none if none.is_empty() => Ok(None),
        MountFlags::MS_SHARED => Ok(Some(Spreading::Shared)),
        MountFlags::MS_PRIVATE => Ok(Some(Spreading::Private)),
        MountFlags::MS_SLAVE => Ok(Some(Spreading::Slave)),
        MountFlags::MS_UNBINDABLE => Ok(Some(Spreading::Unbindable)),
        _ => Err(Errno::EINVAL.here()),
    }
}

/// Changes the options of all mounts, or of none if one cannot be changed.
fn change_options(mounts: &[Arc<Mount>], change: impl Fn(MountOptions) -> MountOptions) -> Result<(), Errno> {
    let mut before = HashMap::new();
    for mount in mounts {
        let old = mount.options();
        if let Err(errno) = mount.set_options(change(old)) {
            for mount in mounts {
                if let Some(old) = before.remove(&mount.unique_id) {
                    // Restoring the previous options cannot fail.
                    let _ = mount.set_options(old);
                }
            }
            return Err(errno);
        }
        before.insert(mount.unique_id, old);
    }
    Ok(())
}
