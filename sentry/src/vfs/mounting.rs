//! Changes of the mount tree: attach, detach, move and bind, with their propagation. Each change checks its conditions,
//! and whether the caller was killed while it waited, under the lock of changes.

use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::errno::Errno;

use crate::interruption::check_killed;
use crate::vfs::mount_namespace::copy_tree;
use crate::vfs::propagation::{attach_spreading, followers};
use crate::vfs::{FsContext, Mount, MountNamespace, MountOptions, Path, SuperBlock};

/// The maximum number of mounts in a namespace (`fs.mount-max`).
const MOST_MOUNTS: usize = 100_000;

fn check_place(mount: &Arc<Mount>, place: &Path) -> Result<(), Errno> {
    if place.dentry.is_removed() {
        return Err(Errno::ENOENT.here());
    }
    if mount.root.is_directory() != place.dentry.is_directory() {
        return Err(Errno::ENOTDIR.here());
    }
    Ok(())
}

/// Returns `ENOSPC` if attaching a tree to a place, with its propagation, exceeded the maximum number of mounts, and
/// `ENOMEM` if there is no memory for them.
fn check_room(namespace: &MountNamespace, tree: &Arc<Mount>, place: &Path) -> Result<(), Errno> {
    let copies = followers(&place.mount).len().saturating_add(1);
    let more = tree.tree().len().saturating_mul(copies);
    if namespace.count().saturating_add(more) > MOST_MOUNTS {
        return Err(Errno::ENOSPC.here());
    }
    namespace.admit(more)
}

/// Mounts a file system.
///
/// # Errors
/// `EINVAL` if the place is not in this namespace, `ENOSPC` for too many mounts, `ENOTDIR`, `ENOENT`.
pub(crate) fn mount(
    namespace: &Arc<MountNamespace>,
    super_block: Arc<SuperBlock>,
    source: Vec<u8>,
    options: MountOptions,
    place: &Path,
) -> Result<(), Errno> {
    let root = super_block.root.clone();
    let mount = Mount::new(super_block, root, source, options);
    namespace.change(|| {
        check_killed()?;
        check_member(namespace, &place.mount)?;
        check_place(&mount, place)?;
        let place = place.clone().topmost();
        check_room(namespace, &mount, &place)?;
        attach_spreading(&mount, &place);
        Ok(())
    })
}

/// Returns `EINVAL` unless the mount is in the namespace.
pub(crate) fn check_member(namespace: &Arc<MountNamespace>, mount: &Arc<Mount>) -> Result<(), Errno> {
    if mount.namespace().is_some_and(|other| Arc::ptr_eq(&other, namespace)) {
        Ok(())
    } else {
        Err(Errno::EINVAL.here())
    }
}

/// Makes a bind mount of one place at another (`MS_BIND`).
///
/// # Errors
/// `EINVAL` if the mount cannot be bound; errors of [`mount`].
pub(crate) fn bind(namespace: &Arc<MountNamespace>, what: &Path, place: &Path, recursive: bool) -> Result<(), Errno> {
    namespace.change(|| {
        check_killed()?;
        check_member(namespace, &place.mount)?;
        check_member(namespace, &what.mount)?;
        if what.mount.propagation().unbindable {
            return Err(Errno::EINVAL.here());
        }
        let copy = if recursive {
            copy_tree(&what.mount, &what.dentry, &mut HashMap::new(), false)
        } else {
            what.mount.copy(what.dentry.clone())
        };
        check_place(&copy, place)?;
        let place = place.clone().topmost();
        check_room(namespace, &copy, &place)?;
        attach_spreading(&copy, &place);
        Ok(())
    })
}

