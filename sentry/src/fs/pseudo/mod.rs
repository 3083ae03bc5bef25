//! File systems whose content the kernel generates on access: proc and sysfs.
//!
//! Tables of [`Entry`] list the files: a name, a mode, and a function that makes the content. An inode is an entry with
//! a [`Subject`], such as the process it describes.

mod directory;
mod entry;
mod file;
mod inode;
mod pieces;

use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::{Device, StatFs};
use amber_abi::time::Timespec;

use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::vfs::{FileSystem, Inode, Vfs, now};

pub(crate) use entry::{Entry, Listed, Listing, Query, Reader, Subject, Text, What, number};
pub(crate) use file::TextFile;
pub(crate) use inode::PseudoInode;
pub(crate) use pieces::{Begin, LongFile, Pieces, one_piece};

/// A type of such a file system.
pub(crate) struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Its magic number for statfs(2).
    pub magic: i64,
    /// The root directory.
    pub root: Entry,
    /// Whether entries come and go, as processes and interfaces do.
    pub is_volatile: bool,
    /// The errno for creating an entry.
    pub new_names: Errno,
    /// The block size of files.
    pub block_size: u32,
    /// The length that files report, in bytes.
    pub file_size: u64,
}

/// An instance.
pub(crate) struct PseudoFs {
    kind: &'static Kind,
    device: Device,
    kernel: Weak<Kernel>,
    born: Timespec,
    root: Mutex<Option<Arc<PseudoInode>>>,
}

impl PseudoFs {
    /// Makes an instance.
    pub(crate) fn new(kernel: &Arc<Kernel>, kind: &'static Kind) -> Arc<Self> {
        Self::detached(&kernel.vfs, Arc::downgrade(kernel), kind)
    }

    /// Makes an instance that may exist without its kernel.
    pub(crate) fn detached(vfs: &Vfs, kernel: Weak<Kernel>, kind: &'static Kind) -> Arc<Self> {
        let fs = Arc::new(PseudoFs {
            kind,
            device: vfs.anonymous_device(),
            kernel,
            born: now(),
            root: Mutex::new(Rank::Leaf, None),
        });
        *fs.root.lock() = Some(PseudoInode::root(&fs));
        fs
    }

    /// The kernel it describes.
    ///
    /// # Errors
    /// `EIO` if the kernel no longer exists.
    pub(crate) fn kernel(&self) -> Result<Arc<Kernel>, Errno> {
        self.kernel.upgrade().ok_or_else(|| Errno::EIO.here())
    }
}

impl FileSystem for PseudoFs {
    fn name(&self) -> &'static str {
        self.kind.name
    }

    #[expect(clippy::expect_used, reason = "the root goes only with the last reference to the file system")]
    fn root(&self) -> Arc<dyn Inode> {
        self.root.lock().clone().expect("a file system that can be mounted has a root")
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { f_type: self.kind.magic, f_bsize: 4096, f_frsize: 4096, f_namelen: 255, ..StatFs::default() })
    }

    fn is_volatile(&self) -> bool {
        self.kind.is_volatile
    }

    fn shut_down(&self) {
        let root = self.root.lock().take();
        drop(root);
    }
}
