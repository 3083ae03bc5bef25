//! The host's `/proc` and `/sys`, for guests that get them as volumes.
//!
//! Monitoring agents use these. An unprivileged process ([`amber_host::reader`]) looks up and reads their files, so the
//! host kernel checks the permissions. In addition, lists of names ([`view`]) and the modes of files restrict what is
//! shown.

mod file;
mod view;

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType, StatFs};
use amber_host::fs::{Found, HostEntry};
use amber_host::reader::{Opened, TreeFile};

use crate::fs::hostfs::{HostDirectory, Listed, Sealed, metadata_of};
use crate::interruption::check_killed;
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::vfs::access::Ownership;
use crate::vfs::{File, FileSystem, Inode, Metadata, SetAttributes, Vfs};
use file::KernelFile;
use view::{Level, View};

/// How often a directory is listed again if the reader process closed it before the end.
const TRIES: usize = 4;

/// A tree of such a file system.
pub(crate) struct HostKernelFs {
    vfs: Arc<Vfs>,
    file: TreeFile,
    /// The root's attributes when it was opened.
    first: Found,
    magic: i64,
    view: View,
    device: Device,
    devices: Mutex<HashMap<u64, Device>>,
    me: SelfRef<HostKernelFs>,
}

impl HostKernelFs {
    /// Makes a file system of the tree below a file of the reader process.
    ///
    /// # Errors
    /// Errors of the reader process; `EACCES` if the file's file system is not shown.
    pub(crate) fn new(vfs: &Arc<Vfs>, file: TreeFile) -> Result<Arc<Self>, Errno> {
        let (first, magic) = file.look(check_killed)?;
        let view = View::of(magic, &first.stat).ok_or_else(|| Errno::EACCES.here())?;
        Ok(Arc::new_cyclic(|me| HostKernelFs {
            vfs: vfs.clone(),
            file,
            first,
            magic,
            view,
            device: vfs.anonymous_device(),
            devices: Mutex::new(Rank::Leaf, HashMap::new()),
            me: SelfRef::new(me),
        }))
    }

    fn this(&self) -> Arc<HostKernelFs> {
        self.me.get()
    }

    /// Whether a file is shown: it is on the root's mount, or on a file system that the tree may include.
    fn admits(&self, found: &Found, magic: i64) -> bool {
        found.mount.is_some() && found.mount == self.first.mount || self.view.leads_into(magic)
    }

    /// The guest's device number for a host device.
    fn guest_device(&self, device: u64) -> Device {
        if device == self.first.stat.device {
            return self.device;
        }
        *self.devices.lock().entry(device).or_insert_with(|| self.vfs.anonymous_device())
    }
}

impl FileSystem for HostKernelFs {
    fn name(&self) -> &'static str {
        "hostfs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        let level = (self.view == View::Proc).then_some(Level::Root);
        KernelInode::new(self.this(), self.file.clone(), self.first, level)
    }

    fn device(&self) -> Device {
        self.device
    }

    /// These file systems have no storage.
    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { f_type: self.magic, f_bsize: 4096, f_frsize: 4096, f_namelen: 255, ..StatFs::default() })
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn stays_read_only(&self) -> bool {
        true
    }
}

/// A file of the host kernel, identified by its path.
pub(crate) struct KernelInode {
    fs: Arc<HostKernelFs>,
    file: TreeFile,
    kind: FileType,
    /// Its attributes when it was found.
    found: Found,
    /// The level in `/proc`, where only some names are shown; none where all are.
    level: Option<Level>,
}

impl KernelInode {
    fn new(fs: Arc<HostKernelFs>, file: TreeFile, found: Found, level: Option<Level>) -> Arc<Self> {
        let kind = FileType::from_mode(found.stat.mode).unwrap_or(FileType::Regular);
        Arc::new(KernelInode { fs, file, kind, found, level })
    }

    /// Opens the file in the reader process.
    fn opened(&self) -> Result<Opened, Errno> {
        let opened = self.file.open(check_killed)?;
        if !self.fs.admits(&opened.found, opened.magic) {
            return Err(Errno::EACCES.here());
        }
        view::check_readable(&opened.found.stat)?;
        Ok(opened)
    }

    fn list_once(&self) -> Result<Vec<HostEntry>, Errno> {
        let (opened, mut entries) = (self.opened()?, Vec::new());
        while opened.list(&mut entries, check_killed)? {
            check_killed()?;
        }
        if let Some(level) = self.level {
            entries.retain(|entry| level.shows(&entry.name));
        }
        Ok(entries)
    }
}

impl Listed for KernelInode {
    fn list(&self) -> Result<Vec<HostEntry>, Errno> {
        for _ in 1..TRIES {
            match self.list_once() {
                Err(Errno::ESTALE) => {}
                listed => return listed,
            }
        }
        self.list_once()
    }
}

impl Inode for KernelInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let found = match self.file.look(check_killed) {
            Ok((found, _)) if FileType::from_mode(found.stat.mode) == Some(self.kind) => found,
            // The process has ended, but attributes of an open file can still be read.
            Ok(_) | Err(Errno::ENOENT | Errno::ESRCH) => self.found,
            Err(errno) => return Err(errno),
        };
        Ok(metadata_of(&found.stat, self.kind, self.fs.guest_device(found.stat.device)))
    }

    fn identity(&self) -> Result<(Device, u64), Errno> {
        Ok((self.fs.guest_device(self.found.stat.device), self.found.stat.number))
    }

    fn ownership(&self) -> Result<Ownership, Errno> {
        let stat = &self.found.stat;
        Ok(Ownership { permissions: (stat.mode & 0o7777) as u16, uid: stat.uid, gid: stat.gid })
    }

    fn set_attributes(&self, _changes: &SetAttributes) -> Result<(), Errno> {
        Err(Errno::EROFS.here())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if self.kind != FileType::Directory {
            return Err(Errno::ENOTDIR.here());
        }
        if self.level.is_some_and(|level| !level.shows(name)) {
            return Err(Errno::ENOENT.here());
        }
        let file = self.file.entry(name)?;
        let (found, magic) = file.look(check_killed)?;
        if !self.fs.admits(&found, magic) {
            return Ok(Sealed::new(self.fs.clone(), self.fs.guest_device(found.stat.device), &found));
        }
        let level = if self.level == Some(Level::Root) { Level::below_root(name) } else { None };
        Ok(KernelInode::new(self.fs.clone(), file, found, level))
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match self.level {
            _ if self.kind != FileType::Symlink => Err(Errno::EINVAL.here()),
            Some(level) => level.link(),
            None => self.file.link(check_killed),
        }
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.kind {
            FileType::Directory => Ok(Arc::new(HostDirectory::new(self))),
            FileType::Regular => Ok(Arc::new(KernelFile::new(self)?)),
            _ => Err(Errno::ENXIO.here()),
        }
    }

    fn xattrs(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
