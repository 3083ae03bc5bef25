//! Locks of inode attributes: the permission check and the change are one step.

use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::Device;

use crate::sync::{Mutex, Rank};
use crate::vfs::{Inode, Vfs};

/// Device and number of a file, by [`Inode::lock_key`].
type Key = (Device, u64);

/// The inodes of a kernel whose attributes are being changed. Only these have an entry.
pub(super) struct AttributeLocks {
    held: Mutex<HashMap<Key, Arc<Mutex<()>>>>,
}

impl AttributeLocks {
    pub(super) fn new() -> Self {
        AttributeLocks { held: Mutex::new(Rank::Leaf, HashMap::new()) }
    }
}

/// The lock of one inode, while a thread holds it or waits for it.
struct Entry<'a> {
    locks: &'a AttributeLocks,
    key: Key,
    lock: Arc<Mutex<()>>,
}

impl<'a> Entry<'a> {
    fn new(locks: &'a AttributeLocks, key: Key) -> Self {
        let fresh = || Arc::new(Mutex::new(Rank::Attributes, ()));
        let lock = locks.held.lock().entry(key).or_insert_with(fresh).clone();
        Entry { locks, key, lock }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock();
        // References are made only under the table's lock, so these two, the table's and this one, are the last.
        if Arc::strong_count(&self.lock) == 2 {
            held.remove(&self.key);
        }
    }
}

impl Vfs {
    /// Checks and changes an inode's attributes atomically with respect to other such changes of the inode. `change`
    /// uses [`Inode::settled_ownership`].
    ///
    /// # Errors
    /// Errors of `change`; `EINTR` if the caller is killed while it waits.
    pub(crate) fn change_attributes<T>(
        &self,
        inode: &dyn Inode,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let entry = Entry::new(&self.attribute_locks, inode.lock_key()?);
        let _held = entry.lock.lock_killable()?;
        change()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use amber_platform::GuestMemory;

    use super::*;
    use crate::fs::tmpfs::{TmpFs, TmpfsOptions};
    use crate::vfs::FileSystem;

    fn tree(vfs: &Arc<Vfs>) -> Arc<TmpFs> {
        TmpFs::new(vfs, GuestMemory::new(1 << 20).expect("a memfd"), TmpfsOptions::default())
    }

    #[test]
    fn changes_of_one_inode_come_one_after_the_other() {
        let vfs = Vfs::new();
        let fs = tree(&vfs);
        let inside = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let change = || {
                            assert!(!inside.swap(true, Ordering::SeqCst), "two changes at once");
                            std::thread::yield_now();
                            inside.store(false, Ordering::SeqCst);
                            Ok(())
                        };
                        vfs.change_attributes(&*fs.root(), change).expect("nobody is killed");
                    }
                });
            }
        });
        assert!(vfs.attribute_locks.held.lock().is_empty());
    }

    #[test]
    fn a_change_that_fails_leaves_no_lock() {
        let vfs = Vfs::new();
        let fs = tree(&vfs);
        let refused: Result<(), Errno> = vfs.change_attributes(&*fs.root(), || Err(Errno::EPERM.here()));
        assert_eq!(refused, Err(Errno::EPERM));
        assert!(vfs.attribute_locks.held.lock().is_empty());
    }
}
