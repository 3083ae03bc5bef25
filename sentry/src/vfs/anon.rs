//! Inodes of files outside mounted file systems: pipes, sockets and anonymous inodes.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{ANON_INODE_FS_MAGIC, Device, FileType, PIPEFS_MAGIC, SOCKFS_MAGIC, StatFs};
use amber_abi::time::Timespec;

use crate::clock;
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::vfs::{File, FileSystem, Inode, Metadata, SetAttributes, SetTime};

/// An internal file system without names.
pub(crate) struct AnonymousFs {
    me: SelfRef<AnonymousFs>,
    name: &'static str,
    magic: i64,
    device: Device,
    next_number: AtomicU64,
}

/// The internal file systems of a kernel.
pub(crate) struct Anonymous {
    /// The file system of pipes.
    pub pipefs: Arc<AnonymousFs>,
    /// The file system of sockets.
    pub sockfs: Arc<AnonymousFs>,
    /// The inode shared by all eventfds, epolls, timerfds and the like, as on Linux.
    shared: Arc<AnonymousInode>,
}

impl Anonymous {
    pub(super) fn new() -> Self {
        let others = AnonymousFs::new("anon_inodefs", ANON_INODE_FS_MAGIC, 14);
        Anonymous {
            pipefs: AnonymousFs::new("pipefs", PIPEFS_MAGIC, 13),
            sockfs: AnonymousFs::new("sockfs", SOCKFS_MAGIC, 8),
            shared: Arc::new(AnonymousInode::new(&others, FileType::Anonymous, 0o600, 0, 0)),
        }
    }

    /// The shared inode of eventfd, epoll, timerfd, signalfd, inotify and similar files.
    pub(crate) fn inode(&self) -> Arc<dyn Inode> {
        self.shared.clone()
    }
}

impl AnonymousFs {
    fn new(name: &'static str, magic: i64, minor: u32) -> Arc<Self> {
        Arc::new_cyclic(|me| AnonymousFs {
            me: SelfRef::new(me),
            name,
            magic,
            device: Device::new(0, minor),
            next_number: AtomicU64::new(1),
        })
    }
}

impl FileSystem for AnonymousFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn root(&self) -> Arc<dyn Inode> {
        let me = self.me.get();
        Arc::new(AnonymousInode::new(&me, FileType::Directory, 0o555, 0, 0))
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { f_type: self.magic, f_bsize: 4096, f_frsize: 4096, f_namelen: 255, ..StatFs::default() })
    }
}

struct Attributes {
    permissions: u16,
    uid: u32,
    gid: u32,
    accessed: Timespec,
    modified: Timespec,
    changed: Timespec,
}

/// An inode with only attributes, for fstat(2) of anonymous files.
pub(crate) struct AnonymousInode {
    file_system: Arc<AnonymousFs>,
    number: u64,
    kind: FileType,
    attributes: Mutex<Attributes>,
}

impl AnonymousInode {
    /// Makes an inode with a new number. Its time stamps are the current time.
    pub(crate) fn new(file_system: &Arc<AnonymousFs>, kind: FileType, permissions: u16, uid: u32, gid: u32) -> Self {
        let now = clock::realtime();
        let attributes = Attributes { permissions, uid, gid, accessed: now, modified: now, changed: now };
        AnonymousInode {
            file_system: file_system.clone(),
            number: file_system.next_number.fetch_add(1, Ordering::Relaxed),
            kind,
            attributes: Mutex::new(Rank::Inode, attributes),
        }
    }

    /// The inode number, as in `pipe:[42]`.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Inode for AnonymousInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.file_system.clone()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let attributes = self.attributes.lock();
        Ok(Metadata {
            device: self.file_system.device,
            number: self.number,
            kind: self.kind,
            permissions: attributes.permissions,
            links: 1,
            uid: attributes.uid,
            gid: attributes.gid,
            special: Device::default(),
            size: 0,
            blocks: 0,
            block_size: 4096,
            accessed: attributes.accessed,
            modified: attributes.modified,
            changed: attributes.changed,
            born: None,
        })
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        if changes.size.is_some() {
            return Err(Errno::EINVAL.here());
        }
        let now = clock::realtime();
        let time = |change| match change {
            SetTime::Now => now,
            SetTime::To(time) => time,
        };
        let mut attributes = self.attributes.lock();
        let old = &mut *attributes;
        old.permissions = changes.permissions.unwrap_or(old.permissions);
        old.uid = changes.uid.unwrap_or(old.uid);
        old.gid = changes.gid.unwrap_or(old.gid);
        old.accessed = changes.accessed.map_or(old.accessed, time);
        old.modified = changes.modified.map_or(old.modified, time);
        old.changed = now;
        Ok(())
    }

    /// These files cannot be reopened through `/proc/PID/fd`, as on Linux.
    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Err(Errno::ENXIO.here())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