/// A detached copy of the mount at a place (`OPEN_TREE_CLONE`).
///
/// # Errors
/// `EINVAL` if the mount cannot be bound; `ENOMEM`.
pub(crate) fn copy_detached(
    namespace: &Arc<MountNamespace>,
    what: &Path,
    recursive: bool,
) -> Result<Arc<Mount>, Errno> {
    namespace.change(|| {
        check_killed()?;
        if what.mount.namespace().is_some() {
            check_member(namespace, &what.mount)?;
        }
        if what.mount.propagation().unbindable {
            return Err(Errno::EINVAL.here());
        }
        namespace.admit(if recursive { what.mount.tree().len() } else { 1 })?;
        Ok(if recursive {
            copy_tree(&what.mount, &what.dentry, &mut HashMap::new(), false)
        } else {
            what.mount.copy(what.dentry.clone())
        })
    })
}

/// Moves a mount to another place (`MS_MOVE`), or attaches a detached one.
///
/// # Errors
/// `EINVAL` if it is not the root of a mount, is the root of the tree, or is below a shared mount; `ELOOP` for a move
/// into itself.
pub(crate) fn move_mount(namespace: &Arc<MountNamespace>, what: &Path, place: &Path) -> Result<(), Errno> {
    let mount = &what.mount;
    namespace.change(|| {
        check_killed()?;
        check_member(namespace, &place.mount)?;
        let is_new = mount.is_fresh();
        if !is_new {
            check_member(namespace, mount)?;
        }
        if !what.is_mount_root() || mount.root.is_directory() != place.dentry.is_directory() {
            return Err(Errno::EINVAL.here());
        }
        let beneath_shared = mount.place().map(|old| old.mount.propagation().group.is_some());
        if beneath_shared.unwrap_or(!is_new) {
            return Err(Errno::EINVAL.here());
        }
        check_place(mount, place)?;
        let spreads = place.mount.propagation().group.is_some();
        if spreads && mount.tree().iter().any(|m| m.propagation().unbindable) {
            return Err(Errno::EINVAL.here());
        }
        if mount.tree().iter().any(|m| Arc::ptr_eq(m, &place.mount)) {
            return Err(Errno::ELOOP.here());
        }
        let place = place.clone().topmost();
        check_room(namespace, mount, &place)?;
        // It stays in its namespace, because the change may propagate to mounts within it.
        mount.unhang();
        attach_spreading(mount, &place);
        Ok(())
    })
}

/// Unmounts a mount and the mounts that were propagated from it. With `lazily`, the mount and its descendants are
/// separated, and remain usable where they are in use.
///
/// # Errors
/// `EINVAL` for the root of the tree; `EBUSY` if it is in use. `own` is the number of the caller's references.
pub(crate) fn unmount(
    namespace: &Arc<MountNamespace>,
    mount: &Arc<Mount>,
    lazily: bool,
    own: usize,
) -> Result<(), Errno> {
    let gone = namespace.change(|| {
        check_killed()?;
        check_member(namespace, mount)?;
        let place = mount.place().ok_or_else(|| if lazily { Errno::EINVAL.here() } else { Errno::EBUSY.here() })?;
        if !lazily && mount.is_busy(own) {
            return Err(Errno::EBUSY.here());
        }
        let copies: Vec<_> =
            followers(&place.mount).into_iter().filter_map(|other| other.child(&place.dentry)).collect();
        // The references of this list, and of the place if it is on one of the copies, do not count.
        let in_use = |copy: &Arc<Mount>| copy.is_used(1 + usize::from(Arc::ptr_eq(copy, &place.mount)));
        if !lazily && copies.iter().any(|copy| copy.child_mounts().iter().all(|m| m.covers(copy)) && in_use(copy)) {
            return Err(Errno::EBUSY.here());
        }
        drop(copies);
        Ok(take_off(mount.tree()))
    })?;
    // Dropped without the lock: the last reference may shut the file system down.
    drop(gone);
    Ok(())
}

