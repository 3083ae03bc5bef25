//! Removes mounts that are not ordinary file trees (procfs, sysfs, devices) from a host tree.
//!
//! The guest never enters such mounts, since each descriptor is checked. Removing them keeps them also from a
//! compromised sandbox.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use amber_host::file_systems::stores_files;
use amber_host::fs::look;
use amber_host::mounts::READ_ONLY;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::root::{ALWAYS, restrict_if_offered};
use crate::mountinfo::{self, HostMount};

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);
/// The most mounts that may be stacked in one place.
const ROUNDS: usize = 64;

/// The mounts of a namespace.
pub(super) struct Mounts(Vec<HostMount>);

impl Mounts {
    /// The mounts of this process's namespace.
    ///
    /// # Errors
    /// The host's mount table cannot be read.
    pub(super) fn read() -> Result<Mounts> {
        mountinfo::own().map(Mounts)
    }

    /// The foreign mounts beneath a path, as paths relative to it; without those beneath another foreign mount.
    pub(super) fn foreign_places(&self, path: &Path) -> BTreeSet<PathBuf> {
        let beneath = |mount: &&HostMount| {
            mount.point != path && mount.point.starts_with(path) && is_foreign(mount, Path::new("/"))
        };
        let places = self.0.iter().filter(beneath).filter_map(|mount| mount.point.strip_prefix(path).ok());
        let mut outermost: BTreeSet<PathBuf> = BTreeSet::new();
        // Sorted by components: a path comes after its prefixes.
        for place in places.collect::<BTreeSet<_>>() {
            if !place.ancestors().any(|above| outermost.contains(above)) {
                outermost.insert(place.to_owned());
            }
        }
        outermost
    }

    /// The foreign mounts beneath a mount, without those beneath one of them. `root` is the position of the host's `/`
    /// in the mount, if it is there.
    fn foreign(&self, top: u64, root: &Path) -> Vec<&HostMount> {
        let (mut found, mut tops) = (Vec::new(), vec![top]);
        while let Some(parent) = tops.pop() {
            for mount in self.0.iter().filter(|mount| mount.parent == parent && mount.number != parent) {
                if is_foreign(mount, root) {
                    found.push(mount);
                } else {
                    tops.push(mount.number);
                }
            }
        }
        found
    }
}

/// Whether a mount is foreign: not an ordinary file tree, or the `dev` directory of this root.
fn is_foreign(mount: &HostMount, root: &Path) -> bool {
    !stores_files(&mount.kind) || mount.kind == "devtmpfs" || mount.point == root.join("dev")
}

