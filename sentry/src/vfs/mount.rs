//! Mounts: file systems, or parts of them, attached to the mount tree.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;

use crate::sync::{Mutex, Rank};
use crate::vfs::{Dentry, FileSystem, Inode, MountNamespace, Vfs, notify, propagation};

/// A place in a mount tree: a positive dentry on a mount.
#[derive(Clone)]
pub(crate) struct Path {
    /// The mount.
    pub mount: Arc<Mount>,
    /// The dentry in the mount's file system.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// The inode.
    pub(crate) fn inode(&self) -> Result<&Arc<dyn Inode>, Errno> {
        self.dentry.inode()
    }

    /// Whether both are the same place.
    pub(crate) fn is(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// Whether it is the root of its mount.
    pub(crate) fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.mount.root, &self.dentry)
    }

    /// Whether it is `root` or a descendant. The caller holds the rename lock, so that names do not change.
    pub(super) fn is_under(&self, root: &Path) -> bool {
        let mut at = self.clone();
        while !Arc::ptr_eq(&at.mount, &root.mount) {
            match at.mount.place() {
                Some(place) => at = place,
                None => return false,
            }
        }
        root.dentry.is_ancestor_of(&at.dentry)
    }

    /// Follows the mounts stacked on this place to the topmost one, which path walks see.
    pub(crate) fn topmost(mut self) -> Path {
        while self.dentry.is_mount_point()
            && let Some(mount) = self.mount.child(&self.dentry)
        {
            self = mount.root_path();
        }
        self
    }

    /// The path as seen from `root`, and whether it is below `root`. If not, the path starts at the root of the mount
    /// tree. A removed name is not marked here.
    pub(crate) fn text(&self, root: &Path) -> (Vec<u8>, bool) {
        let mut names: Vec<Arc<[u8]>> = Vec::new();
        let mut at = self.clone();
        let reachable = loop {
            if at.is(root) {
                break true;
            }
            if at.is_mount_root() {
                match at.mount.place() {
                    Some(place) => at = place,
                    None => break false,
                }
                continue;
            }
            let name = at.dentry.name();
            match at.dentry.parent() {
                Some(parent) => {
                    names.push(name);
                    at.dentry = parent;
                }
                None => {
                    names.push(name);
                    break false;
                }
            }
        };
        let mut text = Vec::new();
        for name in names.iter().rev() {
            text.push(b'/');
            text.extend_from_slice(name);
        }
        if text.is_empty() {
            text.push(b'/');
        }
        (text, reachable)
    }
}

bitflags::bitflags! {
    /// The options of a mount.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MountOptions: u32 {
        /// The mount is read-only.
        const READ_ONLY = 1;
        /// Execution ignores set-ID bits and file capabilities.
        const NO_SUID = 2;
        /// Device nodes cannot be opened.
        const NO_DEV = 4;
        /// Files cannot be executed.
        const NO_EXEC = 8;
        /// Symbolic links are not followed.
        const NO_SYMLINK_FOLLOW = 16;
        /// Access times are not updated.
        const NO_ATIME = 32;
        /// Access times of directories are not updated.
        const NO_DIRECTORY_ATIME = 64;
        /// Access times are updated only under the conditions of `relatime` (mount(8)).
        const RELATIVE_ATIME = 128;
    }
}

/// The state of a file system instance, shared by all its mounts.
pub(crate) struct SuperBlock {
    /// The file system.
    pub fs: Arc<dyn FileSystem>,
    /// The file system's root.
    pub root: Arc<Dentry>,
    read_only: AtomicBool,
    /// Read-only for good: inherently, or because the sandbox was given it so.
    stays_read_only: AtomicBool,
    writers: AtomicUsize,
}

impl SuperBlock {
    /// Makes a super block for a file system.
    pub(crate) fn new(vfs: &Arc<Vfs>, fs: Arc<dyn FileSystem>, read_only: bool) -> Arc<Self> {
        let root = Dentry::root(vfs, fs.root());
        let stays = fs.stays_read_only();
        Arc::new(SuperBlock {
            fs,
            root,
            read_only: AtomicBool::new(read_only || stays),
            stays_read_only: AtomicBool::new(stays),
            writers: AtomicUsize::new(0),
        })
    }

