//! Opening files: from a path to an open file description.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::{OpenFlags, ResolveFlags};
use amber_abi::stat::FileType;

use crate::error::SysError;
use crate::vfs::access::{self, Access};
use crate::vfs::namei::Creation;
use crate::vfs::notify::{self, mask};
use crate::vfs::text_busy::FileUse;
use crate::vfs::walk::{Last, Scope, Walk};
use crate::vfs::{Caller, Dentry, File, FileDescription, Inode, MountOptions, Path};

/// The parameters of open(2).
#[derive(Clone, Copy)]
pub(crate) struct How {
    /// Flags of open(2), checked by the caller.
    pub flags: OpenFlags,
    /// The mode of a file that is created.
    pub permissions: u16,
}

/// Flags that the description does not keep.
const TRANSIENT: OpenFlags = OpenFlags::O_CREAT
    .union(OpenFlags::O_EXCL)
    .union(OpenFlags::O_NOCTTY)
    .union(OpenFlags::O_TRUNC)
    .union(OpenFlags::O_CLOEXEC);

/// `O_TMPFILE` without the `O_DIRECTORY` that is part of it.
const UNNAMED: OpenFlags = OpenFlags::O_TMPFILE.difference(OpenFlags::O_DIRECTORY);

/// A file opened with `O_PATH`. The calls on descriptors refuse every operation on it.
struct PathOnly {
    inode: Arc<dyn Inode>,
}

