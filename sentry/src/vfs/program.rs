//! Opening files for execution.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;

use crate::credentials::Credentials;
use crate::vfs::access::{self, Access};
use crate::vfs::text_busy::FileUse;
use crate::vfs::walk::Scope;
use crate::vfs::{FileDescription, Inode, MountOptions, Path, Vfs};

/// Opens a program or interpreter by its path.
///
/// # Errors
/// Errors of the walk and of [`open_found`].
pub(crate) fn open(scope: &Scope<'_>, path: &[u8]) -> Result<Arc<FileDescription>, Errno> {
    open_found(scope, scope.resolve(path, true)?)
}

/// Opens a program or interpreter at its place.
///
/// # Errors
/// Errors of [`open_inode`].
pub(crate) fn open_found(scope: &Scope<'_>, path: Path) -> Result<Arc<FileDescription>, Errno> {
    let inode = path.inode()?.clone();
    open_inode(scope.root.dentry.vfs(), scope.credentials, inode, Some(path))
}

/// Opens a program or interpreter, which may have no path (a memfd).
///
/// # Errors
/// `EACCES` if it is not a regular file, its mount forbids execution, or execute permission is missing; `ETXTBSY` while
/// it is open for writing.
pub(crate) fn open_inode(
    vfs: &Arc<Vfs>,
    credentials: &Credentials,
    inode: Arc<dyn Inode>,
    path: Option<Path>,
) -> Result<Arc<FileDescription>, Errno> {
    let forbidden = path.as_ref().is_some_and(|p| p.mount.options().contains(MountOptions::NO_EXEC));
    if inode.kind() != FileType::Regular || forbidden {
        return Err(Errno::EACCES.here());
    }
    access::check_now(credentials, &*inode, Access::EXECUTE)?;
    let file_use = FileUse::begin(vfs, &*inode, false)?;
    let description = FileDescription::new(vfs, inode.open(OpenFlags::O_RDONLY)?, path, OpenFlags::O_RDONLY);
    description.hold(file_use, None);
    Ok(description)
}
