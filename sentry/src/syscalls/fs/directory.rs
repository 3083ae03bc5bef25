//! Directories: listing, and the root and working directory of a process.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::open::AT_FDCWD;
use amber_abi::stat::{DIRENT_NAME, DIRENT64_NAME, DT_UNKNOWN, FileType};

use super::rw::touch;
use super::support::find_at;
use crate::error::SysResult;
use crate::syscalls::args::{Fd, FileMode, Path, PtrOut, StrOut};
use crate::task::TaskContext;
use crate::vfs::access::{self, Access};
use crate::vfs::notify::{self, mask};
use crate::vfs::{DirectoryEntry, DirectorySink, FileDescription, Inode};

/// Maximum number of bytes that one call returns.
const MOST: usize = 256 << 10;

/// Offset of a file system's own cookies, after those of `.` and `..`.
const DOTS: u64 = 2;

/// getdents64(2).
pub(crate) fn getdents64(ctx: &mut TaskContext, fd: Fd, out: PtrOut, count: u32) -> SysResult {
    list(ctx, fd, out, count, true)
}

/// getdents(2), whose entries end with their type.
pub(crate) fn getdents(ctx: &mut TaskContext, fd: Fd, out: PtrOut, count: u32) -> SysResult {
    list(ctx, fd, out, count, false)
}

/// Entries in the format of the call.
struct Entries {
    bytes: Vec<u8>,
    room: usize,
    wide: bool,
    /// The cookie after the last entry.
    next: u64,
    full: bool,
}

impl Entries {
    fn push(&mut self, name: &[u8], number: u64, kind: Option<FileType>, next: u64) -> bool {
        let header = if self.wide { DIRENT64_NAME } else { DIRENT_NAME };
        // The zero byte after the name, and in the old format the type.
        let len = (header + name.len() + if self.wide { 1 } else { 2 }).next_multiple_of(8);
        if self.bytes.len() + len > self.room {
            self.full = true;
            return false;
        }
        let kind = kind.map_or(DT_UNKNOWN, FileType::dirent);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        self.bytes.extend_from_slice(&next.to_ne_bytes());
        self.bytes.extend_from_slice(&(len as u16).to_ne_bytes());
        if self.wide {
            self.bytes.push(kind);
        }
        self.bytes.extend_from_slice(name);
        self.bytes.resize(start + len, 0);
        if !self.wide
            && let Some(last) = self.bytes.last_mut()
        {
            *last = kind;
        }
        self.next = next;
        true
    }
}

impl DirectorySink for Entries {
    fn add(&mut self, entry: DirectoryEntry<'_>) -> bool {
        self.push(entry.name, entry.number, entry.kind, entry.next.saturating_add(DOTS))
    }
}

fn list(ctx: &mut TaskContext, fd: Fd, out: PtrOut, count: u32, wide: bool) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    if description.kind() != FileType::Directory {
        return Err(Errno::ENOTDIR.here().into());
    }
    let mut position = description.position();
    let room = (count as usize).min(MOST);
    let mut entries =
        Entries { bytes: Vec::with_capacity(room.min(32 << 10)), room, wide, next: *position, full: false };
    fill(&description, *position, &mut entries)?;
    if entries.bytes.is_empty() {
        return if entries.full { Err(Errno::EINVAL.here().into()) } else { Ok(0) };
    }
    ctx.write_bytes(out.0, &entries.bytes)?;
    *position = entries.next;
    drop(position);
    if let Some(path) = description.path() {
        touch(&description, path);
        notify::happened(path, mask::IN_ACCESS);
    }
    Ok(entries.bytes.len() as u64)
}

fn fill(description: &FileDescription, from: u64, entries: &mut Entries) -> Result<(), Errno> {
    if description.path().is_some_and(|path| path.dentry.is_removed()) {
        return Err(Errno::ENOENT.here());
    }
    let kind = Some(FileType::Directory);
    if from == 0 {
        let own = description.file().inode().metadata()?.number;
        if !entries.push(b".", own, kind, 1) {
            return Ok(());
        }
    }
    if from <= 1 {
        let parent = description.path().and_then(|path| path.dentry.parent());
        let parent = match &parent {
            Some(parent) => parent.inode()?.metadata()?.number,
            None => description.file().inode().metadata()?.number,
        };
        if !entries.push(b"..", parent, kind, DOTS) {
            return Ok(());
        }
    }
    description.file().read_directory(from.saturating_sub(DOTS), entries)
}

/// getcwd(2). The length includes the zero byte.
pub(crate) fn getcwd(ctx: &mut TaskContext, buf: StrOut, size: usize) -> SysResult {
    let (root, cwd) = ctx.fs().root_and_cwd();
    if cwd.dentry.is_removed() {
        return Err(Errno::ENOENT.here().into());
    }
    let (mut text, reachable) = cwd.text(&root);
    if !reachable {
        text.splice(0..0, *b"(unreachable)");
    }
    text.push(0);
    if text.len() > size {
        return Err(Errno::ERANGE.here().into());
    }
    ctx.write_bytes(buf.0, &text)?;
    Ok(text.len() as u64)
}

/// chdir(2).
pub(crate) fn chdir(ctx: &mut TaskContext, path: Path) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    check_enterable(ctx, &*found.inode)?;
    ctx.fs().set_cwd(found.path_or(Errno::ENOTDIR)?.clone());
    Ok(0)
}

/// fchdir(2), which also takes `O_PATH` descriptors.
pub(crate) fn fchdir(ctx: &mut TaskContext, fd: Fd) -> SysResult {
    let description = ctx.files().get_any(fd.0)?;
    check_enterable(ctx, &*description.file().inode())?;
    ctx.fs().set_cwd(description.path().ok_or_else(|| Errno::ENOTDIR.here())?.clone());
    Ok(0)
}

fn check_enterable(ctx: &TaskContext, inode: &dyn Inode) -> Result<(), Errno> {
    if inode.kind() != FileType::Directory {
        return Err(Errno::ENOTDIR.here());
    }
    access::check_now(&ctx.credentials(), inode, Access::EXECUTE)
}

/// chroot(2).
pub(crate) fn chroot(ctx: &mut TaskContext, path: Path) -> SysResult {
    let found = find_at(ctx, AT_FDCWD, path.0, true, false)?;
    check_enterable(ctx, &*found.inode)?;
    if !ctx.credentials().has(Capability::CAP_SYS_CHROOT) {
        return Err(Errno::EPERM.here().into());
    }
    ctx.fs().set_root(found.path_or(Errno::ENOTDIR)?.clone());
    Ok(0)
}

/// umask(2).
pub(crate) fn umask(ctx: &mut TaskContext, mask: FileMode) -> SysResult {
    Ok(ctx.fs().set_umask((mask.0 & 0o777) as u16).into())
}
