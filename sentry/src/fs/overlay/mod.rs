//! The overlay file system: a read-only tree under a layer in memory that receives all changes.
//!
//! The upper layer belongs to one overlay, so it has no on-disk format: a directory holds its changes (new and moved
//! entries, and whiteouts), and a changed inode refers to an unnamed inode of a tmpfs. An inode of the lower tree keeps
//! its number and device when it is changed, moved or linked. As on Linux, a file open for reading shows later writes,
//! but a mapping made before the first change keeps showing the lower file.

mod directory;
mod entries;
mod file;
mod inode;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::{Device, OVERLAYFS_SUPER_MAGIC, StatFs};

use crate::fs::tmpfs::TmpFs;
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::vfs::{FileSystem, Inode, Vfs};

use inode::OverlayInode;

/// The first inode number of inodes that are in no lower tree.
const UPPER_NUMBERS: u64 = 1 << 48;

/// A lower tree and its changes.
pub(crate) struct OverlayFs {
    lower: Arc<dyn FileSystem>,
    upper: Arc<TmpFs>,
    device: Device,
    /// Inodes of the lower tree in use, by their identity there.
    known: Mutex<HashMap<(Device, u64), Weak<OverlayInode>>>,
    /// Changed inodes, which are kept in memory while they have a name.
    changed: Mutex<HashMap<(Device, u64), Arc<OverlayInode>>>,
    root: Mutex<Option<Arc<OverlayInode>>>,
    me: SelfRef<OverlayFs>,
}

impl OverlayFs {
    /// Makes an overlay of `lower` and `upper`, which must be empty and not used elsewhere.
    ///
    /// # Errors
    /// Errors of the lower root.
    pub(crate) fn new(vfs: &Vfs, lower: Arc<dyn FileSystem>, upper: Arc<TmpFs>) -> Result<Arc<Self>, Errno> {
        let fs = Arc::new_cyclic(|me| OverlayFs {
            lower,
            upper,
            device: vfs.anonymous_device(),
            known: Mutex::new(Rank::Leaf, HashMap::new()),
            changed: Mutex::new(Rank::Leaf, HashMap::new()),
            root: Mutex::new(Rank::Leaf, None),
            me: SelfRef::new(me),
        });
        let root = fs.of_lower(fs.lower.root())?;
        *fs.root.lock() = Some(root);
        Ok(fs)
    }

    fn this(&self) -> Arc<OverlayFs> {
        self.me.get()
    }

    /// The inode for one of the lower tree.
    fn of_lower(&self, lower: Arc<dyn Inode>) -> Result<Arc<OverlayInode>, Errno> {
        let key = lower.identity()?;
        let mut known = self.known.lock();
        if let Some(inode) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(inode);
        }
        if known.len() >= 1024 && known.len() == known.capacity() {
            known.retain(|_, inode| inode.strong_count() > 0);
        }
        let inode = OverlayInode::of_lower(self.this(), key, lower);
        known.insert(key, Arc::downgrade(&inode));
        Ok(inode)
    }

    /// Keeps a changed inode of the lower tree in memory.
    fn anchor(&self, key: (Device, u64), inode: &Arc<OverlayInode>) {
        self.changed.lock().entry(key).or_insert_with(|| inode.clone());
    }

    /// Drops an inode that lost its last name.
    fn release(&self, key: (Device, u64)) {
        let gone = self.changed.lock().remove(&key);
        drop(gone);
    }

    /// The guest's device number for one of the lower tree.
    fn device_of(&self, lower: Device) -> Device {
        if lower == self.lower.device() { self.device } else { lower }
    }
}

impl FileSystem for OverlayFs {
    fn name(&self) -> &'static str {
        "overlay"
    }

    #[expect(clippy::expect_used, reason = "the root goes only with the last reference to the file system")]
    fn root(&self) -> Arc<dyn Inode> {
        self.root.lock().clone().expect("a file system that can be mounted has a root")
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { f_type: OVERLAYFS_SUPER_MAGIC, ..self.upper.statfs()? })
    }

    fn options(&self) -> String {
        ",lowerdir=/,upperdir=/,workdir=/".to_owned()
    }

    fn shut_down(&self) {
        let root = self.root.lock().take();
        let changed = std::mem::take(&mut *self.changed.lock());
        drop((root, changed));
        self.upper.shut_down();
    }
}
