//! An empty root. The host's trees remain reachable only by descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use amber_host::mounts::{NO_DEVICES, NO_EXECUTION, NO_SUID, READ_ONLY, restrict};
use amber_host::trees::{HostTrees, Start, is_directory, keep_own_descriptors};
use anyhow::{Context, Result};
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::thread::CapabilitySet;

use super::cut::{Mounts, cut};
use super::{Tree, capabilities};

/// Restrictions of all mounts: host files never run as programs of the host.
pub(super) const ALWAYS: u64 = NO_SUID | NO_DEVICES | NO_EXECUTION;

/// The host's tables of its network.
const TABLES: &str = "/proc/self/net";
/// The host's network parameters.
const PARAMETERS: &str = "/proc/sys/net";

/// The future root, mounted over `/`.
pub(super) struct NewRoot {
    /// Its directory.
    pub directory: OwnedFd,
    /// Whether a mount with the parts cut out of trees lies between the two.
    has_heap: bool,
}

/// Opens trees as mounts of their own, with those of the `network` if it is used, and makes the future root. It is
/// mounted over `/` and not visible before [`RootPivot::close`]. Network parameters are writable only if the network is
/// the sandbox's own.
///
/// # Errors
/// Names the tree that cannot be opened.
pub(super) fn open(list: &[Tree], network: bool, own_network: bool) -> Result<(NewRoot, HostTrees)> {
    let mut trees = HostTrees::default();
    let (mut files, mut mixed) = (Vec::new(), Vec::new());
    let mounts = Mounts::read()?;
    for tree in list {
        let named = || format!("host path {}", tree.path.display());
        let mount = clone_open(&tree.file).with_context(named)?;
        let attributes = if tree.writable { ALWAYS } else { ALWAYS | READ_ONLY };
        restrict_if_offered(&mount, attributes, true).with_context(named)?;
        if is_directory(&mount).with_context(named)? {
            let foreign = mounts.foreign_places(&tree.path);
            if foreign.is_empty() {
                trees.add(&tree.path, Start::Directory(mount));
            } else {
                mixed.push((tree, mount, foreign));
            }
        } else {
            files.push((tree, mount));
        }
    }
    for (path, writable) in [(TABLES, false), (PARAMETERS, own_network)].into_iter().filter(|_| network) {
        // If it is missing, its first use reports that.
        if let Ok(mount) = clone(path.as_bytes()) {
            let attributes = if writable { ALWAYS } else { ALWAYS | READ_ONLY };
            restrict_if_offered(&mount, attributes, false).context(path)?;
            trees.add(Path::new(path), Start::Directory(mount));
        }
    }
    // Without /proc on the host, an unnamed file cannot be linked.
    if let Ok(own) = clone(b"/proc/self/fd") {
        restrict_if_offered(&own, ALWAYS | READ_ONLY, false).context("/proc/self/fd")?;
        keep_own_descriptors(own);
    }
    let has_heap = !mixed.is_empty();
    if has_heap {
        // Made last: it lies on top of `/` and would be cloned with it.
        let heap = empty().context("making a place for mounts")?;
        for (number, (tree, mount, places)) in mixed.into_iter().enumerate() {
            let named = || format!("host path {}", tree.path.display());
            let whole = cut(&mount, number, &tree.path, &places, &heap).with_context(named)?;
            trees.add(&tree.path, Start::Directory(whole));
        }
    }
    let root = empty().context("making an empty root")?;
    for (number, (tree, mount)) in files.into_iter().enumerate() {
        let start = place(&root, number, tree, mount).with_context(|| format!("host path {}", tree.path.display()))?;
        trees.add(&tree.path, start);
    }
    Ok((NewRoot { directory: root, has_heap }, trees))
}

/// Makes the future root read-only.
///
/// # Errors
/// Errors of the host.
pub(super) fn finish(root: &OwnedFd) -> Result<()> {
    restrict_if_offered(root, READ_ONLY, false).context("making an empty root")
}

