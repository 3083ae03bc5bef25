//! The unprivileged process that reads files of the host's procfs and sysfs ([`amber_host::reader`]).
//!
//! It exists only for a guest that was given such files, and has access to nothing else of the guest. It ends with the
//! sandbox's PID namespace or, without one, with its connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use amber_host::file_systems::{kernel_name, tells_of_machine};
use amber_host::fork::{Half, Kinship, fork};
use amber_host::fs::{Found, look, statfs};
use amber_host::mounts::READ_ONLY;
use amber_host::reader::{Reader, Tree as ReadTree, serve_alone};
use amber_host::trees::{HostTrees, Start};
use anyhow::{Context, Result};
use nix::sys::prctl::{set_dumpable, set_name};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Gid, Uid, chdir, chroot, fchdir, geteuid, setgroups, setresgid, setresuid};
use rustix::thread::CapabilitySet;

use super::root::{ALWAYS, clone_open, restrict_if_offered};
use super::{Tree, capabilities, filter};

/// The first of the readers' users and groups. They differ from those of sandboxes, whose stubs could trace the
/// readers.
const FIRST: u32 = 0x7800_0000;

/// A tree that begins on a kernel file system.
pub(super) struct KernelTree {
    tree: Tree,
    found: Found,
    /// Whether the guest sees any of its files.
    is_shown: bool,
}

/// Removes the trees that begin on kernel file systems from the list and returns them.
pub(super) fn take(trees: &mut Vec<Tree>) -> Vec<KernelTree> {
    let (mut taken, mut others) = (Vec::new(), Vec::new());
    for tree in trees.drain(..) {
        match of_kernel(&tree) {
            Some((found, is_shown)) => taken.push(KernelTree { tree, found, is_shown }),
            None => others.push(tree),
        }
    }
    *trees = others;
    taken
}

/// The start of such a tree, and whether the guest sees any of its files. `None` for other trees.
fn of_kernel(tree: &Tree) -> Option<(Found, bool)> {
    let (found, magic) = (look(tree.file.as_fd()).ok()?, statfs(tree.file.as_fd()).ok()?.f_type);
    kernel_name(magic)?;
    Some((found, tells_of_machine(magic, found.stat.number)))
}

/// Adds these trees to those of the sandbox. The reader gets an empty `root` and a user of its own, made from
/// `process`, the ID of this process outside. Without a root, where the host allows no namespaces, it has this
/// process's root and user. Must be called before threads are started.
///
/// # Errors
/// Names the tree that cannot be opened; the host has no processes left, or refuses to confine the reader.
pub(super) fn start(list: Vec<KernelTree>, root: Option<&OwnedFd>, process: i32, trees: &mut HostTrees) -> Result<()> {
    let (mut read, mut places) = (Vec::new(), Vec::new());
    for KernelTree { tree, found, is_shown } in list {
        if is_shown {
            let (directory, name) =
                open(&tree, root.is_some()).with_context(|| format!("host path {}", tree.path.display()))?;
            places.push((tree.path, name, read.len() as u64));
            read.push(ReadTree { directory });
        } else {
            trees.add(&tree.path, Start::Sealed(found));
        }
    }
    if read.is_empty() {
        return Ok(());
    }
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .context("making a socket")?;
    if let Half::New(_) = fork(Kinship::Child).context("a process that reads files of the host's kernel")? {
        serve_alone(&theirs, &read, || enter(root, process));
    }
    drop((theirs, read));
    let reader = Reader::connect(ours).context("the process that reads files of the host's kernel")?;
    for (path, name, number) in places {
        trees.add(&path, Start::Read(reader.file(number, &name)));
    }
    Ok(())
}

/// The directory for the reader, and the path in it. A single file is opened through its directory, since it could not
/// be reopened otherwise.
fn open(tree: &Tree, mounts: bool) -> Result<(OwnedFd, Box<[u8]>)> {
    let (directory, name) = match tree.start()? {
        Start::File(directory, name) => (directory, name),
        _ => (tree.file.try_clone()?, Box::default()),
    };
    if !mounts {
        return Ok((directory, name));
    }
    let mount = clone_open(&directory)?;
    restrict_if_offered(&mount, ALWAYS | READ_ONLY, true)?;
    Ok((mount, name))
}

/// Drops, in the reader's process, all that it does not need, and returns a function that drops the rest.
fn enter(root: Option<&OwnedFd>, process: i32) -> io::Result<impl FnOnce() -> io::Result<()>> {
    let confine = filter::for_reader().map_err(io::Error::other)?;
    set_name(c"reader")?;
    if let Some(root) = root {
        fchdir(root)?;
        chroot(".")?;
        chdir("/")?;
        if geteuid().is_root() {
            take_own_user(FIRST | process.cast_unsigned())?;
        }
    }
    capabilities::keep(CapabilitySet::empty())?;
    set_dumpable(false)?;
    Ok(confine)
}

/// Takes a user and a group that own nothing and that no other process has.
fn take_own_user(number: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    capabilities::bound(CapabilitySet::empty())?;
    capabilities::keep(CapabilitySet::SETUID | CapabilitySet::SETGID)?;
    match setresgid(group, group, group) {
        // The user namespace lacks this ID. Its root is an ordinary user of the host.
        Err(nix::errno::Errno::EINVAL) => return Ok(()),
        taken => taken?,
    }
    setgroups(&[])?;
    Ok(setresuid(user, user, user)?)
}
