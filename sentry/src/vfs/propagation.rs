//! Peer groups: propagation of mounts and unmounts to other mounts (see mount_namespaces(7)).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, Rank};
use crate::vfs::mount_namespace::copy_tree;
use crate::vfs::{Dentry, Mount, MountNamespace, Path, Propagation, Vfs};

/// The members of a peer group and its slaves, by their unique IDs.
#[derive(Default)]
struct Group {
    peers: BTreeMap<u64, Weak<Mount>>,
    slaves: BTreeMap<u64, Weak<Mount>>,
}

/// The peer groups of a kernel, by ID.
pub(crate) struct PeerGroups {
    groups: Mutex<HashMap<u32, Group>>,
    next: AtomicU32,
}

impl PeerGroups {
    pub(super) fn new() -> Self {
        PeerGroups { groups: Mutex::new(Rank::Leaf, HashMap::new()), next: AtomicU32::new(1) }
    }
}

/// Adds a mount to its groups, from which it receives changes.
fn join(mount: &Arc<Mount>) {
    let Propagation { group, master, .. } = mount.propagation();
    if group.is_none() && master.is_none() {
        return;
    }
    let mut groups = mount.root.vfs().peer_groups.groups.lock();
    if let Some(group) = group {
        groups.entry(group).or_default().peers.insert(mount.unique_id, Arc::downgrade(mount));
    }
    if let Some(master) = master {
        groups.entry(master).or_default().slaves.insert(mount.unique_id, Arc::downgrade(mount));
    }
}

/// Removes a mount from groups it no longer belongs to, after its propagation changed or before it is dropped.
pub(super) fn left(mount: &Mount, old: Propagation, new: Propagation) {
    let group = old.group.filter(|_| old.group != new.group);
    let master = old.master.filter(|_| old.master != new.master);
    if group.is_none() && master.is_none() {
        return;
    }
    let mut gone = Vec::new();
    {
        let mut groups = mount.root.vfs().peer_groups.groups.lock();
        let mut leave = |id: u32, list: fn(&mut Group) -> &mut BTreeMap<u64, Weak<Mount>>| {
            let Some(group) = groups.get_mut(&id) else { return };
            gone.extend(list(group).remove(&mount.unique_id));
            if group.peers.is_empty() && group.slaves.is_empty() {
                groups.remove(&id);
            }
        };
        group.into_iter().for_each(|id| leave(id, |group| &mut group.peers));
        master.into_iter().for_each(|id| leave(id, |group| &mut group.slaves));
    }
}

/// Adds the mounts of a tree to their groups.
pub(super) fn note_groups(tree: &Arc<Mount>) {
    tree.tree().iter().for_each(join);
}

fn share(mount: &Arc<Mount>) {
    let old = mount.propagation();
    let group = old.group.unwrap_or_else(|| mount.root.vfs().peer_groups.next.fetch_add(1, Ordering::Relaxed));
    mount.set_propagation(Propagation { group: Some(group), unbindable: false, ..old });
    join(mount);
}

/// A propagation type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spreading {
    /// Sends changes to its peers and receives theirs.
    Shared,
    /// Neither sends nor receives changes.
    Private,
    /// Receives changes from its former peers.
    Slave,
    /// Private, and cannot be bound.
    Unbindable,
}

/// Sets the propagation type of a mount and, if `recursive`, of all its descendants.
pub(crate) fn set_spreading(namespace: &MountNamespace, mount: &Arc<Mount>, spreading: Spreading, recursive: bool) {
    namespace.change(|| {
        let mounts = if recursive { mount.tree() } else { vec![mount.clone()] };
        for mount in mounts {
            let old = mount.propagation();
            match spreading {
                Spreading::Shared => share(&mount),
                Spreading::Private => mount.set_propagation(Propagation::default()),
                Spreading::Slave => {
                    let master = old.group.filter(|&group| has_peers(&mount, group)).or(old.master);
                    mount.set_propagation(Propagation { group: None, master, ..old });
                    join(&mount);
                }
                Spreading::Unbindable => {
                    mount.set_propagation(Propagation { unbindable: true, ..Propagation::default() });
                }
            }
        }
    });
}

/// The mounts in a namespace that receive the group's changes directly: its members, then its slaves.
fn members(vfs: &Vfs, group: u32) -> Vec<Arc<Mount>> {
    let members: Vec<_> = {
        let groups = vfs.peer_groups.groups.lock();
        groups
            .get(&group)
            .into_iter()
            .flat_map(|g| g.peers.values().chain(g.slaves.values()))
            .filter_map(Weak::upgrade)
            .collect()
    };
    members.into_iter().filter(|mount| mount.namespace().is_some()).collect()
}

fn has_peers(mount: &Arc<Mount>, group: u32) -> bool {
    let mut after = 0;
    // One at a time: the first one usually matches, and a mount must not be dropped under the lock.
    loop {
        let next = {
            let groups = mount.root.vfs().peer_groups.groups.lock();
            groups.get(&group).and_then(|g| g.peers.range(after..).next().map(|(&id, peer)| (id, peer.upgrade())))
        };
        let Some((id, peer)) = next else { return false };
        if peer.is_some_and(|peer| !Arc::ptr_eq(&peer, mount) && peer.namespace().is_some()) {
            return true;
        }
        after = id + 1;
    }
}

/// All mounts that receive changes below a mount: its peers, its slaves, and theirs, without the mount itself.
pub(super) fn followers(mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut found = Vec::new();
    let mut known = HashSet::from([mount.unique_id]);
    let mut groups: Vec<u32> = mount.propagation().group.into_iter().collect();
    let mut known_groups: HashSet<u32> = groups.iter().copied().collect();
    while let Some(group) = groups.pop() {
        for member in members(mount.root.vfs(), group) {
            groups.extend(member.propagation().group.filter(|own| known_groups.insert(*own)));
            if known.insert(member.unique_id) {
                found.push(member);
            }
        }
    }
    found
}

/// Attaches a tree to a place and, by propagation, elsewhere.
pub(super) fn attach_spreading(mount: &Arc<Mount>, place: &Path) {
    if let Some(group) = place.mount.propagation().group {
        mount.tree().iter().for_each(share);
        spread(mount, &place.mount, &place.dentry, group);
    }
    note_groups(mount);
    mount.attach(place);
}

/// Attaches copies of a tree to all receivers of the group of `origin`: peers of the tree at its peers, slaves of it at
/// its slaves, which pass them on to their own peers.
fn spread(tree: &Arc<Mount>, origin: &Arc<Mount>, dentry: &Arc<Dentry>, group: u32) {
    let mut reached = HashSet::from([origin.unique_id]);
    let mut copies = Vec::new();
    let mut open = vec![(tree.clone(), group)];
    while let Some((template, group)) = open.pop() {
        for other in members(dentry.vfs(), group) {
            if !reached.insert(other.unique_id) {
                continue;
            }
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
            copies.push((copy.clone(), Path { mount: other, dentry: dentry.clone() }));
            if let Some(own) = own.filter(|&own| own != group) {
                open.push((copy, own));
            }
        }
    }
    // Attached last: a copy may be placed inside the tree, and must not become part of further copies.
    copies.iter().for_each(|(copy, place)| copy.attach(place));
}