impl File for PathOnly {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens a path, creating the file if requested.
///
/// # Errors
/// Errors of open(2); a restart if a signal arrives while opening a fifo or terminal waits.
pub(crate) fn open(
    caller: &dyn Caller,
    scope: &Scope<'_>,
    path: &[u8],
    how: How,
) -> Result<Arc<FileDescription>, SysError> {
    let flags = how.flags;
    let follow = !flags.contains(OpenFlags::O_NOFOLLOW);
    if flags.contains(OpenFlags::O_PATH) {
        return open_path_only(scope.resolve(path, follow)?, flags);
    }
    if scope.resolve.contains(ResolveFlags::RESOLVE_CACHED)
        && (flags.intersects(OpenFlags::O_CREAT | OpenFlags::O_TRUNC) || flags.contains(OpenFlags::O_TMPFILE))
    {
        return Err(Errno::EAGAIN.here().into());
    }
    if flags.contains(UNNAMED) {
        return open_unnamed(caller, scope, path, how);
    }
    if flags.contains(OpenFlags::O_CREAT) {
        return open_or_make(caller, scope, path, how, follow);
    }
    open_found(caller, scope, scope.resolve(path, follow)?, flags, false)
}

/// The description of a place for `O_PATH`.
pub(crate) fn open_path_only(path: Path, flags: OpenFlags) -> Result<Arc<FileDescription>, SysError> {
    let kept = OpenFlags::O_PATH | OpenFlags::O_DIRECTORY | OpenFlags::O_NOFOLLOW;
    if flags.contains(OpenFlags::O_DIRECTORY) && !path.dentry.is_directory() {
        return Err(Errno::ENOTDIR.here().into());
    }
    let file = Arc::new(PathOnly { inode: path.inode()?.clone() });
    Ok(FileDescription::new(&path.dentry.vfs().clone(), file, Some(path), flags & kept))
}

fn open_unnamed(
    caller: &dyn Caller,
    scope: &Scope<'_>,
    path: &[u8],
    how: How,
) -> Result<Arc<FileDescription>, SysError> {
    let directory = scope.resolve(path, true)?;
    if !directory.dentry.is_directory() {
        return Err(Errno::ENOTDIR.here().into());
    }
    let writer = directory.mount.begin_writing()?;
    access::check_path(scope.credentials, &directory, Access::WRITE | Access::EXECUTE)?;
    let parent = directory.inode()?;
    let creation = Creation::plain(FileType::Regular, how.permissions, caller.fs().umask());
    let new = creation.inode_in(scope.credentials, &**parent)?;
    let inode = parent.create_unnamed(&new, !how.flags.contains(OpenFlags::O_EXCL))?;
    let name = format!("#{}", inode.metadata()?.number);
    let dentry = Dentry::unnamed(directory.dentry.vfs(), inode.clone(), name.as_bytes());
    let path = Path { mount: directory.mount, dentry };
    let file = inode.open(how.flags)?;
    let description = finish(file, path, how.flags);
    description.hold(None, Some(writer));
    Ok(description)
}

fn open_or_make(
    caller: &dyn Caller,
    scope: &Scope<'_>,
    path: &[u8],
    how: How,
    follow: bool,
) -> Result<Arc<FileDescription>, SysError> {
    let exclusive = how.flags.contains(OpenFlags::O_EXCL);
    let mut walk = Walk::new(scope, path)?;
    loop {
        walk.advance_to_last()?;
        let Last::Name(name) = walk.last().clone() else {
            walk.enter_last(true)?;
            return Err(if exclusive { Errno::EEXIST.here() } else { Errno::EISDIR.here() }.into());
        };
        if walk.has_trailing_slash() {
            return Err(Errno::EISDIR.here().into());
        }
        let directory = walk.directory().clone();
        let found = walk.look_up(&name)?;
        let (found, made) =
            if found.is_negative() { make(caller, scope, &directory, &name, how)? } else { (found, false) };
        if made {
            notify::entry(&directory.dentry, &found, &name, mask::IN_CREATE);
            let path = Path { mount: directory.mount, dentry: found };
            return open_found(caller, scope, path, how.flags, true);
        }
        if exclusive {
            return Err(Errno::EEXIST.here().into());
        }
        if walk.enter_found(found, follow)? {
            let place = walk.finish()?;
            let kind = place.inode()?.kind();
            if kind != FileType::Directory && kind != FileType::Symlink {
                let (parent, owner) = (directory.inode()?.settled_ownership()?, place.inode()?.ownership()?.uid);
                access::check_create_existing(scope.credentials, &caller.kernel().tunables, parent, kind, owner)?;
            }
            return open_found(caller, scope, place, how.flags, false);
        }
    }
}

/// Creates a regular file unless another thread has created it. Returns the file, and whether it was created.
fn make(
    caller: &dyn Caller,
    scope: &Scope<'_>,
    directory: &Path,
    name: &[u8],
    how: How,
) -> Result<(Arc<Dentry>, bool), Errno> {
    let parent = directory.inode()?.clone();
    // Linux has a different errno here than for mkdir(2).
    parent.may_modify_entry(name, true).map_err(|e| if e == Errno::EPERM { Errno::EACCES.here() } else { e })?;
    let creation = Creation::plain(FileType::Regular, how.permissions, caller.fs().umask());
    let made = {
        let mut children = directory.dentry.lock_children(false);
        let (found, _) = directory.dentry.lookup_locked(&mut children, name)?;
        if !found.is_negative() {
            return Ok((found, false));
        }
        directory.mount.check_writable()?;
        access::check_create(scope.credentials, directory)?;
        let inode = parent.create(name, &creation.inode_in(scope.credentials, &*parent)?)?;
        directory.dentry.add_locked(&mut children, name, Some(inode))
    };
    made.use_it(true);
    Ok((made, true))
}

/// Opens the result of a walk. A file just created is opened regardless of its mode.
fn open_found(
    caller: &dyn Caller,
    scope: &Scope<'_>,
    path: Path,
    flags: OpenFlags,
    made: bool,
) -> Result<Arc<FileDescription>, SysError> {
    let inode = path.inode()?.clone();
    let kind = inode.kind();
    if kind == FileType::Directory && flags.contains(OpenFlags::O_CREAT) {
        return Err(Errno::EISDIR.here().into());
    }
    if kind != FileType::Directory && flags.contains(OpenFlags::O_DIRECTORY) {
        return Err(Errno::ENOTDIR.here().into());
    }
    let stored = access::is_stored(kind);
    let truncate = flags.contains(OpenFlags::O_TRUNC) && kind == FileType::Regular && !made;
    if truncate {
        path.mount.check_writable()?;
    }
    match kind {
        FileType::Symlink => return Err(Errno::ELOOP.here().into()),
        FileType::Directory if flags.writes() || flags.contains(OpenFlags::O_TRUNC) => {
            return Err(Errno::EISDIR.here().into());
        }
        FileType::CharacterDevice | FileType::BlockDevice if path.mount.options().contains(MountOptions::NO_DEV) => {
            return Err(Errno::EACCES.here().into());
        }
        _ => {}
    }
    if !made {
        match access::check_path(scope.credentials, &path, wanted(flags, truncate)) {
            Err(Errno::EACCES) if inode.permits(caller) => {}
            answer => answer?,
        }
    }
    if flags.contains(OpenFlags::O_NOATIME) && !access::is_owner(scope.credentials, inode.ownership()?.uid) {
        return Err(Errno::EPERM.here().into());
    }
    let writer = if stored && flags.writes() { Some(path.mount.begin_writing()?) } else { None };
    let file_use = if flags.writes() { FileUse::begin(path.dentry.vfs(), &*inode, true)? } else { None };
    let file = match kind {
        FileType::Regular | FileType::Directory => inode.clone().open_as(caller, flags)?,
        _ => caller.kernel().fs.registry.open_special(caller, &path, flags)?,
    };
    if truncate {
        access::set_size(path.dentry.vfs(), scope.credentials, &*inode, 0)?;
    }
    let description = finish(file, path, flags);
    if truncate && let Some(path) = description.path() {
        notify::happened(path, mask::IN_MODIFY);
    }
    description.hold(file_use, writer);
    Ok(description)
}

fn wanted(flags: OpenFlags, truncate: bool) -> Access {
    let mut wanted = Access::empty();
    // Access mode 3 requires both permissions, though the descriptor then only supports ioctl(2).
    let both = flags.contains(OpenFlags::O_ACCMODE);
    wanted.set(Access::READ, flags.reads() || both);
    wanted.set(Access::WRITE, flags.writes() || both || truncate);
    wanted
}

fn finish(file: Arc<dyn File>, path: Path, flags: OpenFlags) -> Arc<FileDescription> {
    notify::happened(&path, mask::IN_OPEN);
    FileDescription::new(&path.dentry.vfs().clone(), file, Some(path), (flags - TRANSIENT) | OpenFlags::O_LARGEFILE)
}
