//! Mount namespaces (mount_namespaces(7)).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_platform::GuestMemory;

use crate::interruption::check_killed;
use crate::sync::{Mutex, Rank};
use crate::vfs::mount::MOUNT_BYTES;
use crate::vfs::{Dentry, Mount, Path, Vfs, propagation};
use crate::wait::WaitQueue;

/// The ID of the first namespace.
const FIRST_NAMESPACE: u64 = 0xf000_0000;

/// State shared by all mount namespaces of a kernel.
pub(super) struct MountTrees {
    /// Held over every change of a tree, since changes may propagate to other namespaces.
    change: Mutex<()>,
    /// Notified of each change of any tree.
    changed: WaitQueue,
    next_mount: AtomicU64,
    next_namespace: AtomicU64,
}

impl MountTrees {
    pub(super) fn new() -> Self {
        MountTrees {
            change: Mutex::new(Rank::Mounts, ()),
            changed: WaitQueue::new(),
            next_mount: AtomicU64::new(1),
            next_namespace: AtomicU64::new(FIRST_NAMESPACE),
        }
    }

    pub(super) fn number_mount(&self) -> u64 {
        self.next_mount.fetch_add(1, Ordering::Relaxed)
    }
}

/// A mount namespace.
pub(crate) struct MountNamespace {
    /// The ID in `/proc/PID/ns/mnt`.
    pub id: u64,
    vfs: Arc<Vfs>,
    memory: Arc<GuestMemory>,
    root: Mutex<Arc<Mount>>,
    /// The number of mounts.
    count: AtomicUsize,
    /// Counts changes, for polls of `/proc/mounts`.
    generation: AtomicU64,
}

impl MountNamespace {
    /// Makes a namespace with this root mount.
    pub(crate) fn new(memory: Arc<GuestMemory>, root: Arc<Mount>) -> Arc<Self> {
        let namespace = Arc::new(MountNamespace {
            id: root.root.vfs().mounts.next_namespace.fetch_add(1, Ordering::Relaxed),
            vfs: root.root.vfs().clone(),
            memory,
            root: Mutex::new(Rank::Leaf, root.clone()),
            count: AtomicUsize::new(0),
            generation: AtomicU64::new(1),
        });
        for mount in root.tree() {
            mount.enter_namespace(&Arc::downgrade(&namespace));
        }
        namespace
    }

    /// Counts a mount that was added.
    pub(super) fn note_entered(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a mount that was removed.
    pub(super) fn note_left(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The root mount.
    pub(crate) fn root(&self) -> Arc<Mount> {
        self.root.lock().clone()
    }

    /// Runs a change of the tree, one at a time. All conditions of the change are checked inside `change`.
    pub(crate) fn change<T>(&self, change: impl FnOnce() -> T) -> T {
        let result = {
            let _one = self.vfs.mounts.change.lock();
            change()
        };
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.vfs.mounts.changed.notify(PollEvents::POLLPRI | PollEvents::POLLERR);
        result
    }

    /// The queue notified with `POLLPRI` and `POLLERR` of each change of this tree or another one.
    pub(crate) fn changed(&self) -> &WaitQueue {
        &self.vfs.mounts.changed
    }

    /// The number of mounts.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Checks that there is memory for this many additional mounts, which outlive processes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn admit(&self, mounts: usize) -> Result<(), Errno> {
        Ok(self.memory.admit_lasting(MOUNT_BYTES.saturating_mul(mounts as u64))?)
    }

    /// The number of changes of the tree.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Sets the root mount (pivot_root(2)). Called within [`change`](Self::change).
    pub(super) fn set_root(self: &Arc<Self>, root: &Arc<Mount>) {
        for mount in root.tree() {
            mount.enter_namespace(&Arc::downgrade(self));
        }
        let old = std::mem::replace(&mut *self.root.lock(), root.clone());
        drop(old);
    }

    /// All mounts, parents first.
    pub(crate) fn mounts(&self) -> Vec<Arc<Mount>> {
        self.root().tree()
    }

    /// A copy of the tree in a new namespace (`CLONE_NEWNS`), and a map from the old mounts' unique IDs to the copies.
    ///
    /// # Errors
    /// `ENOMEM`; `EINTR` if the caller was killed.
    pub(crate) fn duplicate(&self) -> Result<(Arc<MountNamespace>, HashMap<u64, Arc<Mount>>), Errno> {
        let mut copies = HashMap::new();
        let _one = self.vfs.mounts.change.lock();
        // Checked under the lock, since previous holders may have used up the memory or caused this task to be killed
        // for lack of memory.
        check_killed()?;
        self.memory.admit(MOUNT_BYTES.saturating_mul(self.count() as u64))?;
        let old_root = self.root();
        let root = copy_tree(&old_root, &old_root.root, &mut copies, true);
        propagation::note_groups(&root);
        Ok((MountNamespace::new(self.memory.clone(), root), copies))
    }
}

/// Copies a mount, with `root` as its root, and the mounts below `root`. `copies` maps the old unique IDs to the
/// copies. Unbindable mounts are left out unless `even_unbindable`.
pub(super) fn copy_tree(
    mount: &Arc<Mount>,
    root: &Arc<Dentry>,
    copies: &mut HashMap<u64, Arc<Mount>>,
    even_unbindable: bool,
) -> Arc<Mount> {
    let top = mount.copy(root.clone());
    copies.insert(mount.unique_id, top.clone());
    // The guest controls how many are stacked, so this uses a work list.
    let mut open = VecDeque::from([(mount.clone(), top.clone())]);
    while let Some((original, copy)) = open.pop_front() {
        // If the copy has the same root, it includes every mount below.
        let whole = Arc::ptr_eq(&copy.root, &original.root);
        for child in original.child_mounts() {
            let Some(place) = child.place() else { continue };
            let shown = whole || copy.root.is_ancestor_of(&place.dentry);
            if !shown || (child.propagation().unbindable && !even_unbindable) {
                continue;
            }
            let below = child.copy(child.root.clone());
            copies.insert(child.unique_id, below.clone());
            below.hang(&Path { mount: copy.clone(), dentry: place.dentry });
            open.push_back((child, below));
        }
    }
    top
}
