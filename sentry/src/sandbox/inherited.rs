//! Descriptors of the host that a process of the guest begins with.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;
use amber_host::fs as host;
use amber_host::trees::{Start, is_tree};

use crate::fs::host_stream;
use crate::fs::hostfs;
use crate::id_map::shown;
use crate::kernel::Kernel;
use crate::net::socket::SocketFile;
use crate::vfs::{FileDescription, Mount, MountOptions};

/// The status flags that stay with a socket; of other files the guest has its own.
const OF_SOCKET: OpenFlags = OpenFlags::O_ACCMODE.union(OpenFlags::O_NONBLOCK);

/// Opens a host descriptor for the guest: a tree of the host as a directory above which there is nothing, a socket as one
/// of the guest's where these are the host's, and everything else as a stream. Trees are read-only unless
/// `changes_trees`.
///
/// # Errors
/// The host cannot tell what it is or watch it; `EAFNOSUPPORT` for sockets of other families than those of internet and
/// unix.
pub(super) fn open(kernel: &Kernel, file: OwnedFd, changes_trees: bool) -> Result<Arc<FileDescription>, Errno> {
    if is_tree(file.as_fd()) {
        return directory(kernel, file, changes_trees);
    }
    let stat = host::stat(file.as_fd())?;
    if FileType::from_mode(stat.mode) == Some(FileType::Socket) {
        let file = Arc::new(file);
        let flags = host::flags(file.as_fd())? & OF_SOCKET;
        let (uid, gid) = (shown(stat.uid), shown(stat.gid));
        if let Some(socket) = kernel.network.inet.adopt(&file, uid)? {
            let socket = SocketFile::new(&kernel.vfs, socket, uid, gid);
            return Ok(FileDescription::new(&kernel.vfs, socket, None, flags));
        }
        return host_stream::open(&kernel.vfs, file, &kernel.mm.frames);
    }
    host_stream::open(&kernel.vfs, Arc::new(file), &kernel.mm.frames)
}

fn directory(kernel: &Kernel, file: OwnedFd, writable: bool) -> Result<Arc<FileDescription>, Errno> {
    let mount =
        Mount::internal(&kernel.vfs, hostfs::open(&kernel.vfs, &kernel.mm.frames, Start::Directory(file), true)?);
    let mut options = MountOptions::RELATIVE_ATIME | MountOptions::NO_SUID | MountOptions::NO_DEV;
    options.set(MountOptions::READ_ONLY, !writable);
    mount.set_options(options)?;
    let path = mount.root_path();
    let flags = OpenFlags::O_RDONLY | OpenFlags::O_DIRECTORY | OpenFlags::O_LARGEFILE;
    let opened = path.inode()?.clone().open(flags)?;
    Ok(FileDescription::new(&kernel.vfs, opened, Some(path), flags))
}
