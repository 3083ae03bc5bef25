//! Reports of file operations, for inotify(7).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::{Device, FileType};

use crate::sync::{Mutex, Rank};
use crate::vfs::{Dentry, Inode, Path, Vfs};

/// The receiver of an inode's events: a watch of an inotify instance.
pub(crate) trait Watcher: Send + Sync {
    /// Reports an event of the inode, or of the entry `name` of a watched directory. `mask` has `IN_` bits (with
    /// `IN_ISDIR`, and `IN_EXCL_UNLINK` for an entry whose name was removed), whether or not the watch includes them;
    /// `cookie` connects the two events of a rename.
    fn event(&self, mask: u32, cookie: u32, name: Option<&[u8]>);
}

/// The inode: device and number, which are stable while it is referenced.
type Key = (u64, u64);

/// The watchers of each inode, by the number of the watch.
type Registry = BTreeMap<Key, BTreeMap<u64, Weak<dyn Watcher>>>;

/// The watches of a kernel.
pub(crate) struct Watches {
    /// The number of watches, so that events are cheap without any.
    count: AtomicUsize,
    registry: Mutex<Registry>,
    next_watch: AtomicU64,
    next_cookie: AtomicU32,
}

impl Watches {
    pub(super) fn new() -> Self {
        Watches {
            count: AtomicUsize::new(0),
            registry: Mutex::new(Rank::Leaf, Registry::new()),
            next_watch: AtomicU64::new(1),
            next_cookie: AtomicU32::new(1),
        }
    }

