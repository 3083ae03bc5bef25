//! Changing attributes: mode, owner and times.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::open::{AT_FDCWD, AtFlags};
use amber_abi::stat::FileType;
use amber_abi::time::{Timespec, Timeval, Utimbuf};

use super::support::{Found, find_at, find_fd};
use crate::error::SysResult;
use crate::syscalls::args::{DirFd, Fd, FileMode, In, Path, PtrIn};
use crate::task::TaskContext;
use crate::vfs::access::{self, Access, Ownership, SET_GID};
use crate::vfs::notify::{self, mask};
use crate::vfs::{SetAttributes, SetTime};

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// Applies the changes that `decide` permits for the present owner and mode, atomically.
fn change(
    ctx: &TaskContext,
    found: &Found,
    decide: impl FnOnce(Ownership) -> Result<SetAttributes, Errno>,
) -> SysResult {
    found.check_writable()?;
    let inode = &*found.inode;
    let changes = ctx.kernel().vfs.change_attributes(inode, || {
        let changes = decide(inode.settled_ownership()?)?;
        // Creating and removing entries checks the directory's owner and mode under this lock.
        let access = changes.permissions.is_some() || changes.uid.is_some() || changes.gid.is_some();
        let directory = found.path.as_ref().filter(|path| access && path.dentry.is_directory());
        let _entries = directory.map(|path| path.dentry.lock_children(false));
        inode.set_attributes(&changes)?;
        Ok(changes)
    })?;
    if let Some(path) = &found.path {
        // Like Linux, report a single time by an event of its own.
        let event = match (changes.accessed, changes.modified) {
            (Some(_), None) => mask::IN_ACCESS,
            (None, Some(_)) => mask::IN_MODIFY,
            _ => mask::IN_ATTRIB,
        };
        notify::happened(path, event);
    }
    Ok(0)
}

/// chmod(2).
pub(crate) fn chmod(ctx: &mut TaskContext, path: Path, mode: FileMode) -> SysResult {
    fchmodat2(ctx, DirFd(AT_FDCWD), path, mode, AtFlags::empty())
}

/// fchmod(2).
pub(crate) fn fchmod(ctx: &mut TaskContext, fd: Fd, mode: FileMode) -> SysResult {
    let found = find_fd(ctx, fd.0)?;
    change_mode(ctx, &found, mode)
}

/// fchmodat(2), which has no flags argument.
pub(crate) fn fchmodat(ctx: &mut TaskContext, dirfd: DirFd, path: Path, mode: FileMode) -> SysResult {
    fchmodat2(ctx, dirfd, path, mode, AtFlags::empty())
}

/// fchmodat2(2).
pub(crate) fn fchmodat2(ctx: &mut TaskContext, dirfd: DirFd, path: Path, mode: FileMode, flags: AtFlags) -> SysResult {
    if !(AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH).contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let follow = !flags.contains(AtFlags::AT_SYMLINK_NOFOLLOW);
    let found = find_at(ctx, dirfd.0, path.0, follow, flags.contains(AtFlags::AT_EMPTY_PATH))?;
    change_mode(ctx, &found, mode)
}

fn change_mode(ctx: &TaskContext, found: &Found, mode: FileMode) -> SysResult {
    let credentials = ctx.credentials();
    change(ctx, found, |old| {
        if !access::is_owner(&credentials, old.uid) {
            return Err(Errno::EPERM.here());
        }
        if found.inode.kind() == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP.here());
        }
        let mut permissions = (mode.0 & 0o7777) as u16;
        if !credentials.in_group(old.gid) && !access::is_capable(&credentials, Capability::CAP_FSETID, old) {
            permissions &= !SET_GID;
        }
        Ok(SetAttributes { permissions: Some(permissions), ..SetAttributes::default() })
    })
}

/// chown(2).
pub(crate) fn chown(ctx: &mut TaskContext, path: Path, uid: u32, gid: u32) -> SysResult {
    fchownat(ctx, DirFd(AT_FDCWD), path, uid, gid, AtFlags::empty())
}

