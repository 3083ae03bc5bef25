//! Extended attributes: see xattr(7).

use amber_abi::capability::{Capability, VFS_CAP_FLAGS_EFFECTIVE, VFS_CAP_REVISION_2, VFS_CAP_REVISION_3};
use amber_abi::errno::Errno;
use amber_abi::open::AT_FDCWD;
use amber_abi::stat::FileType;
use amber_abi::xattr::{XATTR_CAPABILITY, XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_SIZE_MAX, XattrFlags};

use super::support::{Found, find_at, find_fd};
use crate::error::SysResult;
use crate::syscalls::args::{BufIn, BufOut, Fd, Path, Str};
use crate::task::TaskContext;
use crate::vfs::access::{self, Access, STICKY};
use crate::vfs::notify::{self, mask};

/// setxattr(2).
pub(crate) fn setxattr(
    ctx: &mut TaskContext,
    path: Path,
    name: Str,
    value: BufIn,
    size: usize,
    flags: XattrFlags,
) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    set(ctx, &found, name, value, size, flags)
}

/// lsetxattr(2).
pub(crate) fn lsetxattr(
    ctx: &mut TaskContext,
    path: Path,
    name: Str,
    value: BufIn,
    size: usize,
    flags: XattrFlags,
) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, false, false)?;
    set(ctx, &found, name, value, size, flags)
}

/// fsetxattr(2).
pub(crate) fn fsetxattr(
    ctx: &mut TaskContext,
    fd: Fd,
    name: Str,
    value: BufIn,
    size: usize,
    flags: XattrFlags,
) -> SysResult {
    let found = find_fd(ctx, fd.0)?;
    set(ctx, &found, name, value, size, flags)
}

/// getxattr(2).
pub(crate) fn getxattr(ctx: &mut TaskContext, path: Path, name: Str, value: BufOut, size: usize) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    get(ctx, &found, name, value, size)
}

/// lgetxattr(2).
pub(crate) fn lgetxattr(ctx: &mut TaskContext, path: Path, name: Str, value: BufOut, size: usize) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, false, false)?;
    get(ctx, &found, name, value, size)
}

/// fgetxattr(2).
pub(crate) fn fgetxattr(ctx: &mut TaskContext, fd: Fd, name: Str, value: BufOut, size: usize) -> SysResult {
    let found = find_fd(ctx, fd.0)?;
    get(ctx, &found, name, value, size)
}

/// listxattr(2).
pub(crate) fn listxattr(ctx: &mut TaskContext, path: Path, list: BufOut, size: usize) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    write_names(ctx, &found, list, size)
}

/// llistxattr(2).
pub(crate) fn llistxattr(ctx: &mut TaskContext, path: Path, list: BufOut, size: usize) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, false, false)?;
    write_names(ctx, &found, list, size)
}

/// flistxattr(2).
pub(crate) fn flistxattr(ctx: &mut TaskContext, fd: Fd, list: BufOut, size: usize) -> SysResult {
    let found = find_fd(ctx, fd.0)?;
    write_names(ctx, &found, list, size)
}

/// removexattr(2).
pub(crate) fn removexattr(ctx: &mut TaskContext, path: Path, name: Str) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    remove(ctx, &found, name)
}

/// lremovexattr(2).
pub(crate) fn lremovexattr(ctx: &mut TaskContext, path: Path, name: Str) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, false, false)?;
    remove(ctx, &found, name)
}

/// fremovexattr(2).
pub(crate) fn fremovexattr(ctx: &mut TaskContext, fd: Fd, name: Str) -> SysResult {
    let found = find_fd(ctx, fd.0)?;
    remove(ctx, &found, name)
}

fn read_name(ctx: &TaskContext, name: Str) -> Result<Vec<u8>, Errno> {
    match ctx.read_string(name.0, XATTR_NAME_MAX + 1) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE.here()),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE.here()),
        answer => answer,
    }
}

/// Whether the bytes are a capability attribute in one of the formats that can still be written.
fn is_capability(bytes: &[u8]) -> bool {
    let magic = bytes.first_chunk().map(|magic| u32::from_le_bytes(*magic) & !VFS_CAP_FLAGS_EFFECTIVE);
    matches!((magic, bytes.len()), (Some(VFS_CAP_REVISION_2), 20) | (Some(VFS_CAP_REVISION_3), 24))
}

