//! The dentry cache: names of directory entries and their inodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::FileType;

use crate::sync::{Mutex, MutexGuard, Rank};
use crate::vfs::{Inode, Vfs, notify};

/// The number of unused dentries that are cached.
const KEPT: usize = 16 << 10;

/// The cached entries of a directory. The cache keeps recently used ones alive, and users the others.
pub(super) type Children = HashMap<Arc<[u8]>, Weak<Dentry>>;

/// A name in a directory and its inode, or (negative) the fact that the name does not exist.
///
/// While a name is in use there is exactly one `Dentry` for it, so that mounts and working directories on it are found.
pub(crate) struct Dentry {
    vfs: Arc<Vfs>,
    place: Mutex<Place>,
    inode: Option<Arc<dyn Inode>>,
    /// Locked over changes of the directory, so that they are atomic.
    children: Mutex<Children>,
    id: u64,
    volatile: bool,
    removed: AtomicBool,
    mounts: AtomicU32,
    recently_used: AtomicBool,
    /// Whether the end of the name was reported to watchers.
    ended: AtomicBool,
    /// Its key in the list of cached entries; 0 if it is not in the list.
    kept_as: AtomicU64,
}

struct Place {
    parent: Option<Arc<Dentry>>,
    name: Arc<[u8]>,
}

impl Dentry {
    fn new(vfs: &Arc<Vfs>, place: Place, inode: Option<Arc<dyn Inode>>, volatile: bool) -> Arc<Self> {
        Arc::new(Dentry {
            vfs: vfs.clone(),
            place: Mutex::new(Rank::Leaf, place),
            inode,
            children: Mutex::new(Rank::Dentries, Children::new()),
            id: vfs.names.next_id.fetch_add(1, Ordering::Relaxed),
            volatile,
            removed: AtomicBool::new(false),
            mounts: AtomicU32::new(0),
            recently_used: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            kept_as: AtomicU64::new(0),
        })
    }

    /// The root of a file system, or an inode without a name (an anonymous file, `O_TMPFILE`).
    pub(crate) fn root(vfs: &Arc<Vfs>, inode: Arc<dyn Inode>) -> Arc<Self> {
        let volatile = inode.file_system().is_volatile();
        Self::new(vfs, Place { parent: None, name: Arc::from(&b"/"[..]) }, Some(inode), volatile)
    }

