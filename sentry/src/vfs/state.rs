//! What a kernel has once of its files, whatever the file system.

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

/// The first minor number that [`Vfs::anonymous_device`] gives out.
const FIRST_DEVICE: u32 = 20;

/// The state that all files of a kernel share. Names, mounts and open files hold it; the kernel is not needed for it.
pub struct Vfs {
    /// Entries of directories.
    pub names: NameCache,
    /// Where files live that have no names.
    pub anonymous: Anonymous,
    /// Cached pages of host files.
    pub page_caches: Arc<PageCaches>,
    /// Open file descriptions.
    pub open_files: OpenFiles,
    /// Held while an epoll is put into another, so that two at once cannot close a circle.
    pub(super) epolls: Mutex<()>,
    /// File locks.
    pub locks: Locks,
    /// Files that are written or executed.
    pub file_uses: FileUses,
    /// Inodes whose attributes are being changed.
    pub(super) attribute_locks: AttributeLocks,
    /// What is watched for inotify(7).
    pub(super) watches: Watches,
    /// One rename at a time looks at two directories, so the order in which those are locked cannot go in a circle.
    pub(super) renames: Mutex<()>,
    /// Moves of names and changes of mounts, of all trees.
    pub(super) tree_changes: TreeChanges,
    pub(super) mounts: MountTrees,
    pub(super) peer_groups: PeerGroups,
    next_device: AtomicU32,
}

impl Vfs {
    /// That of a kernel without files.
    pub fn new() -> Arc<Self> {
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

    /// A device number for a file system that is on no device: major 0, a fresh minor.
    pub fn anonymous_device(&self) -> Device {
        Device::new(0, self.next_device.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