/// Checks that the caller may read, or with `writing` change, an attribute of this name.
fn check(ctx: &TaskContext, found: &Found, name: &[u8], writing: bool) -> Result<(), Errno> {
    let credentials = ctx.credentials();
    if writing {
        found.check_writable()?;
    }
    if matches!(name, b"user." | b"trusted." | b"security.") {
        return Err(Errno::EINVAL.here());
    }
    if name.starts_with(b"system.") {
        // ACLs are neither shown nor set, although those of host files are evaluated.
        return Err(Errno::EOPNOTSUPP.here());
    }
    if name.starts_with(b"security.") {
        // File capabilities need CAP_SETFCAP: CAP_SYS_ADMIN does not suffice to grant them.
        let allowed = !writing
            || if name == XATTR_CAPABILITY {
                access::is_capable(&credentials, Capability::CAP_SETFCAP, found.inode.settled_ownership()?)
            } else {
                credentials.has(Capability::CAP_SYS_ADMIN)
            };
        return if allowed { Ok(()) } else { Err(Errno::EPERM.here()) };
    }
    if name.starts_with(b"trusted.") {
        let denied = || if writing { Errno::EPERM.here() } else { Errno::ENODATA.here() };
        return if credentials.has(Capability::CAP_SYS_ADMIN) { Ok(()) } else { Err(denied()) };
    }
    if !name.starts_with(b"user.") {
        return Err(Errno::EOPNOTSUPP.here());
    }
    let kind = found.inode.kind();
    if !matches!(kind, FileType::Regular | FileType::Directory) {
        return Err(if writing { Errno::EPERM.here() } else { Errno::ENODATA.here() });
    }
    let ownership = found.inode.settled_ownership()?;
    if writing
        && kind == FileType::Directory
        && ownership.permissions & STICKY != 0
        && !access::is_owner(&credentials, ownership.uid)
    {
        return Err(Errno::EPERM.here());
    }
    let wanted = if writing { Access::WRITE } else { Access::READ };
    access::check_owned(&credentials, &*found.inode, ownership, wanted)
}

fn note(found: &Found) {
    if let Some(path) = &found.path {
        notify::happened(path, mask::IN_ATTRIB);
    }
}

fn set(ctx: &TaskContext, found: &Found, name: Str, value: BufIn, size: usize, flags: XattrFlags) -> SysResult {
    let flags = XattrFlags::from_bits(flags.bits()).ok_or_else(|| Errno::EINVAL.here())?;
    let name = read_name(ctx, name)?;
    if size > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG.here().into());
    }
    let mut bytes = ctx.buffer(size)?;
    ctx.read_bytes(value.0, &mut bytes)?;
    if name == XATTR_CAPABILITY && !is_capability(&bytes) {
        return Err(Errno::EINVAL.here().into());
    }
    let (create, replace) = (flags.contains(XattrFlags::XATTR_CREATE), flags.contains(XattrFlags::XATTR_REPLACE));
    ctx.kernel().vfs.change_attributes(&*found.inode, || {
        check(ctx, found, &name, true)?;
        found.inode.set_xattr(&name, &bytes, create, replace)
    })?;
    note(found);
    Ok(0)
}

fn get(ctx: &TaskContext, found: &Found, name: Str, out: BufOut, size: usize) -> SysResult {
    let name = read_name(ctx, name)?;
    check(ctx, found, &name, false)?;
    let value = found.inode.xattr(&name)?;
    give(ctx, &value, out, size)
}

fn give(ctx: &TaskContext, bytes: &[u8], out: BufOut, size: usize) -> SysResult {
    if size > 0 {
        if bytes.len() > size {
            return Err(Errno::ERANGE.here().into());
        }
        ctx.write_bytes(out.0, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn write_names(ctx: &TaskContext, found: &Found, out: BufOut, size: usize) -> SysResult {
    let trusted = ctx.credentials().has(Capability::CAP_SYS_ADMIN);
    let mut list = Vec::new();
    found.inode.xattrs(&mut |name| {
        let shown = (trusted || !name.starts_with(b"trusted.")) && !name.starts_with(b"system.");
        // Longer lists are refused below.
        if list.len() <= XATTR_LIST_MAX && shown {
            list.extend_from_slice(name);
            list.push(0);
        }
    })?;
    if list.len() > XATTR_LIST_MAX {
        return Err(Errno::E2BIG.here().into());
    }
    give(ctx, &list, out, size)
}

fn remove(ctx: &TaskContext, found: &Found, name: Str) -> SysResult {
    let name = read_name(ctx, name)?;
    ctx.kernel().vfs.change_attributes(&*found.inode, || {
        check(ctx, found, &name, true)?;
        found.inode.remove_xattr(&name)
    })?;
    note(found);
    Ok(0)
}
