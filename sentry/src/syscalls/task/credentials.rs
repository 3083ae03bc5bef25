//! User and group IDs of a task.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::task::NGROUPS_MAX;

use crate::credentials::Credentials;
use crate::error::SysResult;
use crate::syscalls::args::{PtrIn, PtrOut};
use crate::task::TaskContext;

/// The value for "unchanged" in calls that set several IDs.
const UNCHANGED: u32 = u32::MAX;

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $field:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(ctx: &mut TaskContext) -> SysResult {
            Ok(u64::from(ctx.credentials().$field))
        }
    )*};
}

getters! {
    /// getuid(2).
    getuid: uid;
    /// geteuid(2).
    geteuid: euid;
    /// getgid(2).
    getgid: gid;
    /// getegid(2).
    getegid: egid;
}

/// Replaces the task's credentials after a change of users, with the effects on capabilities and limits.
fn commit_users(ctx: &mut TaskContext, old: &Credentials, mut new: Credentials) -> SysResult {
    new.follow_user_change(old);
    ctx.note_process_limit(new.uid);
    ctx.commit_credentials(new);
    Ok(0)
}

/// Replaces the task's credentials after a change of groups.
fn commit_groups(ctx: &TaskContext, new: Credentials) -> SysResult {
    ctx.commit_credentials(new);
    Ok(0)
}

/// setuid(2).
pub(crate) fn setuid(ctx: &mut TaskContext, uid: u32) -> SysResult {
    ctx.kernel().id_maps.users.check(uid)?;
    let old = ctx.credentials();
    let mut new = Credentials::clone(&old);
    if old.has(Capability::CAP_SETUID) {
        (new.uid, new.suid) = (uid, uid);
    } else if uid != old.uid && uid != old.suid {
        return Err(Errno::EPERM.here().into());
    }
    (new.euid, new.fsuid) = (uid, uid);
    commit_users(ctx, &old, new)
}