/// Detaches the mounts of a tree and their propagated copies, and returns all of them. A mount that covers a copy and
/// stays is moved to that copy's place.
fn take_off(tree: Vec<Arc<Mount>>) -> Vec<Arc<Mount>> {
    let mut going: HashMap<u64, Arc<Mount>> = tree.into_iter().map(|mount| (mount.unique_id, mount)).collect();
    let copies = copies_that_go(&going);
    going.extend(copies.iter().map(|copy| (copy.unique_id, copy.clone())));
    let slips = |copy: &Arc<Mount>| {
        let cover = copy.cover().filter(|cover| !going.contains_key(&cover.unique_id))?;
        let mut place = copy.place()?;
        while going.contains_key(&place.mount.unique_id) {
            place = place.mount.place()?;
        }
        Some((cover, place))
    };
    let slipping: Vec<_> = copies.iter().filter_map(slips).collect();
    slipping.iter().for_each(|(cover, _)| cover.unhang());
    going.values().for_each(|mount| mount.unhang());
    going.values().for_each(|mount| mount.leave_namespace());
    slipping.iter().for_each(|(cover, place)| cover.hang(place));
    going.into_values().chain(slipping.into_iter().map(|(cover, _)| cover)).collect()
}

/// The mounts that were propagated from those of a tree and are unmounted with them: those with only such mounts, or
/// one that covers their root, attached to them.
fn copies_that_go(tree: &HashMap<u64, Arc<Mount>>) -> Vec<Arc<Mount>> {
    let places = tree.values().filter_map(|mount| mount.place());
    let copies = places.flat_map(|place| {
        followers(&place.mount).into_iter().filter_map(move |other| other.child(&place.dentry)).collect::<Vec<_>>()
    });
    let mut copies: HashMap<u64, Arc<Mount>> =
        copies.map(|copy| (copy.unique_id, copy)).filter(|(id, _)| !tree.contains_key(id)).collect();
    let stays = |copy: &Arc<Mount>| {
        let goes = |child: &Arc<Mount>| tree.contains_key(&child.unique_id) || copies.contains_key(&child.unique_id);
        copy.child_mounts().iter().any(|child| !goes(child) && !child.covers(copy))
    };
    let mut staying: Vec<Arc<Mount>> = copies.values().filter(|copy| stays(copy)).cloned().collect();
    // A mount that stays keeps the mount it is attached to.
    while let Some(mount) = staying.pop() {
        copies.remove(&mount.unique_id);
        if let Some(place) = mount.place()
            && !mount.covers(&place.mount)
            && copies.contains_key(&place.mount.unique_id)
        {
            staying.push(place.mount);
        }
    }
    copies.into_values().collect()
}

/// Makes `new` the root mount and attaches the old root to `put_old` (pivot_root(2)). Root and working directories of
/// `contexts` that were the old root become the new one.
///
/// # Errors
/// `EBUSY` if either is on the current root mount; `EINVAL` if it is not the root of a mount, not below the root, or
/// shared.
pub(crate) fn pivot(
    namespace: &Arc<MountNamespace>,
    root: &Path,
    new: &Path,
    put_old: &Path,
    contexts: &[Arc<FsContext>],
) -> Result<(), Errno> {
    // All checks are within the change: a concurrent one could close a cycle.
    namespace.change(|| {
        if Arc::ptr_eq(&new.mount, &root.mount) || Arc::ptr_eq(&put_old.mount, &root.mount) {
            return Err(Errno::EBUSY.here());
        }
        for path in [root, new, put_old] {
            check_member(namespace, &path.mount)?;
        }
        let new_place = new.mount.place().ok_or_else(|| Errno::EINVAL.here())?;
        let shared = [&new.mount, &new_place.mount, &root.mount].iter().any(|m| m.propagation().group.is_some());
        if !root.is_mount_root() || !new.is_mount_root() || shared {
            return Err(Errno::EINVAL.here());
        }
        if new.dentry.is_removed() || put_old.dentry.is_removed() {
            return Err(Errno::ENOENT.here());
        }
        if !put_old.text(new).1 || !new.text(root).1 {
            return Err(Errno::EINVAL.here());
        }
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
        Ok(())
    })?;
    for context in contexts {
        context.replace(root, new);
    }
    Ok(())
}
