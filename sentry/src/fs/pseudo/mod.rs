//! File systems whose files the kernel makes up when they are looked at: proc and sysfs.
//!
//! What there is stands in tables of [`Entry`]: a name, a mode, and a function that makes the content. An inode is an
//! entry together with a [`Subject`], such as the process it tells of.

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

pub use entry::{Entry, Listed, Listing, Query, Reader, Subject, Text, What, number};
pub use file::TextFile;
pub use inode::PseudoInode;
pub use pieces::{Begin, LongFile, Pieces, one_piece};

/// A type of such a file system.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Its number for statfs(2).
    pub magic: i64,
    /// The root directory.
    pub root: Entry,
    /// Entries come and go, as processes and interfaces do.
    pub is_volatile: bool,
    /// What a new name is refused with.
    pub new_names: Errno,
    /// The block size files tell.
    pub block_size: u32,
    /// The length files seem to have.
    pub file_size: u64,
}

/// An instance.
pub struct PseudoFs {
    kind: &'static Kind,
    device: Device,
    kernel: Weak<Kernel>,
    born: Timespec,
    root: Mutex<Option<Arc<PseudoInode>>>,
}

impl PseudoFs {
    /// Makes an instance.
    pub fn new(kernel: &Arc<Kernel>, kind: &'static Kind) -> Arc<Self> {
        Self::detached(&kernel.vfs, Arc::downgrade(kernel), kind)
    }

    /// Makes an instance that may be there without its kernel.
    pub fn detached(vfs: &Vfs, kernel: Weak<Kernel>, kind: &'static Kind) -> Arc<Self> {
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

    /// The kernel it tells of.
    ///
    /// # Errors
    /// `EIO` once that is gone.
    pub fn kernel(&self) -> Result<Arc<Kernel>, Errno> {
        self.kernel.upgrade().ok_or_else(|| Errno::EIO.here())
    }
}

impl FileSystem for PseudoFs {
    fn name(&self) -> &'static str {
        self.kind.name
    }

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