/// setreuid(2).
pub(crate) fn setreuid(ctx: &mut TaskContext, ruid: u32, euid: u32) -> SysResult {
    ctx.kernel().id_maps.users.check_changes(&[ruid, euid])?;
    let old = ctx.credentials();
    let able = old.has(Capability::CAP_SETUID);
    let may_real = able || [UNCHANGED, old.uid, old.euid].contains(&ruid);
    let may_effective = able || [UNCHANGED, old.uid, old.euid, old.suid].contains(&euid);
    if !may_real || !may_effective {
        return Err(Errno::EPERM.here().into());
    }
    let mut new = Credentials::clone(&old);
    set(&mut new.uid, ruid);
    set(&mut new.euid, euid);
    if ruid != UNCHANGED || (euid != UNCHANGED && euid != old.uid) {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    commit_users(ctx, &old, new)
}

/// setresuid(2).
pub(crate) fn setresuid(ctx: &mut TaskContext, ruid: u32, euid: u32, suid: u32) -> SysResult {
    ctx.kernel().id_maps.users.check_changes(&[ruid, euid, suid])?;
    let old = ctx.credentials();
    let able = old.has(Capability::CAP_SETUID);
    if !able && [ruid, euid, suid].iter().any(|id| ![UNCHANGED, old.uid, old.euid, old.suid].contains(id)) {
        return Err(Errno::EPERM.here().into());
    }
    let mut new = Credentials::clone(&old);
    set(&mut new.uid, ruid);
    set(&mut new.euid, euid);
    set(&mut new.suid, suid);
    new.fsuid = new.euid;
    commit_users(ctx, &old, new)
}

/// setfsuid(2). Always returns the previous ID.
pub(crate) fn setfsuid(ctx: &mut TaskContext, fsuid: u32) -> SysResult {
    let old = ctx.credentials();
    let may = old.has(Capability::CAP_SETUID) || [old.uid, old.euid, old.suid, old.fsuid].contains(&fsuid);
    if may && ctx.kernel().id_maps.users.maps(fsuid) {
        let mut new = Credentials { fsuid, ..Credentials::clone(&old) };
        new.follow_file_system_user_change(&old);
        ctx.commit_credentials(new);
    }
    Ok(u64::from(old.fsuid))
}

/// setgid(2).
pub(crate) fn setgid(ctx: &mut TaskContext, gid: u32) -> SysResult {
    ctx.kernel().id_maps.groups.check(gid)?;
    let old = ctx.credentials();
    let mut new = Credentials::clone(&old);
    if old.has(Capability::CAP_SETGID) {
        (new.gid, new.sgid) = (gid, gid);
    } else if gid != old.gid && gid != old.sgid {
        return Err(Errno::EPERM.here().into());
    }
    (new.egid, new.fsgid) = (gid, gid);
    commit_groups(ctx, new)
}

/// setregid(2).
pub(crate) fn setregid(ctx: &mut TaskContext, rgid: u32, egid: u32) -> SysResult {
    ctx.kernel().id_maps.groups.check_changes(&[rgid, egid])?;
    let old = ctx.credentials();
    let able = old.has(Capability::CAP_SETGID);
    let may_real = able || [UNCHANGED, old.gid, old.egid].contains(&rgid);
    let may_effective = able || [UNCHANGED, old.gid, old.egid, old.sgid].contains(&egid);
    if !may_real || !may_effective {
        return Err(Errno::EPERM.here().into());
    }
    let mut new = Credentials::clone(&old);
    set(&mut new.gid, rgid);
    set(&mut new.egid, egid);
    if rgid != UNCHANGED || (egid != UNCHANGED && egid != old.gid) {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    commit_groups(ctx, new)
}

/// setresgid(2).
pub(crate) fn setresgid(ctx: &mut TaskContext, rgid: u32, egid: u32, sgid: u32) -> SysResult {
    ctx.kernel().id_maps.groups.check_changes(&[rgid, egid, sgid])?;
    let old = ctx.credentials();
    let able = old.has(Capability::CAP_SETGID);
    if !able && [rgid, egid, sgid].iter().any(|id| ![UNCHANGED, old.gid, old.egid, old.sgid].contains(id)) {
        return Err(Errno::EPERM.here().into());
    }
    let mut new = Credentials::clone(&old);
    set(&mut new.gid, rgid);
    set(&mut new.egid, egid);
    set(&mut new.sgid, sgid);
    new.fsgid = new.egid;
    commit_groups(ctx, new)
}

/// setfsgid(2). Always returns the previous ID.
pub(crate) fn setfsgid(ctx: &mut TaskContext, fsgid: u32) -> SysResult {
    let old = ctx.credentials();
    let may = old.has(Capability::CAP_SETGID) || [old.gid, old.egid, old.sgid, old.fsgid].contains(&fsgid);
    if may && ctx.kernel().id_maps.groups.maps(fsgid) {
        ctx.commit_credentials(Credentials { fsgid, ..Credentials::clone(&old) });
    }
    Ok(u64::from(old.fsgid))
}

fn set(place: &mut u32, value: u32) {
    if value != UNCHANGED {
        *place = value;
    }
}

fn write_three(ctx: &TaskContext, places: [PtrOut; 3], values: [u32; 3]) -> SysResult {
    for (place, value) in places.iter().zip(values) {
        ctx.write_object(place.0, &value)?;
    }
    Ok(0)
}

/// getresuid(2).
pub(crate) fn getresuid(ctx: &mut TaskContext, ruid: PtrOut, euid: PtrOut, suid: PtrOut) -> SysResult {
    let own = ctx.credentials();
    write_three(ctx, [ruid, euid, suid], [own.uid, own.euid, own.suid])
}

/// getresgid(2).
pub(crate) fn getresgid(ctx: &mut TaskContext, rgid: PtrOut, egid: PtrOut, sgid: PtrOut) -> SysResult {
    let own = ctx.credentials();
    write_three(ctx, [rgid, egid, sgid], [own.gid, own.egid, own.sgid])
}

/// getgroups(2).
pub(crate) fn getgroups(ctx: &mut TaskContext, size: i32, list: PtrOut) -> SysResult {
    let own = ctx.credentials();
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL.here())?;
    if size != 0 {
        if own.groups.len() > size {
            return Err(Errno::EINVAL.here().into());
        }
        let bytes: Vec<u8> = own.groups.iter().flat_map(|g| g.to_le_bytes()).collect();
        ctx.write_bytes(list.0, &bytes)?;
    }
    Ok(own.groups.len() as u64)
}

/// setgroups(2).
pub(crate) fn setgroups(ctx: &mut TaskContext, size: i32, list: PtrIn) -> SysResult {
    let old = ctx.credentials();
    if !old.has(Capability::CAP_SETGID) {
        return Err(Errno::EPERM.here().into());
    }
    let size = usize::try_from(size).ok().filter(|&s| s <= NGROUPS_MAX).ok_or_else(|| Errno::EINVAL.here())?;
    let mut groups: Vec<u32> = ctx.read_array(list.0, size)?;
    groups.iter().try_for_each(|&gid| ctx.kernel().id_maps.groups.check(gid))?;
    groups.sort_unstable();
    ctx.commit_credentials(Credentials { groups, ..Credentials::clone(&old) });
    Ok(0)
}
