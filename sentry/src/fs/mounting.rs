//! Changes of the tree of mounts: attaching, taking off, moving, binding, and how such changes spread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;

use crate::fs::mount::copy_tree;
use crate::fs::{FsContext, Mount, MountNamespace, MountOptions, Path, Propagation, SuperBlock};
use crate::sync::{Mutex, Rank};

/// The mounts that were ever told to share or to follow, by peer group.
static GROUPS: Mutex<Option<HashMap<u32, Vec<Weak<Mount>>>>> = Mutex::new(Rank::Leaf, None);

fn join(group: u32, mount: &Arc<Mount>) {
    let mut groups = GROUPS.lock();
    let members = groups.get_or_insert_default().entry(group).or_default();
    members.retain(|m| m.strong_count() > 0);
    if !members.iter().any(|m| std::ptr::eq(m.as_ptr(), Arc::as_ptr(mount))) {
        members.push(Arc::downgrade(mount));
    }
}

/// Peers and slaves of a mount: where a change beneath it happens too.
fn followers(mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let Some(group) = mount.propagation().group else { return Vec::new() };
    let members: Vec<_> = {
        let groups = GROUPS.lock();
        let members = groups.as_ref().and_then(|groups| groups.get(&group));
        members.into_iter().flatten().filter_map(Weak::upgrade).collect()
    };
    let follows = |m: &Arc<Mount>| {
        let propagation = m.propagation();
        !Arc::ptr_eq(m, mount)
            && (propagation.group == Some(group) || propagation.master == Some(group))
            && m.namespace().is_some()
    };
    members.into_iter().filter(follows).collect()
}

fn note_groups(tree: &Arc<Mount>) {
    for mount in tree.tree() {
        let propagation = mount.propagation();
        for group in propagation.group.into_iter().chain(propagation.master) {
            join(group, &mount);
        }
    }
}

fn fresh_group() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn share(mount: &Arc<Mount>) {
    let old = mount.propagation();
    let group = old.group.unwrap_or_else(fresh_group);
    mount.set_propagation(Propagation { group: Some(group), unbindable: false, ..old });
    join(group, mount);
}

/// How a mount shall take part in the spreading of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spreading {
    /// To and from its peers.
    Shared,
    /// Neither way.
    Private,
    /// From its former peers only.
    Slave,
    /// Neither way, and it cannot be bound.
    Unbindable,
}

/// Changes how a mount (and with `recursive`, all beneath it) spreads changes.
pub fn set_spreading(namespace: &MountNamespace, mount: &Arc<Mount>, spreading: Spreading, recursive: bool) {
    namespace.change(|| {
        let mounts = if recursive { mount.tree() } else { vec![mount.clone()] };
        for mount in mounts {
            let old = mount.propagation();
            match spreading {
                Spreading::Shared => share(&mount),
                Spreading::Private => mount.set_propagation(Propagation::default()),
                Spreading::Slave => {
                    let master = old.group.or(old.master);
                    mount.set_propagation(Propagation { group: None, master, unbindable: false });
                }
                Spreading::Unbindable => {
                    mount.set_propagation(Propagation { unbindable: true, ..Propagation::default() });
                }
            }
        }
    });
}

fn check_place(mount: &Arc<Mount>, place: &Path) -> Result<(), Errno> {
    if place.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    if mount.root.is_directory() != place.dentry.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    Ok(())
}

/// Attaches a tree, here and wherever changes of the place spread.
fn attach_spreading(mount: &Arc<Mount>, place: &Path) {
    let parent_is_shared = place.mount.propagation().group.is_some();
    if parent_is_shared {
        mount.tree().iter().for_each(share);
    }
    for other in followers(&place.mount) {
        if other.root.is_ancestor_of(&place.dentry) {
            let copy = copy_tree(mount, &mount.root, &mut HashMap::new(), false);
            if other.propagation().group.is_none() {
                for mount in copy.tree() {
                    let master = mount.propagation().group;
                    mount.set_propagation(Propagation { group: None, master, unbindable: false });
                }
            }
            note_groups(&copy);
            copy.attach(&Path { mount: other, dentry: place.dentry.clone() }.topmost());
        }
    }
    note_groups(mount);
    mount.attach(place);
}

/// Mounts a file system.
///
/// # Errors
/// `EINVAL` if the place is in no or another namespace, `EBUSY` if the same file system is mounted right there,
/// `ENOTDIR`, `ENOENT`.
pub fn mount(
    namespace: &Arc<MountNamespace>,
    super_block: Arc<SuperBlock>,
    source: Vec<u8>,
    options: MountOptions,
    place: &Path,
) -> Result<(), Errno> {
    check_member(namespace, &place.mount)?;
    let root = super_block.root.clone();
    let mount = Mount::new(super_block, root, source, options);
    check_place(&mount, place)?;
    namespace.change(|| attach_spreading(&mount, &place.clone().topmost()));
    Ok(())
}

