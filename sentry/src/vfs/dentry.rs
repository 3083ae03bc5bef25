//! The cache of names: which entry of which directory is which inode.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::FileType;

use crate::sync::{Mutex, MutexGuard, Rank};
use crate::vfs::{Inode, Vfs, notify};

/// How many names are kept though nobody uses them.
const KEPT: usize = 16 << 10;

/// The names below a directory that are known; the cache keeps recent ones alive, users the others.
pub type Children = HashMap<Arc<[u8]>, Weak<Dentry>>;

/// A name in a directory, and what it stands for: an inode, or (negative) the knowledge that nothing is there.
///
/// While a name is in use there is one `Dentry` for it, so that mounts and working directories on it are found again.
pub struct Dentry {
    vfs: Arc<Vfs>,
    place: Mutex<Place>,
    inode: Option<Arc<dyn Inode>>,
    /// Held over changes of the directory, so that nobody sees one half done.
    children: Mutex<Children>,
    id: u64,
    volatile: bool,
    removed: AtomicBool,
    mounts: AtomicU32,
    recently_used: AtomicBool,
    /// That it came to its end was told.
    ended: AtomicBool,
    /// Its place among the kept ones; 0 if it is not kept.
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

    /// The root of a file system, or an inode that has no name (an anonymous file, `O_TMPFILE`).
    pub fn root(vfs: &Arc<Vfs>, inode: Arc<dyn Inode>) -> Arc<Self> {
        let volatile = inode.file_system().is_volatile();
        Self::new(vfs, Place { parent: None, name: Arc::from(&b"/"[..]) }, Some(inode), volatile)
    }

