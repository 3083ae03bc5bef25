//! Cutting out of a tree of the host what is no tree of files.
//!
//! A guest is not led into such mounts in any case, since each descriptor is looked at. Cut out of the tree itself they
//! are not there for a sandbox that was taken over either.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
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

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);
/// So many mounts may lie on each other in one place.
const ROUNDS: usize = 64;

/// A mount of the namespace that this process is in.
struct Mount {
    number: u64,
    parent: u64,
    point: PathBuf,
    kind: String,
}

/// The mounts of a namespace.
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Those of this process's.
    ///
    /// # Errors
    /// The host does not tell.
    pub fn read() -> Result<Mounts> {
        let text = fs::read("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(parse).collect::<Option<_>>().map(Mounts).context("/proc/self/mountinfo")
    }

    /// Whether there are any beneath a path that are no trees of files.
    pub fn are_mixed(&self, path: &Path) -> bool {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.0
            .iter()
            .any(|mount| mount.point != path && mount.point.starts_with(&path) && mount.is_foreign(Path::new("/")))
    }

    /// Those beneath a mount that are no trees of files, but not those beneath one of these. `root` is where the mount has
    /// what the host has in `/`, if it does.
    fn foreign(&self, top: u64, root: &Path) -> Vec<&Mount> {
        let (mut found, mut tops) = (Vec::new(), vec![top]);
        while let Some(parent) = tops.pop() {
            for mount in self.0.iter().filter(|mount| mount.parent == parent && mount.number != parent) {
                if mount.is_foreign(root) {
                    found.push(mount);
                } else {
                    tops.push(mount.number);
                }
            }
        }
        found
    }
}

impl Mount {
    /// Whether it is no tree of files, or one of devices: what is mounted in `dev` of this root.
    fn is_foreign(&self, root: &Path) -> bool {
        !stores_files(&self.kind) || self.kind == "devtmpfs" || self.point == root.join("dev")
    }
}

/// A line of mountinfo, as proc(5) describes it.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (number, parent) = (number()?, number()?);
    let point = unescape(fields.nth(2)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { number, parent, point, kind: String::from_utf8_lossy(kind).into_owned() })
}

/// A name in which blanks and backslashes are octal numbers.
fn unescape(text: &[u8]) -> PathBuf {
    let (mut name, mut rest) = (Vec::new(), text);
    while let Some((&byte, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match octal {
            Some(digits) => {
                name.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &after[3..];
            }
            None => {
                name.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(name).into()
}

/// A mount like this one, the clone of `number` whose root is what is at `path`, without what is no tree of files. That is
/// left in `heap`, a directory which is let go with the old root: to move a mount costs nothing, to unmount one does.
///
/// # Errors
/// The host's.
pub fn cut(mount: &OwnedFd, number: usize, path: &Path, heap: &OwnedFd) -> Result<OwnedFd> {
    let place = format!("tree{number}");
    mkdirat(heap, place.as_str(), Mode::S_IRWXU)?;
    move_mount(mount, "", heap, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    // Hosts before Linux 5.8 do not tell. What a guest sees is decided by each descriptor anyway.
    if let Some(top) = look(mount.as_fd())?.mount {
        let is_whole = path.canonicalize().is_ok_and(|path| path == Path::new("/"));
        let root = if is_whole { Path::new("/").join(&place) } else { PathBuf::new() };
        take_away(top, &root, heap)?;
    }
    Ok(open_tree(heap, place, CLONE | OpenTreeFlags::AT_RECURSIVE)?)
}

/// Takes away what is foreign beneath a mount of which `root` is the path, if it has what the host has in `/`.
fn take_away(top: u64, root: &Path, heap: &OwnedFd) -> Result<()> {
    // Those that stay, and all places. What lies beneath a mount was nobody's to see.
    let (mut stuck, mut points) = (Vec::new(), BTreeSet::new());
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
    // A look at it could wait for whoever serves it. A directory cannot be moved to a file, nor the other way.
    for place in [directory, file] {
        match move_mount(heap, path, heap, place, MoveMountFlags::empty()) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTDIR | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // Not even looked up is a file of a process that has ended. Such a one can be unmounted.
    let place = PathBuf::from(format!("/proc/self/fd/{}", heap.as_raw_fd())).join(path);
    Ok(umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok())
}

/// Whether the reason is that the file that is mounted can be found no more, by nobody.
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
    fn mounts_are_read() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\134 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!((mount.number, mount.parent, &*mount.kind), (36, 35, "ext3"));
        assert_eq!(mount.point, Path::new(r"/mnt 2\"));
        assert!(parse(b"36 35 98:0 /mnt1").is_none());
    }

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
        let mount = |&(number, parent, point, kind): &(u64, u64, &str, &str)| Mount {
            number,
            parent,
            point: point.into(),
            kind: kind.into(),
        };
        let mounts = Mounts(list.iter().map(mount).collect());
        let numbers = |root: &str| {
            let mut found: Vec<u64> = mounts.foreign(2, Path::new(root)).iter().map(|mount| mount.number).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(numbers("/t"), [3, 6, 7]);
        assert_eq!(numbers(""), [3, 6]);
        assert!(mounts.are_mixed(Path::new("/t/home")) && !mounts.are_mixed(Path::new("/t/home/fuse")));
    }
}
