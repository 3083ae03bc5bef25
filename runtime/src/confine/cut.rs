//! Cutting out of a tree of the host what is no tree of files.
//!
//! A guest is not led into such mounts in any case, since each descriptor is looked at. Cut out of the tree itself they
//! are not there for a sandbox that was taken over either.

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
/// So many mounts may lie on each other in one place.
const ROUNDS: usize = 64;

/// The mounts of a namespace.
pub struct Mounts(Vec<HostMount>);

impl Mounts {
    /// Those of this process's.
    ///
    /// # Errors
    /// The host does not show them.
    pub fn read() -> Result<Mounts> {
        mountinfo::own().map(Mounts)
    }

    /// Those beneath a path that are no trees of files, by their paths from there, but none beneath another.
    pub fn foreign_places(&self, path: &Path) -> BTreeSet<PathBuf> {
        let beneath = |mount: &&HostMount| {
            mount.point != path && mount.point.starts_with(path) && is_foreign(mount, Path::new("/"))
        };
        let places = self.0.iter().filter(beneath).filter_map(|mount| mount.point.strip_prefix(path).ok());
        let mut outermost: BTreeSet<PathBuf> = BTreeSet::new();
        // In this order, which is that of components, what a path leads through comes before it.
        for place in places.collect::<BTreeSet<_>>() {
            if !place.ancestors().any(|above| outermost.contains(above)) {
                outermost.insert(place.to_owned());
            }
        }
        outermost
    }

    /// Those beneath a mount that are no trees of files, but not those beneath one of these. `root` is where the mount has
    /// what the host has in `/`, if it does.
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

/// Whether a mount is no tree of files, or one of devices: what is mounted in `dev` of this root.
fn is_foreign(mount: &HostMount, root: &Path) -> bool {
    !stores_files(&mount.kind) || mount.kind == "devtmpfs" || mount.point == root.join("dev")
}

/// A mount like this one, the clone of `number` whose root is what is at `path`, without what is no tree of files, which is
/// expected in `places`. That is left in `heap`, a directory which is let go with the old root: to move a mount costs nothing, to unmount one does.
///
/// # Errors
/// The host's.
pub fn cut(mount: &OwnedFd, number: usize, path: &Path, places: &BTreeSet<PathBuf>, heap: &OwnedFd) -> Result<OwnedFd> {
    let place = format!("tree{number}");
    mkdirat(heap, place.as_str(), Mode::S_IRWXU)?;
    move_mount(mount, "", heap, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    // Hosts before Linux 5.8 do not tell. What a guest sees is decided by each descriptor anyway.
    if let Some(top) = look(mount.as_fd())?.mount {
        let root = if path == Path::new("/") { Path::new("/").join(&place) } else { PathBuf::new() };
        let points = places.iter().map(|inner| Path::new(&place).join(inner)).collect();
        take_away(top, &root, points, heap)?;
    }
    Ok(open_tree(heap, place, CLONE | OpenTreeFlags::AT_RECURSIVE)?)
}

/// Takes away what is foreign beneath a mount of which `root` is the path, if it has what the host has in `/`: first what
/// is at these points, as was seen when it was cloned, then what the host says is still there.
fn take_away(top: u64, root: &Path, mut points: BTreeSet<PathBuf>, heap: &OwnedFd) -> Result<()> {
    for (number, point) in points.iter().enumerate() {
        // What cannot be moved is found again below.
        put_aside(point, &format!("{top}-expected{number}"), heap)
            .with_context(|| format!("cutting off {}", point.display()))?;
    }
    // Those that stay. What lies beneath a mount was hidden by it.
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

/// Moves what is mounted at a path out of the way; false if that is not allowed, since a user's own namespace has the
/// host's mounts as a whole. What is moved is what lies on top, so that each needs an unused name in `heap`.
fn put_aside(path: &Path, name: &str, heap: &OwnedFd) -> Result<bool> {
    let (directory, file) = (format!("directory{name}"), format!("file{name}"));
    mkdirat(heap, directory.as_str(), Mode::S_IRWXU)?;
    openat(heap, file.as_str(), OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // What kind it is, is not asked: a FUSE server need not answer. A directory cannot be moved to a file, nor a file to
    // a directory, so one of the two fails.
    for place in [directory, file] {
        match move_mount(heap, path, heap, place, MoveMountFlags::empty()) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTDIR | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // A file of a process that has ended cannot be looked up any more, but unmounted.
    let place = PathBuf::from(format!("/proc/self/fd/{}", heap.as_raw_fd())).join(path);
    Ok(umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok())
}

/// Whether it failed since the mounted file does not exist any more.
fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref() == Some(&rustix::io::Errno::NOENT)
}

/// Puts an empty directory, or file, over what is at a path.
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
