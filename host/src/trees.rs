//! Where trees of the host begin, opened before the host's files go out of sight.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use amber_abi::errno::Errno;

use crate::fs::{self, Found, Result};
use crate::reader::TreeFile;

/// What a tree is.
#[derive(Debug)]
pub enum Start {
    /// A directory with all beneath it.
    Directory(OwnedFd),
    /// A single file: its directory and its name.
    File(OwnedFd, Box<[u8]>),
    /// A file or directory on a file system that the host's kernel makes up, which another process reads.
    Read(TreeFile),
    /// One of which nothing is shown.
    Sealed(Found),
}

/// Trees by the paths the operator gave.
#[derive(Debug, Default)]
pub struct HostTrees(HashMap<PathBuf, Start>);

impl HostTrees {
    /// Notes an opened tree.
    pub fn add(&mut self, path: &Path, start: Start) {
        self.0.insert(path.to_owned(), start);
    }

    /// Where the tree at a path begins: as it was opened beforehand, else as it is found now.
    ///
    /// # Errors
    /// The host's.
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

/// Opens the directory or file at a path, symbolic links and all.
fn find(path: &Path) -> Result<Start> {
    let fd = fs::open_root(path)?;
    if is_directory(&fd)? {
        return Ok(Start::Directory(fd));
    }
    let path = std::fs::canonicalize(path).map_err(Errno::from_host)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    Ok(Start::File(fs::open_root(parent)?, name.as_bytes().into()))
}

/// Whether an open file is a directory.
///
/// # Errors
/// The host's.
pub fn is_directory(file: &OwnedFd) -> Result<bool> {
    Ok(fs::stat(file.as_fd())?.mode & amber_abi::stat::S_IFMT == amber_abi::stat::S_IFDIR)
}

/// Whether a descriptor is a directory with all beneath it, which was prepared for the guest to name what is there: such a
/// one is a place only (`O_PATH`).
pub fn is_tree(file: BorrowedFd<'_>) -> bool {
    let is_place = fs::flags(file).is_ok_and(|flags| flags.contains(amber_abi::open::OpenFlags::O_PATH));
    is_place && fs::stat(file).is_ok_and(|stat| stat.mode & amber_abi::stat::S_IFMT == amber_abi::stat::S_IFDIR)
}

/// The directory of this process's own descriptors, for the few calls that name an open file by its path.
static OWN_DESCRIPTORS: OnceLock<OwnedFd> = OnceLock::new();

/// Keeps `directory`, which is `/proc/self/fd`, for when `/proc` is out of sight.
pub fn keep_own_descriptors(directory: OwnedFd) {
    // Who comes second brings the same directory.
    let _ = OWN_DESCRIPTORS.set(directory);
}

/// An open file by name: a directory, and a path from there.
pub(crate) fn path_of(file: impl AsFd) -> (BorrowedFd<'static>, String) {
    let number = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    match OWN_DESCRIPTORS.get() {
        Some(directory) => (directory.as_fd(), number.to_string()),
        None => (nix::fcntl::AT_FDCWD, format!("/proc/self/fd/{number}")),
    }
}
