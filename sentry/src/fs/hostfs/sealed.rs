//! What a guest sees in place of a file system of the host that it is not served from.

use std::any::Any;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType, StatFs};
use amber_host::fs::Found;

use super::inode::metadata_of;
use crate::vfs::{DirectorySink, File, FileSystem, Inode, Metadata, SetAttributes, Vfs};

/// A mount point: an empty directory in which nothing can be made, as if the mount had been left out of the tree; or a
/// file that cannot be opened.
pub(in crate::fs) struct Sealed {
    fs: Arc<dyn FileSystem>,
    mount: Option<u64>,
    metadata: Metadata,
}

impl Sealed {
    /// One in this file system, where the guest sees it on `device`.
    pub(in crate::fs) fn new(fs: Arc<dyn FileSystem>, device: Device, found: &Found) -> Arc<Sealed> {
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
            ..metadata_of(&found.stat, kind, device)
        };
        Arc::new(Sealed { fs, mount: found.mount, metadata })
    }

    /// Whether this stands for what was found, which the guest sees on `device`.
    pub(super) fn is(&self, found: &Found, device: Device) -> bool {
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
        Err(Errno::EPERM.here())
    }

    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(if self.metadata.kind == FileType::Directory { Errno::ENOENT.here() } else { Errno::ENOTDIR.here() })
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.metadata.kind {
            FileType::Directory => Ok(Arc::new(Empty(self))),
            _ => Err(Errno::EACCES.here()),
        }
    }

    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENODATA.here())
    }

    fn xattrs(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A file system of which nothing is shown but where it begins.
pub(super) struct SealedFs {
    first: Found,
    device: Device,
    me: Weak<SealedFs>,
}

impl SealedFs {
    pub(super) fn new(vfs: &Vfs, first: Found) -> Arc<SealedFs> {
        Arc::new_cyclic(|me| SealedFs { first, device: vfs.anonymous_device(), me: me.clone() })
    }
}

impl FileSystem for SealedFs {
    fn name(&self) -> &'static str {
        "hostfs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        let this = self.me.upgrade().expect("a method runs on a file system that somebody holds");
        Sealed::new(this, self.device, &self.first)
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { f_bsize: 4096, f_frsize: 4096, f_namelen: 255, ..StatFs::default() })
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
