//! The state of the virtual file system of a kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use amber_abi::stat::Device;

use crate::mm::PageCaches;
use crate::sync::{Mutex, Rank};
use crate::vfs::anon::Anonymous;
use crate::vfs::attribute_locks::AttributeLocks;
use crate::vfs::dentry::NameCache;
use crate::vfs::file::OpenFiles;
use crate::vfs::locks::Locks;
use crate::vfs::mount_namespace::MountTrees;
use crate::vfs::notify::Watches;
use crate::vfs::propagation::PeerGroups;
use crate::vfs::text_busy::FileUses;
use crate::vfs::tree_changes::TreeChanges;

/// The first minor number that [`Vfs::anonymous_device`] returns.
const FIRST_DEVICE: u32 = 20;

/// The state that all files of a kernel share. Dentries, mounts and open files refer to it instead of the kernel.
pub(crate) struct Vfs {
    /// The dentry cache.
    pub names: NameCache,
    /// Internal file systems.
    pub anonymous: Anonymous,
    /// Cached pages of host files.
    pub page_caches: Arc<PageCaches>,
    /// Open file descriptions.
    pub open_files: OpenFiles,
    /// Held while an epoll is added to another, so that two additions cannot close a cycle.
    pub(super) epolls: Mutex<()>,
    /// File locks.
    pub locks: Locks,
    /// Files that are open for writing or executed.
    pub file_uses: FileUses,
    /// Inodes whose attributes are being changed.
    pub(super) attribute_locks: AttributeLocks,
    /// Watches of inotify(7).
    pub(super) watches: Watches,
    /// Serializes renames between two directories, so that the order of their locks has no cycles.
    pub(super) renames: Mutex<()>,
    /// Counts renames and changes of mounts, in all trees.
    pub(super) tree_changes: TreeChanges,
    pub(super) mounts: MountTrees,
    pub(super) peer_groups: PeerGroups,
    next_device: AtomicU32,
}

impl Vfs {
    /// The state of a kernel without files.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Vfs {
            names: NameCache::new(),
            anonymous: Anonymous::new(),
            page_caches: Arc::default(),
            open_files: OpenFiles::new(),
            epolls: Mutex::new(Rank::Epoll, ()),
            locks: Locks::new(),
            file_uses: FileUses::new(),
            attribute_locks: AttributeLocks::new(),
            watches: Watches::new(),
            renames: Mutex::new(Rank::Rename, ()),
            tree_changes: TreeChanges::default(),
            mounts: MountTrees::new(),
            peer_groups: PeerGroups::new(),
            next_device: AtomicU32::new(FIRST_DEVICE),
        })
    }

    /// Allocates a device number for a file system without a device: major 0, a new minor.
    pub(crate) fn anonymous_device(&self) -> Device {
        Device::new(0, self.next_device.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
