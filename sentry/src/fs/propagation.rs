//! Peer groups: how mounting and unmounting beneath one mount spreads to others (see mount_namespaces(7)).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use crate::fs::mount::copy_tree;
use crate::fs::{Dentry, Mount, MountNamespace, Path, Propagation};
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

/// The mounts of a tree get what is told to their groups.
pub(super) fn note_groups(tree: &Arc<Mount>) {
    for mount in tree.tree() {
        let propagation = mount.propagation();
        for group in propagation.group.into_iter().chain(propagation.master) {
            join(group, &mount);
        }
    }
}

fn share(mount: &Arc<Mount>) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let old = mount.propagation();
    let group = old.group.unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
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
                    let master = old.group.filter(|&group| has_peers(&mount, group)).or(old.master);
                    mount.set_propagation(Propagation { group: None, master, unbindable: false });
                }
                Spreading::Unbindable => {
                    mount.set_propagation(Propagation { unbindable: true, ..Propagation::default() });
                }
            }
        }
    });
}

/// The mounts in some namespace that the group's changes reach at once: its peers, then its slaves.
fn members(group: u32) -> Vec<Arc<Mount>> {
    let members: Vec<_> = {
        let groups = GROUPS.lock();
        let members = groups.as_ref().and_then(|groups| groups.get(&group));
        members.into_iter().flatten().filter_map(Weak::upgrade).collect()
    };
    let mut reached: Vec<_> = members.into_iter().filter(|m| m.namespace().is_some()).collect();
    reached.retain(|m| m.propagation().group == Some(group) || m.propagation().master == Some(group));
    reached.sort_by_key(|m| m.propagation().group != Some(group));
    reached
}

fn has_peers(mount: &Arc<Mount>, group: u32) -> bool {
    members(group).iter().any(|m| !Arc::ptr_eq(m, mount) && m.propagation().group == Some(group))
}

/// Everywhere a change beneath a mount happens too: its peers, its slaves, and theirs; not the mount itself.
pub(super) fn followers(mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut found = vec![mount.clone()];
    let mut groups: Vec<u32> = mount.propagation().group.into_iter().collect();
    let mut at = 0;
    while let Some(&group) = groups.get(at) {
        at += 1;
        for member in members(group) {
            if let Some(own) = member.propagation().group
                && !groups.contains(&own)
            {
                groups.push(own);
            }
            if !found.iter().any(|m| Arc::ptr_eq(m, &member)) {
                found.push(member);
            }
        }
    }
    found.remove(0);
    found
}

/// Attaches a tree, here and wherever changes of the place spread.
pub(super) fn attach_spreading(mount: &Arc<Mount>, place: &Path) {
    if let Some(group) = place.mount.propagation().group {
        mount.tree().iter().for_each(share);
        spread(mount, &place.mount, &place.dentry, group);
    }
    note_groups(mount);
    mount.attach(place);
}

/// Attaches copies of a tree to all that follow the group of `origin`: peers of it at peers, slaves of it at slaves, whose
/// own peers then follow those.
fn spread(tree: &Arc<Mount>, origin: &Arc<Mount>, dentry: &Arc<Dentry>, group: u32) {
    let mut reached = vec![origin.clone()];
    let mut open = vec![(tree.clone(), group)];
    while let Some((template, group)) = open.pop() {
        for other in members(group) {
            if reached.iter().any(|m| Arc::ptr_eq(m, &other)) {
                continue;
            }
            reached.push(other.clone());
            if !other.root.is_ancestor_of(dentry) {
                continue;
            }
            let copy = copy_tree(&template, &template.root, &mut HashMap::new(), false);
            let own = other.propagation().group;
            if own != Some(group) {
                for mount in copy.tree() {
                    let master = mount.propagation().group;
                    mount.set_propagation(Propagation { group: None, master, unbindable: false });
                    if own.is_some() {
                        share(&mount);
                    }
                }
            }
            note_groups(&copy);
            copy.attach(&Path { mount: other, dentry: dentry.clone() }.topmost());
            if let Some(own) = own.filter(|&own| own != group) {
                open.push((copy, own));
            }
        }
    }
}
