//! Where the file calls tell what they did, for inotify(7).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::stat::{Device, FileType};

use crate::sync::{Mutex, Rank};
use crate::vfs::{Dentry, Inode, Path};

/// Somebody who watches an inode: one watch of an inotify instance.
pub trait Watcher: Send + Sync {
    /// Something happened to the inode, or to the entry `name` of a watched directory. `mask` has `IN_` bits (with
    /// `IN_ISDIR`, and `IN_EXCL_UNLINK` for an entry without a name), whatever the watch asked for; `cookie` ties the two halves of a rename together.
    fn event(&self, mask: u32, cookie: u32, name: Option<&[u8]>);
}

/// Which inode: device and number, which stay while anybody holds it.
type Key = (u64, u64);

static WATCHES: AtomicUsize = AtomicUsize::new(0);
/// Who watches which inode, by the number of the watch.
type Registry = BTreeMap<Key, BTreeMap<u64, Weak<dyn Watcher>>>;

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(Rank::Leaf, None);

/// A watch in place; dropping it ends it.
pub struct Watch {
    key: Key,
    id: u64,
    /// Keeps the inode, and so its number, alive.
    _inode: Arc<dyn Inode>,
}

impl Watch {
    /// Which inode it is on: equal for equal inodes.
    pub fn key(&self) -> (u64, u64) {
        self.key
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::Relaxed);
        let mut registry = REGISTRY.lock();
        if let Some(map) = registry.as_mut()
            && let Some(list) = map.get_mut(&self.key)
        {
            list.remove(&self.id);
            if list.is_empty() {
                map.remove(&self.key);
            }
        }
    }
}

fn key(inode: &dyn Inode) -> Option<Key> {
    inode.identity().ok().map(|(device, number)| (device.raw(), number))
}

/// Watches an inode.
///
/// # Errors
/// Those of its metadata.
pub fn watch(inode: &Arc<dyn Inode>, watcher: Weak<dyn Watcher>) -> Result<Watch, amber_abi::errno::Errno> {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let (device, number) = inode.identity()?;
    let key = (device.raw(), number);
    let id = NEXT.fetch_add(1, Ordering::Relaxed) as u64;
    REGISTRY.lock().get_or_insert_default().entry(key).or_default().insert(id, watcher);
    WATCHES.fetch_add(1, Ordering::Relaxed);
    Ok(Watch { key, id, _inode: inode.clone() })
}

/// What can happen, as bits of `inotify_event.mask`.
#[expect(missing_docs, reason = "the names of inotify(7)")]
pub mod mask {
    pub const IN_ACCESS: u32 = 0x1;
    pub const IN_MODIFY: u32 = 0x2;
    pub const IN_ATTRIB: u32 = 0x4;
    pub const IN_CLOSE_WRITE: u32 = 0x8;
    pub const IN_CLOSE_NOWRITE: u32 = 0x10;
    pub const IN_OPEN: u32 = 0x20;
    pub const IN_MOVED_FROM: u32 = 0x40;
    pub const IN_MOVED_TO: u32 = 0x80;
    pub const IN_CREATE: u32 = 0x100;
    pub const IN_DELETE: u32 = 0x200;
    pub const IN_DELETE_SELF: u32 = 0x400;
    pub const IN_MOVE_SELF: u32 = 0x800;
    pub const IN_UNMOUNT: u32 = 0x2000;
    /// In an event: the entry it tells of has lost its name.
    pub const IN_EXCL_UNLINK: u32 = 0x400_0000;
    pub const IN_ISDIR: u32 = 0x4000_0000;
}

fn tell(inode: &dyn Inode, mask: u32, cookie: u32, name: Option<&[u8]>) {
    let Some(key) = key(inode) else { return };
    let watchers: Vec<_> = {
        let registry = REGISTRY.lock();
        match registry.as_ref().and_then(|map| map.get(&key)) {
            Some(list) => list.values().filter_map(Weak::upgrade).collect(),
            None => return,
        }
    };
    for watcher in watchers {
        watcher.event(mask, cookie, name);
    }
}

fn is_quiet() -> bool {
    WATCHES.load(Ordering::Relaxed) == 0
}

fn directory_bit(dentry: &Dentry) -> u32 {
    if dentry.is_directory() { mask::IN_ISDIR } else { 0 }
}

