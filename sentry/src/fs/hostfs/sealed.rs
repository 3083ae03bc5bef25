//! What a guest sees in place of a file system of the host that it is not served from.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType};
use amber_host::fs::Found;

use super::HostFs;
use super::inode::metadata_of;
use crate::fs::{DirectorySink, File, FileSystem, Inode, Metadata, SetAttributes};

/// A mount point: an empty directory in which nothing can be made, as if the mount had been left out of the tree; or a
/// file that cannot be opened.
pub(super) struct Sealed {
    fs: Arc<HostFs>,
    mount: Option<u64>,
    metadata: Metadata,
}

impl Sealed {
    pub(super) fn new(fs: Arc<HostFs>, found: &Found) -> Arc<Sealed> {
        let kind = FileType::from_mode(found.stat.mode).unwrap_or(FileType::Regular);
        let (permissions, links) = if kind == FileType::Directory { (0o555, 2) } else { (0, 1) };
        let metadata = Metadata {
            permissions,
            links,
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            special: Device::default(),
            ..metadata_of(&found.stat, kind, fs.guest_device(found.stat.device))
        };
        Arc::new(Sealed { fs, mount: found.mount, metadata })
    }

    /// Whether this stands for what was found.
    pub(super) fn is(&self, found: &Found) -> bool {
        let device = self.fs.guest_device(found.stat.device);
        (self.mount, self.metadata.device, self.metadata.number) == (found.mount, device, found.stat.number)
    }
}

impl Inode for Sealed {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        self.metadata.kind
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        Ok(self.metadata)
    }

    fn set_attributes(&self, _changes: &SetAttributes) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(if self.metadata.kind == FileType::Directory { Errno::ENOENT } else { Errno::ENOTDIR })
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.metadata.kind {
            FileType::Directory => Ok(Arc::new(Empty(self))),
            _ => Err(Errno::EACCES),
        }
    }

    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENODATA)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(Vec::new())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The directory, open.
struct Empty(Arc<Sealed>);

impl File for Empty {
    fn inode(&self) -> Arc<dyn Inode> {
        self.0.clone()
    }

    fn read_directory(&self, _from: u64, _sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        Ok(())
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