    /// A dentry for an unnamed file, shown by `/proc/PID/fd` under `name`.
    pub fn unnamed(vfs: &Arc<Vfs>, inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Self> {
        let dentry = Self::new(vfs, Place { parent: None, name: Arc::from(name) }, Some(inode), false);
        dentry.removed.store(true, Ordering::Relaxed);
        dentry
    }

    /// What all files of its kernel share.
    pub fn vfs(&self) -> &Arc<Vfs> {
        &self.vfs
    }

    /// A number no other dentry of the sandbox ever had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it stands for.
    ///
    /// # Errors
    /// `ENOENT` for a negative entry.
    pub fn inode(&self) -> Result<&Arc<dyn Inode>, Errno> {
        self.inode.as_ref().ok_or_else(|| Errno::ENOENT.here())
    }

    /// Whether nothing is there.
    pub fn is_negative(&self) -> bool {
        self.inode.is_none()
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.inode.as_ref().is_some_and(|i| i.kind() == FileType::Directory)
    }

    /// The directory it is in; none for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// Its name in that directory.
    pub fn name(&self) -> Arc<[u8]> {
        self.place.lock().name.clone()
    }

    /// Whether the name is gone though somebody still uses what it stood for.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// True for the first who asks: that one tells of its end.
    pub(super) fn take_end(&self) -> bool {
        !self.ended.swap(true, Ordering::Relaxed)
    }

    /// Whether `other` is this dentry or lies beneath it.
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(self, &dentry) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Whether something may be mounted here, on some mount.
    pub fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Acquire) > 0
    }

    pub(super) fn note_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn note_unmount(&self) {
        self.mounts.fetch_sub(1, Ordering::AcqRel);
    }

    /// Locks the directory against changes. Of two directories, the caller locks the ancestor first, under the rename
    /// lock of [`change`](crate::vfs::change), which makes the order the same for all.
    pub fn lock_children(&self, beside: bool) -> MutexGuard<'_, Children> {
        if beside { self.children.lock_beside() } else { self.children.lock() }
    }

    /// Finds an entry, in the cache or in the file system; it may be negative.
    pub fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
        if self.volatile {
            return self.lookup_volatile(name);
        }
        let (found, fresh) = self.lookup_locked(&mut self.children.lock(), name)?;
        found.use_it(fresh);
        Ok(found)
    }

    /// What the cache alone knows of an entry.
    pub fn cached(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        if self.volatile {
            return None;
        }
        self.children.lock().get(name).and_then(Weak::upgrade)
    }

    /// Like [`lookup`](Self::lookup) with the directory locked by the caller. Says whether the entry is new to the
    /// cache; then the caller calls [`use_it`](Self::use_it) after it gave back the lock.
    pub fn lookup_locked(self: &Arc<Self>, children: &mut Children, name: &[u8]) -> Result<(Arc<Dentry>, bool), Errno> {
        let directory = self.inode()?;
        if let Some(found) = children.get(name).and_then(Weak::upgrade) {
            if !self.volatile || found.is_mount_point() {
                return Ok((found, false));
            }
            if found.inode.as_ref().is_some_and(|inode| directory.revalidate(name, inode)) {
                return Ok((found, false));
            }
            found.removed.store(true, Ordering::Release);
            // What the host did behind our back is told to nobody, least of all below this lock.
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

    /// Volatile file systems are asked without the lock, since they may take locks of the kernel's other parts.
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

    /// Puts an entry into the cache in place of what was known under that name.
    pub fn add_locked(
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

    /// The entry of an inode that was just made in this directory.
    pub fn graft(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        self.add_locked(&mut self.children.lock(), name, Some(inode))
    }

    /// Forgets an entry that the file system has no more. It is no longer kept: with its last user the file's contents
    /// go as well.
    pub fn remove_locked(&self, children: &mut Children, child: &Arc<Dentry>) {
        child.removed.store(true, Ordering::Release);
        children.remove(&child.name());
        // The caller has the entry too, so its end is not here, below a lock.
        self.vfs.names.kept.lock().take(child);
    }

    /// Gives an entry a new place, as rename(2) does; both directories are locked by the caller, or they are one and
    /// `to` is none.
    pub fn move_locked(
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

    /// Swaps the places of two entries, as `RENAME_EXCHANGE` does. `mine` are the children of `other`'s directory and
    /// `theirs` those of this one's, or none if they are in the same.
    pub fn exchange_locked(self: &Arc<Self>, other: &Arc<Dentry>, mine: &mut Children, theirs: Option<&mut Children>) {
        let name = {
            let mut place = self.place.lock();
            // No other thread locks two places: exchanges run one at a time, under the rename lock.
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

    /// Marks the entry as used, so that it stays in the cache; `fresh` ones enter it.
    pub fn use_it(self: &Arc<Self>, fresh: bool) {
        if fresh {
            self.vfs.names.keep(self.clone());
        } else if !self.recently_used.load(Ordering::Relaxed) {
            self.recently_used.store(true, Ordering::Relaxed);
        }
    }
}

/// Puts an entry under a name; what was known there is kept no longer.
fn put(children: &mut Children, name: Arc<[u8]>, dentry: &Arc<Dentry>) {
    if let Some(other) = children.insert(name, Arc::downgrade(dentry)).and_then(|other| other.upgrade())
        && !Arc::ptr_eq(&other, dentry)
    {
        dentry.vfs.names.kept.lock().retire_own(other);
    }
}

impl Drop for Dentry {
    /// A guest decides how deep its directories are, so ancestors that go along go one by one, not within each other.
    fn drop(&mut self) {
        notify::ended(self);
        let mut next = self.place.lock().parent.take();
        while let Some(dentry) = next.and_then(Arc::into_inner) {
            next = dentry.place.lock().parent.take();
        }
    }
}

/// The names of a kernel that are known.
pub struct NameCache {
    next_id: AtomicU64,
    kept: Mutex<Kept>,
}

/// Entries kept though nobody uses them, the one longest kept first.
#[derive(Default)]
struct Kept {
    entries: BTreeMap<u64, Arc<Dentry>>,
    /// Those whose names stand for something else now, to be let go of by the next who does so without locks.
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

    /// Like [`retire`](Self::retire), with the caller's own hold on the entry.
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

    /// Adds an entry to the kept ones and lets the oldest go that was not used since it was last looked at.
    fn keep(&self, dentry: Arc<Dentry>) {
        let mut gone = Vec::new();
        {
            let mut kept = self.kept.lock();
            // One that was removed, or kept by another user, meanwhile needs no place.
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
        // Dropped without the lock: the last user of an inode may have work to do.
        drop(gone);
    }

    /// Lets go of all names that nobody uses: memory is scarce, or the sandbox has ended.
    pub fn forget_unused(&self) {
        let gone = {
            let mut kept = self.kept.lock();
            let entries = std::mem::take(&mut kept.entries);
            entries.values().for_each(|dentry| dentry.kept_as.store(0, Ordering::Relaxed));
            (entries, std::mem::take(&mut kept.retired))
        };
        drop(gone);
    }

    /// Lets go of all names below the root of a file system that nobody uses, so that it can end. It looks at these only,
    /// not at the names of other file systems.
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
