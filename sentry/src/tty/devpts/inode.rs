//! The inodes of devpts: the root directory, ptmx and the slaves.

use std::any::Any;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType};

use super::{DevPts, role_number};
use crate::sync::{Mutex, Rank};
use crate::tty::{Pty, SLAVE_MAJOR};
use crate::vfs::access::Ownership;
use crate::vfs::attributes::Attributes;
use crate::vfs::{DirectoryEntry, DirectorySink, File, FileSystem, Inode, Metadata, SetAttributes};

pub(super) const ROOT_NUMBER: u64 = 1;
pub(super) const MASTER_NUMBER: u64 = 2;

/// The role of an inode.
pub(super) enum Role {
    /// The root directory.
    Root,
    /// ptmx, which makes pairs.
    Master,
    /// The slave of a pair.
    Slave(u32, Weak<Pty>),
}

/// An inode of devpts.
pub(super) struct PtsInode {
    fs: Arc<DevPts>,
    role: Role,
    attributes: Mutex<Attributes>,
    /// The ptmx entry, in the root.
    master: Option<Arc<PtsInode>>,
}

impl PtsInode {
    pub(super) fn new(fs: &Arc<DevPts>, role: Role, attributes: Attributes) -> Arc<Self> {
        let attributes = Mutex::new(Rank::Leaf, attributes);
        let master = matches!(role, Role::Root)
            .then(|| PtsInode::new(fs, Role::Master, Attributes::new(fs.options.master_mode, 0, 0)));
        Arc::new(PtsInode { fs: fs.clone(), role, attributes, master })
    }
}

/// The pair of a slave's node, while it exists.
pub(crate) fn pty_of(inode: &Arc<dyn Inode>) -> Option<Arc<Pty>> {
    match &inode.as_any().downcast_ref::<PtsInode>()?.role {
        Role::Slave(_, pty) => pty.upgrade(),
        _ => None,
    }
}

/// The instance with this root directory.
pub(super) fn instance_of(inode: &Arc<dyn Inode>) -> Option<Arc<DevPts>> {
    let inode = inode.as_any().downcast_ref::<PtsInode>()?;
    matches!(inode.role, Role::Root).then(|| inode.fs.clone())
}

impl Inode for PtsInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        role_number(&self.role).1
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let attributes = *self.attributes.lock();
        let (number, kind) = role_number(&self.role);
        let special = match &self.role {
            Role::Root => Device::default(),
            Role::Master => Device::new(5, 2),
            Role::Slave(index, _) => Device::new(SLAVE_MAJOR, *index),
        };
        Ok(Metadata {
            device: self.fs.device,
            number,
            kind,
            permissions: attributes.ownership.permissions,
            links: if kind == FileType::Directory { 2 } else { 1 },
            uid: attributes.ownership.uid,
            gid: attributes.ownership.gid,
            special,
            size: 0,
            blocks: 0,
            block_size: 1024,
            accessed: attributes.accessed,
            modified: attributes.modified,
            changed: attributes.changed,
            born: None,
        })
    }

    fn ownership(&self) -> Result<Ownership, Errno> {
        Ok(self.attributes.lock().ownership)
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        self.attributes.lock().apply(changes)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if name == b"ptmx" {
            return self.master.clone().map(|master| master as Arc<dyn Inode>).ok_or_else(|| Errno::ENOTDIR.here());
        }
        if !matches!(self.role, Role::Root) {
            return Err(Errno::ENOTDIR.here());
        }
        let index = std::str::from_utf8(name).ok().and_then(|text| text.parse::<u32>().ok());
        let index = index.filter(|index| index.to_string().as_bytes() == name).ok_or_else(|| Errno::ENOENT.here())?;
        Ok(self.fs.slave(index).ok_or_else(|| Errno::ENOENT.here())?)
    }

    fn revalidate(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        // A reused number is a different slave.
        self.lookup(name).is_ok_and(|found| Arc::ptr_eq(&found, child))
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.role {
            Role::Root => Ok(Arc::new(PtsDirectory { inode: self })),
            Role::Master | Role::Slave(..) => Err(Errno::ENXIO.here()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct PtsDirectory {
    inode: Arc<PtsInode>,
}

impl File for PtsDirectory {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_directory(&self, from: u64, sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        let kind = Some(FileType::CharacterDevice);
        if from < 1 && !sink.add(DirectoryEntry { name: b"ptmx", number: MASTER_NUMBER, kind, next: 1 }) {
            return Ok(());
        }
        let first = u32::try_from(from.saturating_sub(1)).unwrap_or(u32::MAX);
        for index in self.inode.fs.slaves(first) {
            let (name, number, next) = (index.to_string(), u64::from(index) + 3, u64::from(index) + 2);
            if !sink.add(DirectoryEntry { name: name.as_bytes(), number, kind, next }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
