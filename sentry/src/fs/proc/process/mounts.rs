//! The mounts of a process: mounts, mountinfo and mountstats.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;

use crate::fs::pseudo::{PseudoInode, Query, Text, TextFile};
use crate::vfs::{File, Inode, Mount, MountNamespace, MountOptions, Path};
use crate::wait::WaitQueue;

/// An open list of mounts. poll(2) reports each change once.
struct MountList {
    text: TextFile,
    namespace: Arc<MountNamespace>,
    /// The changes that were reported.
    reported: AtomicU64,
}

fn open(inode: &Arc<PseudoInode>, query: &Query<'_>, text: Text) -> Result<Arc<dyn File>, Errno> {
    let namespace = query.task()?.fs().namespace();
    let reported = AtomicU64::new(namespace.generation());
    Ok(Arc::new(MountList {
        text: TextFile::new(inode.clone(), query.reader.clone(), text, None),
        namespace,
        reported,
    }))
}

/// Opens `/proc/PID/mounts`.
pub(super) fn open_mounts(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    open(inode, query, mounts)
}

/// Opens `/proc/PID/mountinfo`.
pub(super) fn open_mountinfo(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    open(inode, query, mountinfo)
}

impl File for MountList {
    fn inode(&self) -> Arc<dyn Inode> {
        self.text.inode()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.text.read_at(buf, offset)
    }

    fn poll(&self) -> PollEvents {
        let readable = PollEvents::POLLIN | PollEvents::POLLRDNORM;
        let now = self.namespace.generation();
        if self.reported.swap(now, Ordering::AcqRel) == now {
            readable
        } else {
            readable | PollEvents::POLLERR | PollEvents::POLLPRI
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.namespace.changed())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Seen {
    mount: Arc<Mount>,
    /// The path from the process's root.
    place: Vec<u8>,
}

fn seen(query: &Query<'_>) -> Result<Vec<Seen>, Errno> {
    let task = query.task()?;
    if task.has_ended() {
        return Err(Errno::EINVAL.here());
    }
    let fs = task.fs();
    let root = fs.root();
    let mut all = Vec::new();
    // The guest controls how many mounts are stacked, so the path of each is derived from that of its parent.
    let mut places: HashMap<u64, Vec<u8>> = HashMap::new();
    for mount in fs.namespace().mounts() {
        query.check_room()?;
        let beneath = || place_within(&mount.place()?, &root, &places);
        let place = if mount.root_path().is(&root) { Some(Vec::new()) } else { beneath() };
        // Mounts outside the process's root are not shown.
        let Some(place) = place else { continue };
        places.insert(mount.unique_id, place.clone());
        all.push(Seen { mount, place: if place.is_empty() { b"/".to_vec() } else { place } });
    }
    Ok(all)
}

/// The path of a place from `root`, empty for the root itself. `places` has the paths of visible parent mounts.
fn place_within(place: &Path, root: &Path, places: &HashMap<u64, Vec<u8>>) -> Option<Vec<u8>> {
    let mut names = Vec::new();
    let mut at = place.clone();
    let mut text = loop {
        if at.is(root) {
            break Vec::new();
        }
        if at.is_mount_root() {
            break places.get(&at.mount.unique_id)?.clone();
        }
        names.push(at.dentry.name());
        at.dentry = at.dentry.parent()?;
    };
    for name in names.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    Some(text)
}

/// Escapes blanks and the like as octal numbers.
fn escaped(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if b" \t\n\\#".contains(&byte) {
            out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            out.push(byte);
        }
    }
}

fn mount_options(options: MountOptions) -> String {
    let mut text = if options.contains(MountOptions::READ_ONLY) { "ro" } else { "rw" }.to_owned();
    for (flag, name) in [
        (MountOptions::NO_SUID, ",nosuid"),
        (MountOptions::NO_DEV, ",nodev"),
        (MountOptions::NO_EXEC, ",noexec"),
        (MountOptions::NO_ATIME, ",noatime"),
        (MountOptions::NO_DIRECTORY_ATIME, ",nodiratime"),
        (MountOptions::RELATIVE_ATIME, ",relatime"),
        (MountOptions::NO_SYMLINK_FOLLOW, ",nosymfollow"),
    ] {
        if options.contains(flag) {
            text.push_str(name);
        }
    }
    text
}

/// The format of fstab(5).
fn mounts(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for Seen { mount, place } in seen(query)? {
        query.check_room()?;
        escaped(&mount.source, &mut text);
        text.push(b' ');
        escaped(&place, &mut text);
        let mut options = mount.options();
        options.set(MountOptions::READ_ONLY, mount.is_read_only());
        let line = format!(" {} {}{} 0 0\n", mount.fs().name(), mount_options(options), mount.fs().options());
        text.extend_from_slice(line.as_bytes());
    }
    Ok(text)
}

fn mountinfo(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for Seen { mount, place } in seen(query)? {
        query.check_room()?;
        // A root mount has no parent; Linux shows the ID of an invisible one.
        let parent = mount.place().map_or(mount.id, |place| place.mount.id);
        let device = mount.fs().device();
        text.extend_from_slice(format!("{} {parent} {device} ", mount.id).as_bytes());
        let within = Path { mount: mount.clone(), dentry: mount.root.clone() };
        escaped(&root_within(&within), &mut text);
        text.push(b' ');
        escaped(&place, &mut text);
        text.extend_from_slice(format!(" {}", mount_options(mount.options())).as_bytes());
        let propagation = mount.propagation();
        if let Some(group) = propagation.group {
            text.extend_from_slice(format!(" shared:{group}").as_bytes());
        }
        if let Some(master) = propagation.master {
            text.extend_from_slice(format!(" master:{master}").as_bytes());
        }
        if propagation.unbindable {
            text.extend_from_slice(b" unbindable");
        }
        text.extend_from_slice(format!(" - {} ", mount.fs().name()).as_bytes());
        escaped(&mount.source, &mut text);
        let access = if mount.super_block.is_read_only() { "ro" } else { "rw" };
        text.extend_from_slice(format!(" {access}{}\n", mount.fs().options()).as_bytes());
    }
    Ok(text)
}

/// The directory of its file system that a mount shows.
fn root_within(root: &Path) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = root.dentry.clone();
    while let Some(parent) = at.parent() {
        names.push(at.name());
        at = parent;
    }
    let mut text: Vec<u8> = names.iter().rev().flat_map(|name| [b"/", &**name].concat()).collect();
    if text.is_empty() {
        text.push(b'/');
    }
    text
}

/// `/proc/PID/mountstats`.
pub(super) fn mountstats(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for Seen { mount, place } in seen(query)? {
        query.check_room()?;
        text.extend_from_slice(b"device ");
        escaped(&mount.source, &mut text);
        text.extend_from_slice(b" mounted on ");
        escaped(&place, &mut text);
        text.extend_from_slice(format!(" with fstype {}\n", mount.fs().name()).as_bytes());
    }
    Ok(text)
}
