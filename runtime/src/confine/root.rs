//! An empty root, and the trees of the host that can still be reached: by their descriptors only.

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

/// What nothing of the host needs: the guest's programs never run as the host's.
pub(super) const ALWAYS: u64 = NO_SUID | NO_DEVICES | NO_EXECUTION;

/// Where the host tells of its network.
const TABLES: &str = "/proc/self/net";
/// Where it tells of parameters and is told.
const PARAMETERS: &str = "/proc/sys/net";

/// The root that shall be, on top of `/`.
pub struct NewRoot {
    /// It.
    pub directory: OwnedFd,
    /// Between the two is a mount with what was cut out of trees.
    has_heap: bool,
}

/// Opens trees as mounts of their own, those that tell of the `network` if it is used among them, and makes the root that
/// shall be. Nothing of the latter is seen before [`RootPivot::close`], since it lies on top of `/`. Parameters of the network
/// can be changed only if that is the sandbox's own.
///
/// # Errors
/// Names the tree that cannot be opened.
pub fn open(list: &[Tree], network: bool, own_network: bool) -> Result<(NewRoot, HostTrees)> {
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
        // Who misses it says so.
        if let Ok(mount) = clone(path.as_bytes()) {
            let attributes = if writable { ALWAYS } else { ALWAYS | READ_ONLY };
            restrict_if_offered(&mount, attributes, false).context(path)?;
            trees.add(Path::new(path), Start::Directory(mount));
        }
    }
    // Some hosts have no /proc; then no file without a name can get one.
    if let Ok(own) = clone(b"/proc/self/fd") {
        restrict_if_offered(&own, ALWAYS | READ_ONLY, false).context("/proc/self/fd")?;
        keep_own_descriptors(own);
    }
    let has_heap = !mixed.is_empty();
    if has_heap {
        // Not earlier: it lies on top of `/`, and would be cloned with that.
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

/// Nothing is made any more in the root that shall be.
///
/// # Errors
/// The host's.
pub fn finish(root: &OwnedFd) -> Result<()> {
    restrict_if_offered(root, READ_ONLY, false).context("making an empty root")
}

/// A mount of what is at a path of this process's `/proc`, which nobody else sees; `..` of its root is itself.
fn clone(path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// A mount of what is open, with all beneath it, likewise.
pub(super) fn clone_open(file: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(file, "", flags)
}

/// A mount of an open directory with all beneath it, of which `..` does not lead out, for a sandbox to be.
///
/// # Errors
/// `EPERM` without the right to mount.
pub fn tree(directory: &OwnedFd) -> Result<OwnedFd> {
    let mount = clone_open(directory)?;
    restrict_if_offered(&mount, ALWAYS, true)?;
    Ok(mount)
}

/// Restricts a mount where the host can.
pub(super) fn restrict_if_offered(mount: &OwnedFd, attributes: u64, all: bool) -> io::Result<()> {
    match restrict(mount.as_fd(), attributes, all) {
        // Hosts before Linux 5.12. What the guest may not write is the sentry's business anyway.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOSYS as i32) => Ok(()),
        done => done,
    }
}

/// An empty directory mounted over `/`, and over what was mounted there before, where no path leads to it.
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

/// Mounts a file system that this process serves itself as `proc` of the root that shall be, and answers the connection.
/// Only who enters the mount namespace from outside sees it.
///
/// # Errors
/// The host has no FUSE, or not for this user.
pub fn served(root: &OwnedFd) -> Result<OwnedFd> {
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

/// Mounts a single file into a directory of its own in the new root: its true directory has files the guest was not
/// given.
fn place(root: &OwnedFd, number: usize, tree: &Tree, mount: OwnedFd) -> Result<Start> {
    let (directory, name) = (number.to_string(), tree.path.file_name().context("has no name")?);
    mkdirat(root, directory.as_str(), Mode::S_IRWXU)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat(root, directory.as_str(), flags, Mode::empty())?;
    openat(&directory, name, OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::S_IRUSR)?;
    move_mount(mount.as_fd(), "", directory.as_fd(), name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(Start::File(directory, name.as_bytes().into()))
}

/// A thread that keeps the right to change mounts, which the others give up, for one last change.
pub struct RootPivot {
    root: Sender<NewRoot>,
    kept: NewRoot,
    thread: JoinHandle<io::Result<()>>,
}

impl RootPivot {
    /// Starts it, with the root that shall be.
    ///
    /// # Errors
    /// The host has no thread for it.
    pub fn start(kept: NewRoot) -> io::Result<RootPivot> {
        let (sender, root) = channel::<NewRoot>();
        let thread = thread::Builder::new().name("pivot".into()).spawn(move || {
            capabilities::keep(CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_CHROOT)?;
            match root.recv() {
                Ok(root) => change_root(&root),
                // Nobody needs the root any more.
                Err(_) => Ok(()),
            }
        })?;
        Ok(RootPivot { root: sender, kept, thread })
    }

    /// Makes the root the root of all threads, lets go of the old one, and ends.
    ///
    /// # Errors
    /// The host's.
    pub fn close(self) -> io::Result<()> {
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
            // The old root lies on top of the new one now, and the heap on that.
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
