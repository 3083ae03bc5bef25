//! Opening files to execute them.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;

use crate::fs::access::{self, Access};
use crate::fs::walk::Scope;
use crate::fs::{FileDescription, MountOptions, Path};

/// Opens a program or interpreter by its path.
///
/// # Errors
/// Those of the walk, and those of [`open_found`].
pub fn open(scope: &Scope<'_>, path: &[u8]) -> Result<Arc<FileDescription>, Errno> {
    open_found(scope, scope.resolve(path, true)?)
}

/// Opens a program or interpreter at its place.
///
/// # Errors
/// `EACCES` if it is no regular file, its mount forbids execution, or nobody, or not this task, may execute it.
pub fn open_found(scope: &Scope<'_>, path: Path) -> Result<Arc<FileDescription>, Errno> {
    let inode = path.inode()?.clone();
    if inode.kind() != FileType::Regular || path.mount.options().contains(MountOptions::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    access::check(scope.credentials, &*inode, Access::EXECUTE)?;
    let file = inode.open(OpenFlags::O_RDONLY)?;
    Ok(FileDescription::new(file, Some(path), OpenFlags::O_RDONLY))
}
