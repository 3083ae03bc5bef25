//! Inodes of message queues and of their root directory.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType};

use super::file::MqFile;
use super::queue::Queue;
use super::{MqueueFs, Size};
use crate::sync::{Mutex, Rank};
use crate::vfs::access::Ownership;
use crate::vfs::attributes::Attributes;
use crate::vfs::{DirectoryEntry, DirectorySink, File, FileSystem, Inode, Metadata, NewInode, SetAttributes};

/// The length that a queue's file reports, in bytes.
const FILE_SIZE: u64 = 80;

fn metadata(fs: &MqueueFs, number: u64, kind: FileType, links: u32, attributes: &Attributes) -> Metadata {
    Metadata {
        device: fs.device,
        number,
        kind,
        permissions: attributes.ownership.permissions,
        links,
        uid: attributes.ownership.uid,
        gid: attributes.ownership.gid,
        special: Device::default(),
        size: if kind == FileType::Regular { FILE_SIZE } else { 0 },
        blocks: 0,
        block_size: 4096,
        accessed: attributes.accessed,
        modified: attributes.modified,
        changed: attributes.changed,
        born: None,
    }
}

/// The inode of a queue.
pub(super) struct QueueInode {
    fs: Arc<MqueueFs>,
    number: u64,
    attributes: Mutex<Attributes>,
    queue: Arc<Queue>,
    /// The user it is charged to, even if the owner changes.
    charged: u32,
    unlinked: AtomicBool,
}

impl QueueInode {
    pub(super) fn new(fs: &Arc<MqueueFs>, number: u64, attributes: Attributes, size: Size, charged: u32) -> Arc<Self> {
        let attributes = Mutex::new(Rank::Leaf, attributes);
        let unlinked = AtomicBool::new(false);
        Arc::new(QueueInode { fs: fs.clone(), number, attributes, queue: Queue::new(size), charged, unlinked })
    }

    pub(super) fn note_unlinked(&self) {
        self.unlinked.store(true, Ordering::Relaxed);
    }
}

impl Drop for QueueInode {
    fn drop(&mut self) {
        self.fs.give_back(self.charged, self.queue.size().cost());
    }
}

impl Inode for QueueInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        FileType::Regular
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let links = if self.unlinked.load(Ordering::Relaxed) { 0 } else { 1 };
        Ok(metadata(&self.fs, self.number, FileType::Regular, links, &self.attributes.lock()))
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        self.attributes.lock().apply(&SetAttributes { size: None, ..*changes })
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        let queue = self.queue.clone();
        Ok(Arc::new(MqFile::new(self, queue)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The root directory.
pub(super) struct MqRoot {
    fs: Arc<MqueueFs>,
}

impl MqRoot {
    pub(super) fn new(fs: Arc<MqueueFs>) -> Self {
        MqRoot { fs }
    }

    /// The file system of its queues.
    pub(super) fn fs(&self) -> &Arc<MqueueFs> {
        &self.fs
    }
}

impl Inode for MqRoot {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        FileType::Directory
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        Ok(metadata(&self.fs, 1, FileType::Directory, 2, &self.fs.attributes.lock()))
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        self.fs.attributes.lock().apply(changes)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = self.fs.queues.lock().get(name).cloned();
        Ok(found.ok_or_else(|| Errno::ENOENT.here())?)
    }

    fn revalidate(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        self.lookup(name).is_ok_and(|found| Arc::ptr_eq(&found, child))
    }

    /// A regular file created here is a queue of the default size.
    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        if new.kind != FileType::Regular {
            return Err(Errno::EPERM.here());
        }
        let Ownership { permissions, uid, gid } =
            Ownership { permissions: new.permissions, uid: new.uid, gid: new.gid };
        self.fs.create(name, Attributes::new(permissions, uid, gid), Size::usual(&self.fs.tunables), None)
    }

    fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        self.fs.remove(name)
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Ok(Arc::new(MqDirectory { inode: self }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct MqDirectory {
    inode: Arc<MqRoot>,
}

impl File for MqDirectory {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    /// Queues are listed in order of their numbers, which are the cookies.
    fn read_directory(&self, from: u64, sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        let mut all: Vec<(u64, Vec<u8>)> = {
            let queues = self.inode.fs.queues.lock();
            queues.iter().map(|(name, inode)| (inode.number, name.clone())).collect()
        };
        all.sort_unstable();
        let start = all.partition_point(|(number, _)| *number <= from);
        for (number, name) in all.iter().skip(start) {
            let entry = DirectoryEntry { name, number: *number, kind: Some(FileType::Regular), next: *number };
            if !sink.add(entry) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