/// Something happened to what a path names (`IN_ACCESS`, `IN_MODIFY`, `IN_ATTRIB`, `IN_OPEN`, `IN_CLOSE_*`): told to
/// watchers of the directory and of the thing itself.
pub fn happened(path: &Path, mask: u32) {
    if is_quiet() {
        return;
    }
    on_dentry(&path.dentry, mask);
}

fn on_dentry(dentry: &Arc<Dentry>, mask: u32) {
    let Ok(inode) = dentry.inode() else { return };
    let mask = mask | directory_bit(dentry);
    if let Some(parent) = dentry.parent()
        && let Ok(directory) = parent.inode()
    {
        let unlinked = if dentry.is_removed() { mask::IN_EXCL_UNLINK } else { 0 };
        tell(&**directory, mask | unlinked, 0, Some(&dentry.name()));
    }
    tell(&**inode, mask, 0, None);
}

/// Something happened to an entry of a directory: `IN_CREATE`, `IN_DELETE`.
pub fn entry(directory: &Dentry, child: &Dentry, name: &[u8], mask: u32) {
    if is_quiet() {
        return;
    }
    if let Ok(inode) = directory.inode() {
        tell(&**inode, mask | directory_bit(child), 0, Some(name));
    }
}

/// The number of an inode's names changed: told to its own watchers alone.
pub fn links_changed(inode: &dyn Inode) {
    if !is_quiet() {
        tell(inode, mask::IN_ATTRIB, 0, None);
    }
}

/// A name went away: `IN_ATTRIB` for the link count, and `IN_DELETE_SELF` if it was the last and nobody has the file
/// open. A directory goes as a whole; its link count is not told of.
pub fn name_removed(name: &Arc<Dentry>) {
    if is_quiet() {
        return;
    }
    if let Ok(inode) = name.inode()
        && inode.kind() != FileType::Directory
    {
        links_changed(&**inode);
    }
    end_if_unused(name);
}

/// The second half of [`name_removed`]; the caller's reference is not counted as a use.
fn end_if_unused(name: &Arc<Dentry>) {
    if name.is_directory() || Arc::strong_count(name) == 1 {
        ended(name);
    }
}

/// A name that was removed is used by nobody any more: `IN_DELETE_SELF`, once, if the inode has no other.
pub(super) fn ended(name: &Dentry) {
    if is_quiet() || !name.is_removed() {
        return;
    }
    if let Ok(inode) = name.inode()
        && inode.metadata().map_or(true, |m| m.links == 0)
        && name.take_end()
    {
        tell(&**inode, mask::IN_DELETE_SELF, 0, None);
    }
}

/// A file system is mounted nowhere any more: the watches of its inodes end.
pub(super) fn unmounted(device: Device) {
    if is_quiet() {
        return;
    }
    let watchers: Vec<_> = {
        let registry = REGISTRY.lock();
        let inodes = (device.raw(), 0)..=(device.raw(), u64::MAX);
        let on_device = registry.iter().flat_map(|map| map.range(inodes.clone()));
        on_device.flat_map(|(_, list)| list.values()).filter_map(Weak::upgrade).collect()
    };
    for watcher in watchers {
        watcher.event(mask::IN_UNMOUNT, 0, None);
    }
}

/// An entry moved from one directory to another (or the same), over one that is gone then if there was one.
pub fn moved(from: &Dentry, name: &[u8], to: &Dentry, new_name: &[u8], what: &Dentry, replaced: Option<&Arc<Dentry>>) {
    if is_quiet() {
        return;
    }
    static COOKIE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let cookie = COOKIE.fetch_add(1, Ordering::Relaxed);
    let bit = directory_bit(what);
    if let Ok(inode) = from.inode() {
        tell(&**inode, mask::IN_MOVED_FROM | bit, cookie, Some(name));
    }
    if let Ok(inode) = to.inode() {
        tell(&**inode, mask::IN_MOVED_TO | bit, cookie, Some(new_name));
    }
    let gone = replaced.and_then(|dentry| dentry.inode().ok());
    if let Some(inode) = gone.filter(|inode| inode.kind() != FileType::Directory) {
        links_changed(&**inode);
    }
    if let Ok(inode) = what.inode() {
        tell(&**inode, mask::IN_MOVE_SELF, 0, None);
    }
    if let Some(replaced) = replaced {
        end_if_unused(replaced);
    }
}