    /// A dentry of an unnamed file, which `/proc/PID/fd` shows as `name`.
    pub(crate) fn unnamed(vfs: &Arc<Vfs>, inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Self> {
        let dentry = Self::new(vfs, Place { parent: None, name: Arc::from(name) }, Some(inode), false);
        dentry.removed.store(true, Ordering::Relaxed);
        dentry
    }

    /// The state shared by all files of the kernel.
    pub(crate) fn vfs(&self) -> &Arc<Vfs> {
        &self.vfs
    }

    /// A number that is unique in the sandbox and never reused.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The inode.
    ///
    /// # Errors
    /// `ENOENT` for a negative entry.
    pub(crate) fn inode(&self) -> Result<&Arc<dyn Inode>, Errno> {
        self.inode.as_ref().ok_or_else(|| Errno::ENOENT.here())
    }

    /// Whether the name does not exist.
    pub(crate) fn is_negative(&self) -> bool {
        self.inode.is_none()
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.inode.as_ref().is_some_and(|i| i.kind() == FileType::Directory)
    }

    /// The directory that contains it; none for a root.
    pub(crate) fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// Its name in that directory.
    pub(crate) fn name(&self) -> Arc<[u8]> {
        self.place.lock().name.clone()
    }

    /// Whether the name was removed. The inode may still be in use.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Returns true for the first caller, which then reports the end of the name to watchers.
    pub(super) fn take_end(&self) -> bool {
        !self.ended.swap(true, Ordering::Relaxed)
    }

    /// Whether `other` is this dentry or a descendant.
    pub(crate) fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(self, &dentry) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Whether something is mounted on it, through any mount of the file system.
    pub(crate) fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Acquire) > 0
    }

    pub(super) fn note_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn note_unmount(&self) {
        self.mounts.fetch_sub(1, Ordering::AcqRel);
    }

    /// Locks the directory against changes. To lock two directories, the caller holds the rename lock of
    /// [`change`](crate::vfs::change) and locks the ancestor first, so that the order is always the same.
    pub(crate) fn lock_children(&self, beside: bool) -> MutexGuard<'_, Children> {
        if beside { self.children.lock_beside() } else { self.children.lock() }
    }

    /// Finds an entry in the cache or in the file system; it may be negative.
    pub(crate) fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
        if self.volatile {
            return self.lookup_volatile(name);
        }
        let (found, fresh) = self.lookup_locked(&mut self.children.lock(), name)?;
        found.use_it(fresh);
        Ok(found)
    }

    /// The entry if it is in the cache.
    pub(crate) fn cached(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        if self.volatile {
            return None;
        }
        self.children.lock().get(name).and_then(Weak::upgrade)
    }

    /// Like [`lookup`](Self::lookup), with the directory locked by the caller. Also returns whether the entry is new in
    /// the cache; the caller then calls [`use_it`](Self::use_it) after it released the lock.
    pub(crate) fn lookup_locked(
        self: &Arc<Self>,
        children: &mut Children,
        name: &[u8],
    ) -> Result<(Arc<Dentry>, bool), Errno> {
        let directory = self.inode()?;
        if let Some(found) = children.get(name).and_then(Weak::upgrade) {
            if !self.volatile || found.is_mount_point() {
                return Ok((found, false));
            }
            if found.inode.as_ref().is_some_and(|inode| directory.revalidate(name, inode)) {
                return Ok((found, false));
            }
            found.removed.store(true, Ordering::Release);
            // Changes made on the host are not reported to watchers, in particular not under this lock.
            found.take_end();
            children.remove(name);
            self.vfs.names.kept.lock().retire(&found);
        }
        let inode = match directory.lookup(name) {
            Ok(inode) => Some(inode),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        Ok((self.add_locked(children, name, inode), true))
    }

    /// Lookups in volatile file systems run without the lock, since they may take locks of other parts of the kernel.
    fn lookup_volatile(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
        let directory = self.inode()?;
        let known = self.children.lock().get(name).and_then(Weak::upgrade);
        if let Some(found) = known {
            let inode = found.inode.as_ref();
            if found.is_mount_point() || inode.is_some_and(|inode| directory.revalidate(name, inode)) {
                found.use_it(false);
                return Ok(found);
            }
            let mut children = self.children.lock();
            if children.get(name).is_some_and(|w| std::ptr::eq(w.as_ptr(), Arc::as_ptr(&found))) {
                self.remove_locked(&mut children, &found);
            }
        }
        let inode = match directory.lookup(name) {
            Ok(inode) => inode,
            Err(Errno::ENOENT) => return Ok(Self::new(&self.vfs, self.place_of(name), None, true)),
            Err(errno) => return Err(errno),
        };
        let mut children = self.children.lock();
        if let Some(other) = children.get(name).and_then(Weak::upgrade)
            && other.inode.as_ref().is_some_and(|i| Arc::ptr_eq(i, &inode))
        {
            return Ok(other);
        }
        let dentry = self.add_locked(&mut children, name, Some(inode));
        drop(children);
        dentry.use_it(true);
        Ok(dentry)
    }

    fn place_of(self: &Arc<Self>, name: &[u8]) -> Place {
        Place { parent: Some(self.clone()), name: Arc::from(name) }
    }

    /// Adds an entry to the cache, in place of one with the same name.
    pub(crate) fn add_locked(
        self: &Arc<Self>,
        children: &mut Children,
        name: &[u8],
        inode: Option<Arc<dyn Inode>>,
    ) -> Arc<Dentry> {
        if children.len() >= 64 && children.len() == children.capacity() {
            children.retain(|_, child| child.strong_count() > 0);
        }
        let place = self.place_of(name);
        let key = place.name.clone();
        let dentry = Self::new(&self.vfs, place, inode, self.volatile);
        put(children, key, &dentry);
        dentry
    }

    /// Adds the entry of an inode that was just created in this directory.
    pub(crate) fn graft(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        self.add_locked(&mut self.children.lock(), name, Some(inode))
    }

    /// Removes an entry that the file system has removed. It is no longer cached, so that the file is freed with its
    /// last user.
    pub(crate) fn remove_locked(&self, children: &mut Children, child: &Arc<Dentry>) {
        child.removed.store(true, Ordering::Release);
        children.remove(&child.name());
        // The caller also holds a reference, so the entry is not dropped here, under a lock.
        self.vfs.names.kept.lock().take(child);
    }

    /// Moves an entry, as rename(2) does. The caller has locked both directories; `to` is none if they are the same.
    pub(crate) fn move_locked(
        self: &Arc<Self>,
        from: &mut Children,
        to: Option<&mut Children>,
        new_parent: &Arc<Dentry>,
        new_name: &[u8],
    ) {
        let name: Arc<[u8]> = Arc::from(new_name);
        let old = {
            let mut place = self.place.lock();
            std::mem::replace(&mut *place, Place { parent: Some(new_parent.clone()), name: name.clone() })
        };
        if from.get(&old.name).is_some_and(|w| std::ptr::eq(w.as_ptr(), Arc::as_ptr(self))) {
            from.remove(&old.name);
        }
        put(to.unwrap_or(from), name, self);
    }

    /// Exchanges two entries (`RENAME_EXCHANGE`). `mine` are the children of `other`'s directory and `theirs` those of
    /// this entry's directory, none if both are in the same directory.
    pub(crate) fn exchange_locked(
        self: &Arc<Self>,
        other: &Arc<Dentry>,
        mine: &mut Children,
        theirs: Option<&mut Children>,
    ) {
        let name = {
            let mut place = self.place.lock();
            // Only exchanges lock two places, and they run one at a time, under the rename lock.
            let mut others = other.place.lock_beside();
            std::mem::swap(&mut *place, &mut *others);
            (place.name.clone(), others.name.clone())
        };
        mine.insert(name.0, Arc::downgrade(self));
        match theirs {
            Some(theirs) => theirs.insert(name.1, Arc::downgrade(other)),
            None => mine.insert(name.1, Arc::downgrade(other)),
        };
    }

    /// Marks the entry as used, so that it stays in the cache; a `fresh` entry is added to it.
    pub(crate) fn use_it(self: &Arc<Self>, fresh: bool) {
        if fresh {
            self.vfs.names.keep(self.clone());
        } else if !self.recently_used.load(Ordering::Relaxed) {
            self.recently_used.store(true, Ordering::Relaxed);
        }
    }
}