/// A clone of the mount `number`, rooted at `path`, without foreign mounts, which are expected at `places`. They are
/// moved to `heap`, a directory that disappears with the old root: moving a mount is cheap, unmounting it is not.
///
/// # Errors
/// Errors of the host.
pub(super) fn cut(
    mount: &OwnedFd,
    number: usize,
    path: &Path,
    places: &BTreeSet<PathBuf>,
    heap: &OwnedFd,
) -> Result<OwnedFd> {
    let place = format!("tree{number}");
    mkdirat(heap, place.as_str(), Mode::S_IRWXU)?;
    move_mount(mount, "", heap, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    // Hosts before Linux 5.8 do not report mount IDs. Each descriptor is checked for the guest in any case.
    if let Some(top) = look(mount.as_fd())?.mount {
        let root = if path == Path::new("/") { Path::new("/").join(&place) } else { PathBuf::new() };
        let points = places.iter().map(|inner| Path::new(&place).join(inner)).collect();
        take_away(top, &root, points, heap)?;
    }
    Ok(open_tree(heap, place, CLONE | OpenTreeFlags::AT_RECURSIVE)?)
}

/// Removes the foreign mounts beneath a mount. `root` is its path if it contains the host's `/`. First those at
/// `points`, seen when the mount was cloned; then those that the host still reports.
fn take_away(top: u64, root: &Path, mut points: BTreeSet<PathBuf>, heap: &OwnedFd) -> Result<()> {
    for (number, point) in points.iter().enumerate() {
        // Mounts that cannot be moved are found again below.
        put_aside(point, &format!("{top}-expected{number}"), heap)
            .with_context(|| format!("cutting off {}", point.display()))?;
    }
    // The mounts that remain. Mounts beneath another are hidden by it.
    let mut stuck = Vec::new();
    for round in 0..ROUNDS {
        let mounts = Mounts::read()?;
        let mut foreign = mounts.foreign(top, root);
        foreign.retain(|mount| !stuck.contains(&mount.number));
        if foreign.is_empty() {
            return cover_all(&points, heap);
        }
        for mount in foreign {
            let point = mount.point.strip_prefix("/")?;
            let place = format!("{}-{round}", mount.number);
            if !put_aside(point, &place, heap).with_context(|| format!("cutting off {}", point.display()))? {
                stuck.push(mount.number);
            }
            points.insert(point.to_owned());
        }
    }
    bail!("too many mounts in one place")
}

fn cover_all(points: &BTreeSet<PathBuf>, heap: &OwnedFd) -> Result<()> {
    for point in points {
        match cover(point, heap) {
            Err(error) if is_gone(&error) => log::info!("{}: {error:#}", point.display()),
            done => done.with_context(|| format!("covering {}", point.display()))?,
        }
    }
    Ok(())
}

/// Moves the topmost mount at a path to `heap`, under an unused name. Returns false if the host forbids it, since a
/// user's own namespace cannot take the host's mounts apart.
fn put_aside(path: &Path, name: &str, heap: &OwnedFd) -> Result<bool> {
    let (directory, file) = (format!("directory{name}"), format!("file{name}"));
    mkdirat(heap, directory.as_str(), Mode::S_IRWXU)?;
    openat(heap, file.as_str(), OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // The kind of file is not queried, since a FUSE server need not answer. A directory cannot be moved onto a file,
    // nor a file onto a directory, so one of the two attempts fails.
    for place in [directory, file] {
        match move_mount(heap, path, heap, place, MoveMountFlags::empty()) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTDIR | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // A file of an ended process can no longer be looked up, but can be unmounted.
    let place = PathBuf::from(format!("/proc/self/fd/{}", heap.as_raw_fd())).join(path);
    Ok(umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok())
}

/// Whether the operation failed because the mounted file no longer exists.
fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref() == Some(&rustix::io::Errno::NOENT)
}

/// Mounts an empty directory or file over a path.
fn cover(path: &Path, heap: &OwnedFd) -> Result<()> {
    const DIRECTORY: &str = "directory";
    const FILE: &str = "file";
    if let Err(errno) = mkdirat(heap, DIRECTORY, Mode::from_bits_truncate(0o555))
        && errno != Errno::EEXIST
    {
        return Err(errno.into());
    }
    openat(heap, FILE, OFlag::O_CREAT | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let over = |name| {
        let empty = open_tree(heap, name, CLONE)?;
        restrict_if_offered(&empty, ALWAYS | READ_ONLY, false)?;
        Ok(move_mount(empty, "", heap, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    };
    over(DIRECTORY).or_else(|_: anyhow::Error| over(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tree_of_files_is_found_once() {
        let list = [
            (1, 0, "/", "ext4"),
            (2, 1, "/t", "ext4"),
            (3, 2, "/t/proc", "proc"),
            (4, 3, "/t/proc/sys/fs/binfmt_misc", "autofs"),
            (5, 2, "/t/home", "xfs"),
            (6, 5, "/t/home/fuse", "fuse.sshfs"),
            (7, 2, "/t/dev", "tmpfs"),
            (8, 1, "/proc", "proc"),
        ];
        let mount = |&(number, parent, point, kind): &(u64, u64, &str, &str)| HostMount {
            number,
            parent,
            point: point.into(),
            kind: kind.into(),
            ..HostMount::default()
        };
        let mounts = Mounts(list.iter().map(mount).collect());
        let numbers = |root: &str| {
            let mut found: Vec<u64> = mounts.foreign(2, Path::new(root)).iter().map(|mount| mount.number).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(numbers("/t"), [3, 6, 7]);
        assert_eq!(numbers(""), [3, 6]);
        let places = |path: &str| mounts.foreign_places(Path::new(path)).into_iter().collect::<Vec<_>>();
        assert_eq!(places("/t"), [Path::new("home/fuse"), Path::new("proc")]);
        assert_eq!(places("/t/home"), [Path::new("fuse")]);
        assert_eq!(places("/t/home/fuse"), [] as [&Path; 0]);
    }
}
