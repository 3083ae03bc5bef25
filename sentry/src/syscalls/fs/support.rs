//! Common parts of calls on files: look-up of paths and descriptors, and limits.

use std::sync::Arc;

use amber_abi::Signal;
use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::open::{AT_FDCWD, ResolveFlags};
use amber_abi::task::Resource;

use crate::credentials::Credentials;
use crate::task::TaskContext;
use crate::vfs::walk::{Scope, Target};
use crate::vfs::{FileDescription, Inode, Path};

/// The object of a call: an inode, and its path if there is one.
pub(crate) struct Found {
    /// The inode.
    pub inode: Arc<dyn Inode>,
    /// Its path; none for pipes, sockets and the like.
    pub path: Option<Path>,
}

impl Found {
    /// The path, if there is one.
    ///
    /// # Errors
    /// `otherwise` if there is none.
    #[track_caller]
    pub(crate) fn path_or(&self, otherwise: Errno) -> Result<&Path, Errno> {
        match &self.path {
            Some(path) => Ok(path),
            None => Err(otherwise.here()),
        }
    }

    /// Returns `EROFS` if the mount or file system is read-only.
    pub(crate) fn check_writable(&self) -> Result<(), Errno> {
        self.path.as_ref().map_or(Ok(()), |path| path.mount.check_writable())
    }
}

impl TryFrom<Path> for Found {
    type Error = Errno;

    fn try_from(path: Path) -> Result<Self, Errno> {
        Ok(Found { inode: path.inode()?.clone(), path: Some(path) })
    }
}

impl From<&FileDescription> for Found {
    fn from(description: &FileDescription) -> Self {
        Found { inode: description.file().inode(), path: description.path().cloned() }
    }
}

/// The scope of a path relative to `dirfd`.
///
/// # Errors
/// `EBADF` or `ENOTDIR` if the descriptor is needed and does not refer to a directory.
pub(crate) fn scope_at<'a>(
    ctx: &'a TaskContext,
    credentials: &'a Credentials,
    dirfd: i32,
    path: &[u8],
) -> Result<Scope<'a>, Errno> {
    restricted_scope_at(ctx, credentials, dirfd, path, ResolveFlags::empty())
}

/// Like [`scope_at`], with the restrictions of openat2(2).
pub(crate) fn restricted_scope_at<'a>(
    ctx: &'a TaskContext,
    credentials: &'a Credentials,
    dirfd: i32,
    path: &[u8],
    resolve: ResolveFlags,
) -> Result<Scope<'a>, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT.here());
    }
    let (root, cwd) = ctx.fs().root_and_cwd();
    let confined = resolve.intersects(ResolveFlags::RESOLVE_BENEATH | ResolveFlags::RESOLVE_IN_ROOT);
    let absolute = path.first() == Some(&b'/') && !confined;
    let start = if dirfd == AT_FDCWD || absolute {
        cwd
    } else {
        let description = ctx.files().get_any(dirfd)?;
        match description.path() {
            Some(path) if path.dentry.is_directory() => path.clone(),
            _ => return Err(Errno::ENOTDIR.here()),
        }
    };
    Ok(Scope { credentials, root, start, caller: Some(ctx), resolve })
}

/// Looks a path argument up. With `empty` (`AT_EMPTY_PATH`) the empty path refers to the descriptor itself.
pub(crate) fn find_at(ctx: &TaskContext, dirfd: i32, address: u64, follow: bool, empty: bool) -> Result<Found, Errno> {
    let path = if empty && address == 0 { Vec::new() } else { ctx.read_path(address)? };
    find_path_at(ctx, dirfd, &path, follow, empty)
}

/// Like [`find_at`], for a path that was read already.
pub(crate) fn find_path_at(
    ctx: &TaskContext,
    dirfd: i32,
    path: &[u8],
    follow: bool,
    empty: bool,
) -> Result<Found, Errno> {
    if path.is_empty() && empty {
        return if dirfd == AT_FDCWD {
            Found::try_from(ctx.fs().cwd())
        } else {
            Ok(Found::from(&*ctx.files().get_any(dirfd)?))
        };
    }
    let credentials = ctx.credentials();
    Found::try_from(scope_at(ctx, &credentials, dirfd, path)?.resolve(path, follow)?)
}

/// Looks up the parent of a path argument.
pub(crate) fn parent_at(ctx: &TaskContext, dirfd: i32, address: u64) -> Result<Target, Errno> {
    let path = ctx.read_path(address)?;
    let credentials = ctx.credentials();
    scope_at(ctx, &credentials, dirfd, &path)?.parent(&path)
}

/// The open file of a descriptor, for calls that do not accept `O_PATH`.
pub(crate) fn find_fd(ctx: &TaskContext, fd: i32) -> Result<Found, Errno> {
    Ok(Found::from(&*ctx.files().get(fd)?))
}

/// The maximum number of descriptors of the process (RLIMIT_NOFILE).
pub(crate) fn descriptor_limit(ctx: &TaskContext) -> u64 {
    ctx.group().limits().soft(Resource::RLIMIT_NOFILE)
}

/// Checks that one more file may be open in the sandbox (`fs.file-max`).
///
/// # Errors
/// `ENFILE`.
pub(crate) fn check_open_files(ctx: &TaskContext) -> Result<(), Errno> {
    let full = ctx.kernel().vfs.open_files.count() >= ctx.kernel().tunables.file_max.count();
    if full && !ctx.credentials().has(Capability::CAP_SYS_ADMIN) { Err(Errno::ENFILE.here()) } else { Ok(()) }
}

/// Sends the calling task a signal caused by its call.
pub(crate) fn send_signal(ctx: &TaskContext, signal: Signal) {
    ctx.task().send_kernel(signal);
}

/// The number of `len` bytes at `offset` of a regular file that the limits on its size permit. `more`: some were
/// written before.
///
/// # Errors
/// `EFBIG` if none are permitted; beyond RLIMIT_FSIZE the process also gets SIGXFSZ.
pub(crate) fn room_at(ctx: &TaskContext, offset: u64, len: u64, more: bool) -> Result<u64, Errno> {
    let limit = size_limit(ctx);
    let most = limit.min(i64::MAX as u64);
    let room = most.saturating_sub(offset).min(len);
    if room > 0 || more || len == 0 {
        return Ok(room);
    }
    if offset >= limit {
        send_signal(ctx, Signal::SIGXFSZ);
    }
    Err(Errno::EFBIG.here())
}

/// The maximum length of a file (RLIMIT_FSIZE).
pub(crate) fn size_limit(ctx: &TaskContext) -> u64 {
    ctx.group().limits().soft(Resource::RLIMIT_FSIZE)
}