/// lchown(2).
pub(crate) fn lchown(ctx: &mut TaskContext, path: Path, uid: u32, gid: u32) -> SysResult {
    fchownat(ctx, DirFd(AT_FDCWD), path, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// fchown(2).
pub(crate) fn fchown(ctx: &mut TaskContext, fd: Fd, uid: u32, gid: u32) -> SysResult {
    let found = find_fd(ctx, fd.0)?;
    change_owner(ctx, &found, uid, gid)
}

/// fchownat(2).
pub(crate) fn fchownat(
    ctx: &mut TaskContext,
    dirfd: DirFd,
    path: Path,
    uid: u32,
    gid: u32,
    flags: AtFlags,
) -> SysResult {
    if !(AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH).contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let follow = !flags.contains(AtFlags::AT_SYMLINK_NOFOLLOW);
    let found = find_at(ctx, dirfd.0, path.0, follow, flags.contains(AtFlags::AT_EMPTY_PATH))?;
    change_owner(ctx, &found, uid, gid)
}

fn change_owner(ctx: &TaskContext, found: &Found, uid: u32, gid: u32) -> SysResult {
    let credentials = ctx.credentials();
    let given = |value: u32| (value != u32::MAX).then_some(value);
    let (uid, gid) = (given(uid), given(gid));
    change(ctx, found, |old| {
        ctx.kernel().id_maps.check_owner(uid, gid)?;
        let privileged = access::is_capable(&credentials, Capability::CAP_CHOWN, old);
        let own = credentials.fsuid == old.uid;
        if uid.is_some_and(|uid| !(privileged || own && uid == old.uid))
            || gid.is_some_and(|gid| !(privileged || own && (gid == old.gid || credentials.in_group(gid))))
        {
            return Err(Errno::EPERM.here());
        }
        let mut changes = SetAttributes { uid, gid, ..SetAttributes::default() };
        if found.inode.kind() != FileType::Directory {
            changes.permissions = access::without_set_id(&credentials, old);
            if changes.permissions.is_some() && !access::is_owner(&credentials, old.uid) {
                return Err(Errno::EPERM.here());
            }
            access::drop_capabilities(&*found.inode)?;
        }
        Ok(changes)
    })
}

/// utime(2).
pub(crate) fn utime(ctx: &mut TaskContext, path: Path, times: PtrIn) -> SysResult {
    let times = if times.is_null() {
        None
    } else {
        let times: Utimbuf = ctx.read_object(times.0)?;
        let at = |seconds| SetTime::To(Timespec { tv_sec: seconds, tv_nsec: 0 });
        Some([Some(at(times.actime)), Some(at(times.modtime))])
    };
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    change_times(ctx, &found, times)
}

/// utimes(2).
pub(crate) fn utimes(ctx: &mut TaskContext, path: Path, times: In<[Timeval; 2]>) -> SysResult {
    futimesat(ctx, DirFd(AT_FDCWD), path, times)
}

/// futimesat(2). A NULL path means the file of the descriptor.
pub(crate) fn futimesat(ctx: &mut TaskContext, dirfd: DirFd, path: Path, times: In<[Timeval; 2]>) -> SysResult {
    let times = if times.0 == 0 {
        None
    } else {
        let times: [Timeval; 2] = ctx.read_object(times.0)?;
        if times.iter().any(|t| !(0..1_000_000).contains(&t.tv_usec)) {
            return Err(Errno::EINVAL.here().into());
        }
        Some(times.map(|t| Some(SetTime::To(Timespec { tv_sec: t.tv_sec, tv_nsec: t.tv_usec * 1000 }))))
    };
    let found = if path.is_null() { find_fd(ctx, dirfd.0)? } else { find_at(ctx, dirfd.0, path.0, true, false)? };
    change_times(ctx, &found, times)
}

/// utimensat(2).
pub(crate) fn utimensat(
    ctx: &mut TaskContext,
    dirfd: DirFd,
    path: Path,
    times: In<[Timespec; 2]>,
    flags: AtFlags,
) -> SysResult {
    let times = if times.0 == 0 {
        None
    } else {
        let times: [Timespec; 2] = ctx.read_object(times.0)?;
        if times.iter().all(|t| t.tv_nsec == UTIME_OMIT) {
            return Ok(0);
        }
        let mut set = [None; 2];
        for (set, time) in set.iter_mut().zip(times) {
            *set = match time.tv_nsec {
                UTIME_OMIT => None,
                UTIME_NOW => Some(SetTime::Now),
                0..=999_999_999 => Some(SetTime::To(time)),
                _ => return Err(Errno::EINVAL.here().into()),
            };
        }
        Some(set)
    };
    if !(AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH).contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let found = if path.is_null() && dirfd.0 != AT_FDCWD {
        if !flags.is_empty() {
            return Err(Errno::EINVAL.here().into());
        }
        find_fd(ctx, dirfd.0)?
    } else {
        let follow = !flags.contains(AtFlags::AT_SYMLINK_NOFOLLOW);
        find_at(ctx, dirfd.0, path.0, follow, flags.contains(AtFlags::AT_EMPTY_PATH))?
    };
    change_times(ctx, &found, times)
}

/// Sets access and modification time. None for both means the current time, for which write permission suffices.
fn change_times(ctx: &TaskContext, found: &Found, times: Option<[Option<SetTime>; 2]>) -> SysResult {
    let credentials = ctx.credentials();
    let [accessed, modified] = times.unwrap_or([Some(SetTime::Now); 2]);
    change(ctx, found, |old| {
        if !access::is_owner(&credentials, old.uid) {
            let both_now = accessed == Some(SetTime::Now) && modified == Some(SetTime::Now);
            if !both_now {
                return Err(Errno::EPERM.here());
            }
            access::check_owned(&credentials, &*found.inode, old, Access::WRITE)?;
        }
        Ok(SetAttributes { accessed, modified, ..SetAttributes::default() })
    })
}
