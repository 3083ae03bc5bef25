//! `/proc/PID/ns`: the namespaces of a process. A sandbox has one of each type, except for mounts.

use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::NSFS_MAGIC;

use crate::fs::pseudo::{Entry, Kind, Listed, Listing, PseudoFs, PseudoInode, Query, Subject};
use crate::kernel::Kernel;
use crate::vfs::{Dentry, Mount, Path, Vfs};

/// The initial mount namespace gets its ID from [`MountNamespace`](crate::vfs::MountNamespace); the others have Linux'
/// IDs.
const KINDS: &[(&str, u64)] = &[
    ("cgroup", 0xf000_0000 - 5),
    ("ipc", 0xf000_0000 - 1),
    ("mnt", 0),
    ("net", 0xf000_0000 - 7),
    ("pid", 0xf000_0000 - 4),
    ("pid_for_children", 0xf000_0000 - 4),
    ("time", 0xf000_0000 - 6),
    ("time_for_children", 0xf000_0000 - 6),
    ("user", 0xf000_0000 - 3),
    ("uts", 0xf000_0000 - 2),
];

static NSFS: Kind = Kind {
    name: "nsfs",
    magic: NSFS_MAGIC,
    root: Entry::directory("", &[]),
    is_volatile: true,
    new_names: Errno::ENOENT,
    block_size: 1024,
    file_size: 0,
};
static NAMESPACE: Entry = Entry::file("", 0o444, nothing);
static LINK: Entry = Entry::magic("", target, text);

/// The file system of all namespaces, in an internal mount.
pub(crate) fn nsfs(vfs: &Arc<Vfs>) -> Arc<Mount> {
    Mount::internal(vfs, PseudoFs::detached(vfs, Weak::new(), &NSFS))
}

fn nothing(_: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Err(Errno::EINVAL.here())
}

fn of(query: &Query<'_>) -> Result<(&'static str, u64), Errno> {
    let task = query.task()?;
    if task.has_ended() {
        return Err(Errno::ENOENT.here());
    }
    let at = usize::try_from(query.subject.index).unwrap_or(usize::MAX);
    let &(name, number) = KINDS.get(at).ok_or_else(|| Errno::ENOENT.here())?;
    // Namespaces for children are of the same type.
    let kind = name.strip_suffix("_for_children").unwrap_or(name);
    Ok((kind, if kind == "mnt" { task.fs().namespace().id } else { number }))
}

fn text(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let (kind, number) = of(query)?;
    Ok(format!("{kind}:[{number}]").into_bytes())
}

fn target(query: &Query<'_>) -> Result<Path, Errno> {
    let (kind, number) = of(query)?;
    let mount = query.kernel.fs.nsfs.clone();
    let fs = mount.root_path().inode()?.clone();
    let fs = fs.as_any().downcast_ref::<PseudoInode>().ok_or_else(|| Errno::EIO.here())?.fs().clone();
    let inode = PseudoInode::numbered(&fs, &NAMESPACE, number);
    let dentry = Dentry::unnamed(&query.kernel.vfs, inode, format!("{kind}:[{number}]").as_bytes());
    Ok(Path { mount, dentry })
}

/// The links, one for each type.
pub(super) struct Namespaces;

impl Listing for Namespaces {
    fn find(&self, _: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let at = KINDS.iter().position(|(kind, _)| kind.as_bytes() == name).ok_or_else(|| Errno::ENOENT.here())?;
        Ok((&LINK, Subject { index: at as i32, ..subject.clone() }))
    }

    fn list(&self, _: &Arc<Kernel>, _: &Subject) -> Result<Vec<Listed>, Errno> {
        let all = KINDS.iter().enumerate();
        Ok(all.map(|(i, (name, _))| Listed { cookie: i as u64 + 1, name: (*name).to_owned(), entry: &LINK }).collect())
    }
}