/// Answers `EINVAL` unless the mount is in the namespace.
pub fn check_member(namespace: &Arc<MountNamespace>, mount: &Arc<Mount>) -> Result<(), Errno> {
    if mount.namespace().is_some_and(|other| Arc::ptr_eq(&other, namespace)) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Shows what is at one place at another too (`MS_BIND`).
///
/// # Errors
/// `EINVAL` for what cannot be bound, and those of [`mount`].
pub fn bind(namespace: &Arc<MountNamespace>, what: &Path, place: &Path, recursive: bool) -> Result<(), Errno> {
    check_member(namespace, &place.mount)?;
    check_member(namespace, &what.mount)?;
    if what.mount.propagation().unbindable {
        return Err(Errno::EINVAL);
    }
    namespace.change(|| {
        let copy = if recursive {
            copy_tree(&what.mount, &what.dentry, &mut HashMap::new(), false)
        } else {
            what.mount.copy(what.dentry.clone())
        };
        check_place(&copy, place)?;
        attach_spreading(&copy, &place.clone().topmost());
        Ok(())
    })
}

/// Moves a mount to another place (`MS_MOVE`).
///
/// # Errors
/// `EINVAL` if it is no mount's root, is the root of the tree, or beneath a shared mount; `ELOOP` into itself.
pub fn move_mount(namespace: &Arc<MountNamespace>, what: &Path, place: &Path) -> Result<(), Errno> {
    check_member(namespace, &place.mount)?;
    check_member(namespace, &what.mount)?;
    let mount = &what.mount;
    if !what.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let old = mount.place().ok_or(Errno::EINVAL)?;
    if old.mount.propagation().group.is_some() {
        return Err(Errno::EINVAL);
    }
    check_place(mount, place)?;
    namespace.change(|| {
        if mount.tree().iter().any(|m| Arc::ptr_eq(m, &place.mount)) {
            return Err(Errno::ELOOP);
        }
        mount.detach();
        attach_spreading(mount, &place.clone().topmost());
        Ok(())
    })
}

/// Takes a mount off its place; with `lazily`, whoever still uses it may go on.
///
/// # Errors
/// `EINVAL` for the root of the tree, `EBUSY` if it is in use. `own` is how many references the caller has.
pub fn unmount(namespace: &Arc<MountNamespace>, mount: &Arc<Mount>, lazily: bool, own: usize) -> Result<(), Errno> {
    check_member(namespace, mount)?;
    let gone = namespace.change(|| {
        let place = mount.place().ok_or(if lazily { Errno::EINVAL } else { Errno::EBUSY })?;
        if !lazily && mount.is_busy(own) {
            return Err(Errno::EBUSY);
        }
        let mut gone = vec![mount.clone()];
        for other in followers(&place.mount) {
            gone.extend(other.child(&place.dentry));
        }
        gone.iter().for_each(Mount::detach);
        Ok(gone)
    })?;
    // Dropped without the lock: the last reference may have a file system to end.
    drop(gone);
    Ok(())
}

/// Makes `new` the root of the tree and puts the old root at `put_old` (pivot_root(2)). Root and working directory of
/// `contexts` that were the old root become the new one.
///
/// # Errors
/// `EBUSY` if either is on the current root mount, `EINVAL` for what is no mount's root or not beneath it.
pub fn pivot(
    namespace: &Arc<MountNamespace>,
    root: &Path,
    new: &Path,
    put_old: &Path,
    contexts: &[Arc<FsContext>],
) -> Result<(), Errno> {
    if Arc::ptr_eq(&new.mount, &root.mount) || Arc::ptr_eq(&put_old.mount, &root.mount) {
        return Err(Errno::EBUSY);
    }
    for path in [root, new, put_old] {
        check_member(namespace, &path.mount)?;
    }
    let new_place = new.mount.place().ok_or(Errno::EINVAL)?;
    let shared = [&new.mount, &new_place.mount, &root.mount].iter().any(|m| m.propagation().group.is_some());
    if !root.is_mount_root() || !new.is_mount_root() || shared {
        return Err(Errno::EINVAL);
    }
    if new.dentry.is_removed() || put_old.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    if !put_old.text(new).1 {
        return Err(Errno::EINVAL);
    }
    namespace.change(|| {
        let root_place = root.mount.place();
        new.mount.detach();
        match root_place {
            Some(place) => {
                root.mount.detach();
                new.mount.attach(&place);
            }
            None => namespace.set_root(&new.mount),
        }
        root.mount.attach(&put_old.clone().topmost());
    });
    for context in contexts {
        context.replace(root, new);
    }
    Ok(())
}