    /// Whether the file system is read-only, through all mounts.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// Makes it read-only for good; the guest cannot change that.
    pub(crate) fn keep_read_only(&self) {
        self.read_only.store(true, Ordering::SeqCst);
        self.stays_read_only.store(true, Ordering::SeqCst);
    }

    /// Sets whether it is read-only.
    ///
    /// # Errors
    /// `EBUSY` while files are open for writing; `EROFS` if it stays read-only.
    pub(crate) fn set_read_only(&self, value: bool) -> Result<(), Errno> {
        if !value && self.stays_read_only.load(Ordering::SeqCst) {
            return Err(Errno::EROFS.here());
        }
        let old = self.read_only.swap(value, Ordering::SeqCst);
        if value && self.writers.load(Ordering::SeqCst) > 0 {
            self.read_only.store(old, Ordering::SeqCst);
            return Err(Errno::EBUSY.here());
        }
        Ok(())
    }
}

impl Drop for SuperBlock {
    fn drop(&mut self) {
        notify::unmounted(self.root.vfs(), self.fs.device());
        self.root.vfs().names.forget_below(&self.root);
        self.fs.shut_down();
    }
}

/// How mounts below a mount propagate (see mount_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Propagation {
    /// The peer group, if shared.
    pub group: Option<u32>,
    /// The peer group from which mounts are received, if a slave.
    pub master: Option<u32>,
    /// Whether it cannot be bound elsewhere.
    pub unbindable: bool,
}

/// Memory of a mount with its entries in tables, in bytes.
pub(super) const MOUNT_BYTES: u64 = size_of::<Mount>() as u64 + 256;

/// A mount: a file system, or a part of one, at a place of the mount tree.
pub(crate) struct Mount {
    /// The ID in `/proc/PID/mountinfo`.
    pub id: u32,
    /// The unique ID, never reused.
    pub unique_id: u64,
    /// The file system.
    pub super_block: Arc<SuperBlock>,
    /// The root of the mount: the file system's root, or a part of it in bind mounts.
    pub root: Arc<Dentry>,
    /// The device in `/proc/mounts`.
    pub source: Vec<u8>,
    options: AtomicU32,
    writers: AtomicUsize,
    expiring: AtomicBool,
    /// Whether it was never in a namespace, so that it can still be added to one.
    fresh: AtomicBool,
    place: Mutex<Option<(Weak<Mount>, Arc<Dentry>)>>,
    children: Mutex<HashMap<u64, Arc<Mount>>>,
    propagation: Mutex<Propagation>,
    namespace: Mutex<Weak<MountNamespace>>,
}

impl Mount {
    /// Makes a mount that is not attached.
    pub(crate) fn new(
        super_block: Arc<SuperBlock>,
        root: Arc<Dentry>,
        source: impl Into<Vec<u8>>,
        options: MountOptions,
    ) -> Arc<Self> {
        let number = root.vfs().mounts.number_mount();
        Arc::new(Mount {
            // Linux starts its unique IDs above 32 bits, so that the two kinds cannot be confused.
            id: 20u32.wrapping_add(number as u32),
            unique_id: (1 << 31) + number,
            super_block,
            root,
            source: source.into(),
            options: AtomicU32::new(options.bits()),
            writers: AtomicUsize::new(0),
            expiring: AtomicBool::new(false),
            fresh: AtomicBool::new(true),
            place: Mutex::new(Rank::Leaf, None),
            children: Mutex::new(Rank::Leaf, HashMap::new()),
            propagation: Mutex::new(Rank::Leaf, Propagation::default()),
            namespace: Mutex::new(Rank::Leaf, Weak::new()),
        })
    }

    /// A mount for the inodes of an internal file system, such as that of pipes.
    pub(crate) fn internal(vfs: &Arc<Vfs>, fs: Arc<dyn FileSystem>) -> Arc<Self> {
        let super_block = SuperBlock::new(vfs, fs, false);
        let root = super_block.root.clone();
        Mount::new(super_block, root, "none", MountOptions::empty())
    }