    fn is_quiet(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    fn report(&self, inode: &dyn Inode, mask: u32, cookie: u32, name: Option<&[u8]>) {
        let Some(key) = key(inode) else { return };
        let watchers: Vec<_> = {
            let registry = self.registry.lock();
            let Some(list) = registry.get(&key) else { return };
            list.values().filter_map(Weak::upgrade).collect()
        };
        for watcher in watchers {
            watcher.event(mask, cookie, name);
        }
    }
}

/// A watch, which is removed when dropped.
pub(crate) struct Watch {
    vfs: Arc<Vfs>,
    key: Key,
    id: u64,
    /// Keeps the inode, and so its number, in use.
    _inode: Arc<dyn Inode>,
}

impl Watch {
    /// The key of the inode, equal for equal inodes.
    pub(crate) fn key(&self) -> (u64, u64) {
        self.key
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watches = &self.vfs.watches;
        watches.count.fetch_sub(1, Ordering::Relaxed);
        let mut registry = watches.registry.lock();
        if let Some(list) = registry.get_mut(&self.key) {
            list.remove(&self.id);
            if list.is_empty() {
                registry.remove(&self.key);
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
/// Errors of reading the inode's identity.
pub(crate) fn watch(vfs: &Arc<Vfs>, inode: &Arc<dyn Inode>, watcher: Weak<dyn Watcher>) -> Result<Watch, Errno> {
    let (device, number) = inode.identity()?;
    let key = (device.raw(), number);
    let id = vfs.watches.next_watch.fetch_add(1, Ordering::Relaxed);
    vfs.watches.registry.lock().entry(key).or_default().insert(id, watcher);
    vfs.watches.count.fetch_add(1, Ordering::Relaxed);
    Ok(Watch { vfs: vfs.clone(), key, id, _inode: inode.clone() })
}

/// Events, as bits of `inotify_event.mask`.
pub(crate) mod mask {
    /// A file was read or executed.
    pub(crate) const IN_ACCESS: u32 = 0x1;
    /// A file was written or truncated.
    pub(crate) const IN_MODIFY: u32 = 0x2;
    /// Attributes changed.
    pub(crate) const IN_ATTRIB: u32 = 0x4;
    /// A file open for writing was closed.
    pub(crate) const IN_CLOSE_WRITE: u32 = 0x8;
    /// A file or directory not open for writing was closed.
    pub(crate) const IN_CLOSE_NOWRITE: u32 = 0x10;
    /// A file or directory was opened.
    pub(crate) const IN_OPEN: u32 = 0x20;
    /// An entry was renamed away from the directory.
    pub(crate) const IN_MOVED_FROM: u32 = 0x40;
    /// An entry was renamed into the directory.
    pub(crate) const IN_MOVED_TO: u32 = 0x80;
    /// An entry was created.
    pub(crate) const IN_CREATE: u32 = 0x100;
    /// An entry was removed.
    pub(crate) const IN_DELETE: u32 = 0x200;
    /// The watched object was removed.
    pub(crate) const IN_DELETE_SELF: u32 = 0x400;
    /// The watched object was renamed.
    pub(crate) const IN_MOVE_SELF: u32 = 0x800;
    /// The file system was unmounted.
    pub(crate) const IN_UNMOUNT: u32 = 0x2000;
    /// In an event: the entry's name was removed.
    pub(crate) const IN_EXCL_UNLINK: u32 = 0x400_0000;
    /// The subject is a directory.
    pub(crate) const IN_ISDIR: u32 = 0x4000_0000;
}

fn directory_bit(dentry: &Dentry) -> u32 {
    if dentry.is_directory() { mask::IN_ISDIR } else { 0 }
}

/// Reports an event of the file at a path (`IN_ACCESS`, `IN_MODIFY`, `IN_ATTRIB`, `IN_OPEN`, `IN_CLOSE_*`) to watchers
/// of the file and of its directory.
pub(crate) fn happened(path: &Path, mask: u32) {
    if path.dentry.vfs().watches.is_quiet() {
        return;
    }
    on_dentry(&path.dentry, mask);
}

fn on_dentry(dentry: &Arc<Dentry>, mask: u32) {
    let watches = &dentry.vfs().watches;
    let Ok(inode) = dentry.inode() else { return };
    let mask = mask | directory_bit(dentry);
    if let Some(parent) = dentry.parent()
        && let Ok(directory) = parent.inode()
    {
        let unlinked = if dentry.is_removed() { mask::IN_EXCL_UNLINK } else { 0 };
        watches.report(&**directory, mask | unlinked, 0, Some(&dentry.name()));
    }
    watches.report(&**inode, mask, 0, None);
}

/// Reports `IN_CREATE` or `IN_DELETE` of a directory entry.
pub(crate) fn entry(directory: &Dentry, child: &Dentry, name: &[u8], mask: u32) {
    let watches = &directory.vfs().watches;
    if watches.is_quiet() {
        return;
    }
    if let Ok(inode) = directory.inode() {
        watches.report(&**inode, mask | directory_bit(child), 0, Some(name));
    }
}

/// Reports a change of an inode's link count to its own watchers.
pub(crate) fn links_changed(vfs: &Vfs, inode: &dyn Inode) {
    if !vfs.watches.is_quiet() {
        vfs.watches.report(inode, mask::IN_ATTRIB, 0, None);
    }
}

/// Reports the removal of a name: `IN_ATTRIB` for the link count, and `IN_DELETE_SELF` if it was the last name and the
/// file is not open. For a directory there is no `IN_ATTRIB`.
pub(crate) fn name_removed(name: &Arc<Dentry>) {
    if name.vfs().watches.is_quiet() {
        return;
    }
    if let Ok(inode) = name.inode()
        && inode.kind() != FileType::Directory
    {
        links_changed(name.vfs(), &**inode);
    }
    end_if_unused(name);
}

/// The second half of [`name_removed`]; the caller's reference is not counted as a use.
fn end_if_unused(name: &Arc<Dentry>) {
    if name.is_directory() || Arc::strong_count(name) == 1 {
        ended(name);
    }
}

/// Reports `IN_DELETE_SELF`, once, when a removed name is no longer in use and the inode has no other name.
pub(super) fn ended(name: &Dentry) {
    let watches = &name.vfs().watches;
    if watches.is_quiet() || !name.is_removed() {
        return;
    }
    if let Ok(inode) = name.inode()
        && inode.metadata().map_or(true, |m| m.links == 0)
        && name.take_end()
    {
        watches.report(&**inode, mask::IN_DELETE_SELF, 0, None);
    }
}

/// Ends the watches of a file system's inodes, because it is no longer mounted.
pub(super) fn unmounted(vfs: &Vfs, device: Device) {
    if vfs.watches.is_quiet() {
        return;
    }
    let watchers: Vec<_> = {
        let registry = vfs.watches.registry.lock();
        let on_device = registry.range((device.raw(), 0)..=(device.raw(), u64::MAX));
        on_device.flat_map(|(_, list)| list.values()).filter_map(Weak::upgrade).collect()
    };
    for watcher in watchers {
        watcher.event(mask::IN_UNMOUNT, 0, None);
    }
}

/// Reports the move of an entry between directories, possibly the same, replacing an entry if there was one.
pub(crate) fn moved(
    from: &Dentry,
    name: &[u8],
    to: &Dentry,
    new_name: &[u8],
    what: &Dentry,
    replaced: Option<&Arc<Dentry>>,
) {
    let watches = &what.vfs().watches;
    if watches.is_quiet() {
        return;
    }
    let cookie = watches.next_cookie.fetch_add(1, Ordering::Relaxed);
    let bit = directory_bit(what);
    if let Ok(inode) = from.inode() {
        watches.report(&**inode, mask::IN_MOVED_FROM | bit, cookie, Some(name));
    }
    if let Ok(inode) = to.inode() {
        watches.report(&**inode, mask::IN_MOVED_TO | bit, cookie, Some(new_name));
    }
    let gone = replaced.and_then(|dentry| dentry.inode().ok());
    if let Some(inode) = gone.filter(|inode| inode.kind() != FileType::Directory) {
        links_changed(what.vfs(), &**inode);
    }
    if let Ok(inode) = what.inode() {
        watches.report(&**inode, mask::IN_MOVE_SELF, 0, None);
    }
    if let Some(replaced) = replaced {
        end_if_unused(replaced);
    }
}
