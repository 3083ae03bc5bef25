//! Files in memory (tmpfs(5)).

mod directory;
mod file;
mod inode;
mod options;
mod xattrs;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::{Device, FileType, StatFs, TMPFS_MAGIC};
use amber_platform::{GuestMemory, PAGE_SIZE};

use crate::mm;
use crate::sync::{Mutex, Rank};
use crate::vfs::{FileSystem, Inode, NewInode, Vfs};

use inode::INODE_BYTES;
pub(crate) use inode::TmpInode;
pub(crate) use options::TmpfsOptions;

/// A quantity that is allocated up to a limit.
#[derive(Debug)]
pub(super) struct Quota {
    used: AtomicU64,
    /// `u64::MAX` for no limit.
    limit: AtomicU64,
}

impl Quota {
    fn new(limit: u64) -> Self {
        Quota { used: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }

    /// Allocates an amount.
    ///
    /// # Errors
    /// `ENOSPC` if it exceeds the limit.
    pub(super) fn take(&self, amount: u64) -> Result<(), Errno> {
        let limit = self.limit.load(Ordering::Relaxed);
        let take = |used: u64| used.checked_add(amount).filter(|&sum| sum <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map(drop).map_err(|_| Errno::ENOSPC.here())
    }

    pub(super) fn give_back(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Whether the amount is within the limit, regardless of what is in use.
    pub(super) fn can_hold(&self, amount: u64) -> bool {
        amount <= self.limit.load(Ordering::Relaxed)
    }

    fn free(&self) -> u64 {
        self.limit.load(Ordering::Relaxed).saturating_sub(self.used.load(Ordering::Relaxed))
    }
}

/// A file system in memory.
pub(crate) struct TmpFs {
    name: &'static str,
    device: Device,
    memory: Arc<GuestMemory>,
    pages: Arc<Quota>,
    inodes: Quota,
    next_number: AtomicU64,
    options: Mutex<TmpfsOptions>,
    /// Dropped when the last mount is gone, since inodes refer to the file system.
    root: Mutex<Option<Arc<TmpInode>>>,
    me: Weak<TmpFs>,
}

impl TmpFs {
    /// An empty file system.
    pub(crate) fn new(vfs: &Vfs, memory: Arc<GuestMemory>, options: TmpfsOptions) -> Arc<Self> {
        Self::named("tmpfs", vfs, memory, options)
    }

    /// Makes a tmpfs with another type name.
    pub(crate) fn named(name: &'static str, vfs: &Vfs, memory: Arc<GuestMemory>, options: TmpfsOptions) -> Arc<Self> {
        let fs = Arc::new_cyclic(|me| TmpFs {
            name,
            device: vfs.anonymous_device(),
            memory,
            pages: Arc::new(Quota::new(options.pages.unwrap_or(u64::MAX))),
            inodes: Quota { used: AtomicU64::new(1), ..Quota::new(options.inodes.unwrap_or(u64::MAX)) },
            next_number: AtomicU64::new(1),
            options: Mutex::new(Rank::Leaf, options.clone()),
            root: Mutex::new(Rank::Leaf, None),
            me: me.clone(),
        });
        let new = NewInode {
            kind: FileType::Directory,
            permissions: options.mode.unwrap_or(0o1777),
            masked: 0,
            uid: options.uid.unwrap_or(0),
            gid: options.gid.unwrap_or(0),
            special: Device::default(),
            target: &[],
        };
        let root = TmpInode::new(fs.clone(), &new);
        *fs.root.lock() = Some(root);
        fs
    }

    fn set_limits(&self, new: &TmpfsOptions) -> Result<(), Errno> {
        let mut options = self.options.lock();
        for (quota, limit) in [(&*self.pages, new.pages), (&self.inodes, new.inodes)] {
            if limit.is_some_and(|limit| limit < quota.used.load(Ordering::Relaxed)) {
                return Err(Errno::EINVAL.here());
            }
        }
        if let Some(pages) = new.pages {
            self.pages.limit.store(pages, Ordering::Relaxed);
            options.pages = new.pages;
        }
        if let Some(inodes) = new.inodes {
            self.inodes.limit.store(inodes, Ordering::Relaxed);
            options.inodes = new.inodes;
        }
        Ok(())
    }

    /// Makes an inode that is not in a directory yet.
    pub(super) fn make(&self, new: &NewInode<'_>) -> Result<Arc<TmpInode>, Errno> {
        self.memory.admit_lasting(INODE_BYTES + new.target.len() as u64).map_err(|_| Errno::ENOSPC.here())?;
        self.inodes.take(1)?;
        let fs = self.me.upgrade().ok_or_else(|| Errno::EIO.here())?;
        Ok(TmpInode::new(fs, new))
    }
}

impl mm::Quota for Quota {
    fn take(&self, bytes: u64) -> Result<(), Errno> {
        Quota::take(self, bytes / PAGE_SIZE)
    }

    fn give_back(&self, bytes: u64) {
        Quota::give_back(self, bytes / PAGE_SIZE);
    }
}

impl FileSystem for TmpFs {
    fn name(&self) -> &'static str {
        self.name
    }

    #[expect(clippy::expect_used, reason = "the root goes only with the last reference to the file system")]
    fn root(&self) -> Arc<dyn Inode> {
        self.root.lock().clone().expect("a file system that can be mounted has a root")
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        let shown = |limit: &AtomicU64| match limit.load(Ordering::Relaxed) {
            u64::MAX => 0,
            limit => limit,
        };
        let (blocks, files) = (shown(&self.pages.limit), shown(&self.inodes.limit));
        let free = if blocks == 0 { 0 } else { self.pages.free() };
        Ok(StatFs {
            f_type: TMPFS_MAGIC,
            f_bsize: PAGE_SIZE as i64,
            f_frsize: PAGE_SIZE as i64,
            f_blocks: blocks,
            f_bfree: free,
            f_bavail: free,
            f_files: files,
            f_ffree: if files == 0 { 0 } else { self.inodes.free() },
            f_namelen: 255,
            ..StatFs::default()
        })
    }

    fn options(&self) -> String {
        self.options.lock().to_string()
    }

    fn reconfigure(&self, options: &str) -> Result<(), Errno> {
        self.set_limits(&TmpfsOptions::parse(options, self.memory.limit())?)
    }

    fn shut_down(&self) {
        let root = self.root.lock().take();
        drop(root);
    }
}