    /// A copy of the mount with the root `root` and the same options.
    pub(crate) fn copy(&self, root: Arc<Dentry>) -> Arc<Mount> {
        let copy = Mount::new(self.super_block.clone(), root, self.source.clone(), self.options());
        *copy.propagation.lock() = Propagation { unbindable: false, ..self.propagation() };
        copy
    }

    /// The file system.
    pub(crate) fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.super_block.fs
    }

    /// The path of the mount's root.
    pub(crate) fn root_path(self: &Arc<Self>) -> Path {
        Path { mount: self.clone(), dentry: self.root.clone() }
    }

    /// The options.
    pub(crate) fn options(&self) -> MountOptions {
        MountOptions::from_bits_truncate(self.options.load(Ordering::Relaxed))
    }

    /// Replaces the options.
    ///
    /// # Errors
    /// `EBUSY` if it would become read-only while files are open for writing.
    pub(crate) fn set_options(&self, options: MountOptions) -> Result<(), Errno> {
        let old = self.options.swap(options.bits(), Ordering::SeqCst);
        if options.contains(MountOptions::READ_ONLY) && self.writers.load(Ordering::SeqCst) > 0 {
            self.options.store(old, Ordering::SeqCst);
            return Err(Errno::EBUSY.here());
        }
        Ok(())
    }

    /// Counts a file that is opened for writing: the mount cannot become read-only until the writer is dropped.
    ///
    /// # Errors
    /// `EROFS` if the mount or file system is read-only.
    pub(crate) fn begin_writing(self: &Arc<Self>) -> Result<Writer, Errno> {
        let writer = Writer(self.clone());
        // Incremented before the check: making the mount read-only sets the flag first and then reads the count.
        self.writers.fetch_add(1, Ordering::SeqCst);
        self.super_block.writers.fetch_add(1, Ordering::SeqCst);
        self.check_writable().map(|()| writer)
    }

    /// Whether the mount or the file system is read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.options().contains(MountOptions::READ_ONLY) || self.super_block.is_read_only()
    }

    /// Returns `EROFS` if the mount or the file system is read-only.
    pub(crate) fn check_writable(&self) -> Result<(), Errno> {
        if self.is_read_only() { Err(Errno::EROFS.here()) } else { Ok(()) }
    }

    /// The place where it is attached; none for the root of a tree and for detached mounts.
    pub(crate) fn place(&self) -> Option<Path> {
        let (parent, dentry) = self.place.lock().clone()?;
        Some(Path { mount: parent.upgrade()?, dentry })
    }

    /// The mount attached to one of its dentries.
    pub(crate) fn child(&self, dentry: &Dentry) -> Option<Arc<Mount>> {
        self.children.lock().get(&dentry.id()).cloned()
    }

    /// The mounts attached to its dentries, oldest first.
    pub(crate) fn child_mounts(&self) -> Vec<Arc<Mount>> {
        let mut mounts: Vec<_> = self.children.lock().values().cloned().collect();
        mounts.sort_by_key(|m| m.unique_id);
        mounts
    }

    /// The mount and all its descendants, parents first.
    pub(crate) fn tree(self: &Arc<Self>) -> Vec<Arc<Mount>> {
        let mut all = vec![self.clone()];
        let mut at = 0;
        while let Some(mount) = all.get(at).cloned() {
            all.extend(mount.child_mounts());
            at += 1;
        }
        all
    }

    /// Its propagation.
    pub(crate) fn propagation(&self) -> Propagation {
        *self.propagation.lock()
    }

    /// Changes its propagation.
    pub(crate) fn set_propagation(&self, value: Propagation) {
        let old = std::mem::replace(&mut *self.propagation.lock(), value);
        propagation::left(self, old, value);
    }

    /// The namespace it belongs to, if any.
    pub(crate) fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.namespace.lock().upgrade()
    }

    pub(super) fn enter_namespace(&self, namespace: &Weak<MountNamespace>) {
        let old = std::mem::replace(&mut *self.namespace.lock(), namespace.clone());
        if let Some(old) = old.upgrade() {
            old.note_left();
        }
        if let Some(new) = namespace.upgrade() {
            self.fresh.store(false, Ordering::Relaxed);
            new.note_entered();
        }
    }

    /// Whether it was never attached, as opposed to a detached mount.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed) && self.place.lock().is_none()
    }

    /// Attaches the mount and its descendants to a place. The caller holds the lock of changes.
    pub(crate) fn attach(self: &Arc<Self>, place: &Path) {
        let namespace = place.mount.namespace.lock().clone();
        for mount in self.tree() {
            mount.enter_namespace(&namespace);
        }
        self.hang(place);
    }

    /// Attaches the mount to a place of a mount in the same namespace, or also in none. A mount at that place is moved
    /// on top of this one.
    pub(super) fn hang(self: &Arc<Self>, place: &Path) {
        let covered = place.dentry.vfs().tree_changes.make(|| {
            *self.place.lock() = Some((Arc::downgrade(&place.mount), place.dentry.clone()));
            place.dentry.note_mount();
            place.mount.children.lock().insert(place.dentry.id(), self.clone())
        });
        if let Some(covered) = covered {
            place.dentry.note_unmount();
            covered.hang(&self.root_path().topmost());
        }
    }

    /// Detaches the mount and its descendants. The caller holds the lock of changes.
    pub(super) fn detach(self: &Arc<Self>) {
        self.unhang();
        self.tree().iter().for_each(|mount| mount.leave_namespace());
    }

    /// Detaches the mount from its place; it stays in its namespace. The caller holds the lock of changes.
    pub(super) fn unhang(&self) {
        let removed = self.root.vfs().tree_changes.make(|| {
            let (parent, dentry) = self.place.lock().take()?;
            dentry.note_unmount();
            let parent = parent.upgrade();
            let removed = parent.as_ref().and_then(|parent| parent.children.lock().remove(&dentry.id()));
            Some((parent, dentry, removed))
        });
        drop(removed);
    }

    /// Removes the mount from its namespace.
    pub(super) fn leave_namespace(&self) {
        self.enter_namespace(&Weak::new());
    }

    /// Whether it is attached to the root of another mount.
    pub(super) fn covers(&self, other: &Mount) -> bool {
        self.place
            .lock()
            .as_ref()
            .is_some_and(|(mount, place)| std::ptr::eq(mount.as_ptr(), other) && Arc::ptr_eq(place, &other.root))
    }

    /// The mount attached to its root.
    pub(super) fn cover(&self) -> Option<Arc<Mount>> {
        self.child(&self.root)
    }

    /// Marks the mount as expiring (`MNT_EXPIRE`). Returns whether it was marked already.
    pub(crate) fn expire(&self) -> bool {
        self.expiring.swap(true, Ordering::Relaxed)
    }

    /// Clears that mark, because a path walk used the mount.
    pub(crate) fn note_use(&self) {
        self.expiring.store(false, Ordering::Relaxed);
    }

    /// Whether it is in use, by an open file, a working directory or a mount below, beside its parent. `own` is the
    /// number of the caller's references.
    pub(crate) fn is_busy(self: &Arc<Self>, own: usize) -> bool {
        self.is_used(own) || !self.children.lock().is_empty()
    }

    /// Like [`is_busy`](Self::is_busy), ignoring mounts below.
    pub(super) fn is_used(self: &Arc<Self>, own: usize) -> bool {
        Arc::strong_count(self) > own + 1
    }
}

impl Drop for Mount {
    /// The guest controls how many mounts are stacked, so those above are dropped in a loop, not recursively.
    fn drop(&mut self) {
        let propagation = *self.propagation.get_mut();
        propagation::left(self, propagation, Propagation::default());
        if let Some((_, dentry)) = self.place.get_mut().take() {
            // The mount is dropped with its namespace, so nothing is attached there any more.
            dentry.note_unmount();
        }
        let mut above: Vec<_> = self.children.get_mut().drain().map(|(_, mount)| mount).collect();
        while let Some(mount) = above.pop() {
            if let Some(mut mount) = Arc::into_inner(mount) {
                above.extend(mount.children.get_mut().drain().map(|(_, mount)| mount));
            }
        }
    }
}

/// A file open for writing, which keeps its mount writable.
pub(crate) struct Writer(Arc<Mount>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Ordering::SeqCst);
        self.0.super_block.writers.fetch_sub(1, Ordering::SeqCst);
    }
}