/// A detached mount of a path below this process's `/proc`. `..` of its root is the root itself.
fn clone(path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// Likewise of an open file, with all mounts beneath it.
pub(super) fn clone_open(file: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(file, "", flags)
}

/// A detached mount of an open directory with all mounts beneath it. `..` does not lead out of it.
///
/// # Errors
/// `EPERM` without the right to mount.
pub(crate) fn tree(directory: &OwnedFd) -> Result<OwnedFd> {
    let mount = clone_open(directory)?;
    restrict_if_offered(&mount, ALWAYS, true)?;
    Ok(mount)
}

/// Restricts a mount if the host supports it.
pub(super) fn restrict_if_offered(mount: &OwnedFd, attributes: u64, all: bool) -> io::Result<()> {
    match restrict(mount.as_fd(), attributes, all) {
        // Hosts before Linux 5.12. The sentry enforces what the guest may write in any case.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOSYS as i32) => Ok(()),
        done => done,
    }
}

/// An empty directory mounted over `/` and over earlier mounts there, where no path leads to it.
fn empty() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0755")?;
    fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(root.as_fd(), "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(root)
}

/// Mounts a file system that this process serves as `proc` of the future root, and returns the FUSE connection. Only
/// processes that enter the mount namespace from outside see it.
///
/// # Errors
/// The host has no FUSE, or not for this user.
pub(super) fn served(root: &OwnedFd) -> Result<OwnedFd> {
    let connection = File::options().read(true).write(true).open("/dev/fuse").context("/dev/fuse")?;
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let number = connection.as_raw_fd().to_string();
    for (name, value) in [("fd", number.as_str()), ("rootmode", "40000"), ("user_id", "0"), ("group_id", "0")] {
        fsconfig_set_string(context.as_fd(), name, value)?;
    }
    fsconfig_set_flag(context.as_fd(), "allow_other")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    mkdirat(root, "proc", Mode::S_IRWXU)?;
    move_mount(mount.as_fd(), "", root, "proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(connection.into())
}

/// Mounts a single file into a directory of its own in the new root, since its real directory has files that the guest
/// was not given.
fn place(root: &OwnedFd, number: usize, tree: &Tree, mount: OwnedFd) -> Result<Start> {
    let (directory, name) = (number.to_string(), tree.path.file_name().context("has no name")?);
    mkdirat(root, directory.as_str(), Mode::S_IRWXU)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat(root, directory.as_str(), flags, Mode::empty())?;
    openat(&directory, name, OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::S_IRUSR)?;
    move_mount(mount.as_fd(), "", directory.as_fd(), name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(Start::File(directory, name.as_bytes().into()))
}

/// A thread that keeps the right to change mounts for one last change, while other threads drop it.
pub(super) struct RootPivot {
    root: Sender<NewRoot>,
    kept: NewRoot,
    thread: JoinHandle<io::Result<()>>,
}

impl RootPivot {
    /// Starts the thread with the future root.
    ///
    /// # Errors
    /// The host has no threads left.
    pub(super) fn start(kept: NewRoot) -> io::Result<RootPivot> {
        let (sender, root) = channel::<NewRoot>();
        let thread = thread::Builder::new().name("pivot".into()).spawn(move || {
            capabilities::keep(CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_CHROOT)?;
            match root.recv() {
                Ok(root) => change_root(&root),
                // The root is not needed any more.
                Err(_) => Ok(()),
            }
        })?;
        Ok(RootPivot { root: sender, kept, thread })
    }

    /// Makes the new root the root of all threads, detaches the old one, and ends the thread.
    ///
    /// # Errors
    /// Errors of the host.
    pub(super) fn close(self) -> io::Result<()> {
        let RootPivot { root, kept, thread } = self;
        let gone = || io::Error::other("the thread for it died");
        root.send(kept).map_err(|_| gone())?;
        thread.join().map_err(|_| gone())?
    }
}

fn change_root(root: &NewRoot) -> io::Result<()> {
    fchdir(&root.directory)?;
    match pivot_root(".", ".") {
        Ok(()) => {
            // The old root lies on top of the new one now, and the heap on the old one.
            if root.has_heap {
                umount2(".", MntFlags::MNT_DETACH)?;
            }
            umount2(".", MntFlags::MNT_DETACH)?;
        }
        // A root in the host's initramfs cannot be moved; it stays, out of reach.
        Err(nix::errno::Errno::EINVAL) => chroot(".")?,
        Err(errno) => return Err(errno.into()),
    }
    Ok(chdir("/")?)
}
