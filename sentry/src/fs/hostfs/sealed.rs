//! Placeholders for file systems of the host that are not served.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType, StatFs};
use amber_host::fs::Found;

use super::inode::metadata_of;
use crate::self_ref::SelfRef;
use crate::vfs::{DirectorySink, File, FileSystem, Inode, Metadata, SetAttributes, Vfs};

/// A mount point: an empty, immutable directory, as if the tree did not include the mount, or a file that cannot be
/// opened.
pub(in crate::fs) struct Sealed {
    fs: Arc<dyn FileSystem>,
    mount: Option<u64>,
    metadata: Metadata,
}

impl Sealed {
    /// A placeholder in this file system, with the device number `device` in the guest.
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

    /// Whether this is the placeholder for `found` with the device number `device`.
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

/// A file system that consists of a placeholder as its root.
pub(super) struct SealedFs {
    first: Found,
    device: Device,
    me: SelfRef<SealedFs>,
}

impl SealedFs {
    pub(super) fn new(vfs: &Vfs, first: Found) -> Arc<SealedFs> {
        Arc::new_cyclic(|me| SealedFs { first, device: vfs.anonymous_device(), me: SelfRef::new(me) })
    }
}

impl FileSystem for SealedFs {
    fn name(&self) -> &'static str {
        "hostfs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        let this = self.me.get();
        Sealed::new(this, self.device, &self.first)
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { f_bsize: 4096, f_frsize: 4096, f_namelen: 255, ..StatFs::default() })
    }
}

/// The open directory.
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
