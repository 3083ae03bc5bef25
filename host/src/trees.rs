//! The roots of host file trees, opened before the host's file system becomes unreachable.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use amber_abi::errno::Errno;

use crate::fs::{self, Found, Result};
use crate::reader::TreeFile;

/// The root of a tree.
#[derive(Debug)]
pub enum Start {
    /// A directory and everything beneath it.
    Directory(OwnedFd),
    /// A single file: its directory and its name.
    File(OwnedFd, Box<[u8]>),
    /// A file or directory on a file system that the host's kernel generates. The reader process accesses it.
    Read(TreeFile),
    /// A tree whose contents are hidden.
    Sealed(Found),
}

/// The opened trees by the paths that the operator gave.
#[derive(Debug, Default)]
pub struct HostTrees(HashMap<PathBuf, Start>);

impl HostTrees {
    /// Adds an opened tree.
    pub fn add(&mut self, path: &Path, start: Start) {
        self.0.insert(path.to_owned(), start);
    }

    /// The root of the tree at a path: the one opened before, or else the path is opened now.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn start(&self, path: &Path) -> Result<Start> {
        match self.0.get(path) {
            Some(Start::Directory(fd)) => Ok(Start::Directory(fs::duplicate(fd.as_fd())?)),
            Some(Start::Read(file)) => Ok(Start::Read(file.clone())),
            Some(Start::Sealed(found)) => Ok(Start::Sealed(*found)),
            Some(Start::File(fd, name)) => Ok(Start::File(fs::duplicate(fd.as_fd())?, name.clone())),
            None => find(path),
        }
    }
}

/// Opens the directory or file at a path, following symbolic links.
fn find(path: &Path) -> Result<Start> {
    let fd = fs::open_root(path)?;
    if is_directory(&fd)? {
        return Ok(Start::Directory(fd));
    }
    let path = std::fs::canonicalize(path).map_err(Errno::from_host)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL.here()) };
    Ok(Start::File(fs::open_root(parent)?, name.as_bytes().into()))
}

/// Whether an open file is a directory.
///
/// # Errors
/// Those of fstat(2).
pub fn is_directory(file: &OwnedFd) -> Result<bool> {
    Ok(fs::stat(file.as_fd())?.mode & amber_abi::stat::S_IFMT == amber_abi::stat::S_IFDIR)
}

/// Whether a descriptor is the root of a tree for guests: a directory opened with `O_PATH`.
pub fn is_tree(file: BorrowedFd<'_>) -> bool {
    let is_place = fs::flags(file).is_ok_and(|flags| flags.contains(amber_abi::open::OpenFlags::O_PATH));
    is_place && fs::stat(file).is_ok_and(|stat| stat.mode & amber_abi::stat::S_IFMT == amber_abi::stat::S_IFDIR)
}

/// `/proc/self/fd`, for the few calls that need the path of an open file.
static OWN_DESCRIPTORS: OnceLock<OwnedFd> = OnceLock::new();

/// Keeps `directory`, which is `/proc/self/fd`, for the time after `/proc` has become unreachable.
pub fn keep_own_descriptors(directory: OwnedFd) {
    // A second call passes the same directory.
    let _ = OWN_DESCRIPTORS.set(directory);
}

/// A path of an open file, relative to a directory.
pub(crate) fn path_of(file: impl AsFd) -> (BorrowedFd<'static>, String) {
    let number = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    match OWN_DESCRIPTORS.get() {
        Some(directory) => (directory.as_fd(), number.to_string()),
        None => (nix::fcntl::AT_FDCWD, format!("/proc/self/fd/{number}")),
    }
}