/// Puts an entry under a name and drops the cached entry that had the name.
fn put(children: &mut Children, name: Arc<[u8]>, dentry: &Arc<Dentry>) {
    if let Some(other) = children.insert(name, Arc::downgrade(dentry)).and_then(|other| other.upgrade())
        && !Arc::ptr_eq(&other, dentry)
    {
        dentry.vfs.names.kept.lock().retire_own(other);
    }
}

impl Drop for Dentry {
    /// The guest controls the depth of its directories, so ancestors are dropped in a loop, not recursively.
    fn drop(&mut self) {
        notify::ended(self);
        let mut next = self.place.lock().parent.take();
        while let Some(dentry) = next.and_then(Arc::into_inner) {
            next = dentry.place.lock().parent.take();
        }
    }
}

/// The dentry cache of a kernel.
pub(crate) struct NameCache {
    next_id: AtomicU64,
    kept: Mutex<Kept>,
}

/// Cached entries, the oldest first.
#[derive(Default)]
struct Kept {
    entries: BTreeMap<u64, Arc<Dentry>>,
    /// Entries whose names were replaced; dropped by the next caller that holds no locks.
    retired: Vec<Arc<Dentry>>,
    last: u64,
}

impl Kept {
    fn add(&mut self, dentry: Arc<Dentry>) {
        self.last += 1;
        dentry.kept_as.store(self.last, Ordering::Relaxed);
        self.entries.insert(self.last, dentry);
    }

    fn take(&mut self, dentry: &Dentry) -> Option<Arc<Dentry>> {
        self.entries.remove(&dentry.kept_as.swap(0, Ordering::Relaxed))
    }

    fn retire(&mut self, dentry: &Dentry) {
        let kept = self.take(dentry);
        self.retired.extend(kept);
    }

    /// Like [`retire`](Self::retire), for a caller that gives up its own reference.
    fn retire_own(&mut self, dentry: Arc<Dentry>) {
        self.retire(&dentry);
        self.retired.push(dentry);
    }

    fn take_oldest(&mut self) -> Option<Arc<Dentry>> {
        let (_, dentry) = self.entries.pop_first()?;
        dentry.kept_as.store(0, Ordering::Relaxed);
        Some(dentry)
    }
}

impl NameCache {
    pub(super) fn new() -> Self {
        NameCache { next_id: AtomicU64::new(1), kept: Mutex::new(Rank::Leaf, Kept::default()) }
    }

    /// Adds an entry to the cache and evicts the oldest that were not used since their last check.
    fn keep(&self, dentry: Arc<Dentry>) {
        let mut gone = Vec::new();
        {
            let mut kept = self.kept.lock();
            // In the meantime the entry may have been removed, or added by another thread.
            if dentry.is_removed() || dentry.kept_as.load(Ordering::Relaxed) != 0 {
                return;
            }
            kept.add(dentry);
            gone.append(&mut kept.retired);
            let mut looks = 8;
            while kept.entries.len() > KEPT && looks > 0 {
                looks -= 1;
                let Some(oldest) = kept.take_oldest() else { break };
                if oldest.recently_used.swap(false, Ordering::Relaxed) && looks > 0 {
                    kept.add(oldest);
                } else {
                    gone.push(oldest);
                }
            }
        }
        // Dropped without the lock: the last reference to an inode may run its cleanup.
        drop(gone);
    }

    /// Evicts all unused entries, when memory is scarce or the sandbox has ended.
    pub(crate) fn forget_unused(&self) {
        let gone = {
            let mut kept = self.kept.lock();
            let entries = std::mem::take(&mut kept.entries);
            entries.values().for_each(|dentry| dentry.kept_as.store(0, Ordering::Relaxed));
            (entries, std::mem::take(&mut kept.retired))
        };
        drop(gone);
    }

    /// Evicts all unused entries below the root of a file system, so that it can be freed. Visits only these, not those
    /// of other file systems.
    pub(super) fn forget_below(&self, root: &Arc<Dentry>) {
        let mut gone = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(dentry) = open.pop() {
            open.extend(dentry.children.lock().values().filter_map(Weak::upgrade));
            gone.extend(self.kept.lock().take(&dentry));
            gone.push(dentry);
        }
        gone.append(&mut self.kept.lock().retired);
        drop(gone);
    }
}
