//! Inodes of entries.

use std::any::Any;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType};

use super::directory::PseudoDirectory;
use super::{Entry, LongFile, PseudoFs, Query, Reader, Subject, TextFile, What, pieces};
use crate::kernel::Kernel;
use crate::task::TaskContext;
use crate::vfs::access::Ownership;
use crate::vfs::{Caller, File, FileSystem, Inode, Metadata, Path, SetAttributes};

/// An inode of proc or sysfs.
pub(crate) struct PseudoInode {
    fs: Arc<PseudoFs>,
    entry: &'static Entry,
    subject: Subject,
    number: u64,
    me: Weak<PseudoInode>,
}

impl PseudoInode {
    fn make(fs: &Arc<PseudoFs>, entry: &'static Entry, subject: Subject, number: u64) -> Arc<Self> {
        Arc::new_cyclic(|me| PseudoInode { fs: fs.clone(), entry, subject, number, me: me.clone() })
    }

    /// The root directory.
    pub(super) fn root(fs: &Arc<PseudoFs>) -> Arc<Self> {
        Self::make(fs, &fs.kind.root, Subject::default(), 1)
    }

    /// An inode outside directories, with the given number.
    pub(crate) fn numbered(fs: &Arc<PseudoFs>, entry: &'static Entry, number: u64) -> Arc<Self> {
        Self::make(fs, entry, Subject::default(), number)
    }

    /// The file system instance.
    pub(crate) fn fs(&self) -> &Arc<PseudoFs> {
        &self.fs
    }

    /// The object it describes.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Its entry.
    pub(crate) fn entry(&self) -> &'static Entry {
        self.entry
    }

    /// The inode number of the entry with this name, which is always the same.
    pub(super) fn number_of(&self, name: &[u8]) -> u64 {
        // FNV-1a, outside the ranges of numbers with a fixed meaning.
        let start = self.number ^ 0xcbf2_9ce4_8422_2325;
        let hash = name.iter().fold(start, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        0x1000 + (hash >> 33)
    }

    /// The entries of a directory in tables: its own, and those that subsystems add.
    pub(super) fn tables(&self, kernel: &Kernel) -> impl Iterator<Item = &'static Entry> + use<> {
        let (own, added) = match self.entry.what {
            What::Directory(own, added, _) => (own, added),
            _ => (&[] as &[Entry], None),
        };
        own.iter().chain(added.map(|added| kernel.fs.registry.entries(added)).into_iter().flatten())
    }

    fn inspect(&self, caller: &dyn Caller) -> Result<(), Errno> {
        if !self.entry.is_guarded {
            return Ok(());
        }
        self.subject.task()?.check_inspection(&caller.credentials(), TaskContext::of(caller)?.task())
    }

    fn ask<T>(&self, caller: &dyn Caller, look: impl FnOnce(&Query<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        let kernel = self.fs.kernel()?;
        look(&Query { kernel: &kernel, subject: &self.subject, reader: &Reader::of(caller)? })
    }

    /// The content of a file or the target of a link, for a reader with permission.
    ///
    /// # Errors
    /// `EINVAL` if it is neither; errors of the file.
    pub(crate) fn text(&self, reader: &Reader) -> Result<Vec<u8>, Errno> {
        let query = Query { kernel: &self.fs.kernel()?, subject: &self.subject, reader };
        match self.entry.what {
            What::File(text, _) | What::Link(text) | What::Magic(_, text) => text(&query),
            What::Long(begin) => pieces::whole(&query, begin),
            What::Special(_, Some(text)) => text(&query),
            What::Directory(..) | What::Special(_, None) => Err(Errno::EINVAL.here()),
        }
    }

    /// The owner: the process's user, or root if the process is not dumpable.
    fn owner(&self) -> (u32, u32) {
        let Ok(task) = self.subject.task() else { return (0, 0) };
        let world = self.kind() == FileType::Directory && self.entry.permissions == 0o555;
        if !world && task.group().dumpable() != 1 {
            return (0, 0);
        }
        let who = task.credentials();
        (who.euid, who.egid)
    }
}

impl Inode for PseudoInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        self.entry.kind()
    }

    fn identity(&self) -> Result<(Device, u64), Errno> {
        Ok((self.fs.device, self.number))
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let kind = self.kind();
        let Ownership { permissions, uid, gid } = self.ownership()?;
        let links = match self.entry.what {
            What::Directory(entries, _, more) => {
                let is_directory = |e: &&Entry| e.kind() == FileType::Directory;
                2 + match self.fs.kernel() {
                    Ok(kernel) => {
                        let listed = more.map_or(0, |more| more.links(&kernel, &self.subject));
                        listed + self.tables(&kernel).filter(is_directory).count() as u32
                    }
                    Err(_) => entries.iter().filter(is_directory).count() as u32,
                }
            }
            _ => 1,
        };
        let is_text = matches!(self.entry.what, What::File(..) | What::Long(_));
        Ok(Metadata {
            device: self.fs.device,
            number: self.number,
            kind,
            permissions,
            links,
            uid,
            gid,
            special: Device::default(),
            size: if is_text { self.fs.kind.file_size } else { 0 },
            blocks: 0,
            block_size: self.fs.kind.block_size,
            accessed: self.fs.born,
            modified: self.fs.born,
            changed: self.fs.born,
            born: None,
        })
    }

    fn ownership(&self) -> Result<Ownership, Errno> {
        let (uid, gid) = self.owner();
        Ok(Ownership { permissions: self.entry.permissions, uid, gid })
    }

    /// Opening with `O_TRUNC` sets the length to 0, which has no effect.
    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        if changes.permissions.is_some() || changes.uid.is_some() || changes.gid.is_some() {
            return Err(Errno::EPERM.here());
        }
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let What::Directory(_, _, listing) = self.entry.what else { return Err(Errno::ENOTDIR.here()) };
        let kernel = self.fs.kernel()?;
        let found = self.tables(&kernel).find(|e| e.name.as_bytes() == name && e.exists_in(&kernel));
        let (entry, subject) = match (found, listing) {
            (Some(entry), _) => (entry, self.subject.clone()),
            (None, Some(listing)) => listing.find(&kernel, &self.subject, name)?,
            (None, None) => return Err(Errno::ENOENT.here()),
        };
        // A process that has ended has no entries.
        if subject.task.is_some() {
            subject.task().map_err(|_| Errno::ENOENT.here())?;
        }
        Ok(Self::make(&self.fs, entry, subject, self.number_of(name)))
    }

    fn revalidate(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        let Some(child) = child.as_any().downcast_ref::<PseudoInode>() else { return false };
        let What::Directory(_, _, listing) = self.entry.what else { return false };
        if !child.entry.name.is_empty() {
            return child.subject.task.is_none() || child.subject.task().is_ok();
        }
        let (Some(listing), Ok(kernel)) = (listing, self.fs.kernel()) else { return false };
        let found = listing.find(&kernel, &self.subject, name);
        found.is_ok_and(|(entry, subject)| std::ptr::eq(entry, child.entry) && subject.is(&child.subject))
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        // These links depend on the reader (`read_link_as`).
        Err(if self.kind() == FileType::Symlink { Errno::EACCES.here() } else { Errno::EINVAL.here() })
    }

    fn read_link_as(&self, caller: &dyn Caller) -> Result<Vec<u8>, Errno> {
        match self.entry.what {
            What::Link(text) | What::Magic(_, text) => {
                self.inspect(caller)?;
                self.ask(caller, text)
            }
            _ => Err(Errno::EINVAL.here()),
        }
    }

    fn follow_magic_link(&self, caller: &dyn Caller) -> Option<Result<Path, Errno>> {
        match self.entry.what {
            What::Magic(to, _) => Some(self.inspect(caller).and_then(|()| self.ask(caller, to))),
            _ => None,
        }
    }

    fn permits(&self, caller: &dyn Caller) -> bool {
        let Ok(ctx) = TaskContext::of(caller) else { return false };
        self.entry.is_open_to_self && self.subject.task().is_ok_and(|task| Arc::ptr_eq(task.group(), ctx.group()))
    }

    fn forbids(&self, caller: &dyn Caller) -> bool {
        self.inspect(caller).is_err()
    }

    fn may_modify_entry(&self, name: &[u8], making: bool) -> Result<(), Errno> {
        match self.lookup(name) {
            Ok(_) if making => Err(Errno::EEXIST.here()),
            Err(Errno::ENOENT) if making => Err(self.fs.kind.new_names),
            Err(errno) => Err(errno),
            Ok(_) => Err(Errno::EPERM.here()),
        }
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.entry.what {
            What::Directory(..) => Ok(Arc::new(PseudoDirectory::new(self))),
            // These files depend on the opener: see `open_as`.
            _ => Err(Errno::EACCES.here()),
        }
    }

    fn open_as(self: Arc<Self>, caller: &dyn Caller, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        self.inspect(caller)?;
        match self.entry.what {
            // Read-only parameters cannot be opened for writing, not even by root.
            What::File(_, None) | What::Long(_) if flags.writes() && self.entry.name.is_empty() => {
                Err(Errno::EACCES.here())
            }
            What::File(text, store) => {
                let file = TextFile::new(self.clone(), Reader::of(caller)?, text, store);
                Ok(Arc::new(file))
            }
            What::Long(begin) => Ok(Arc::new(LongFile::new(self.clone(), Reader::of(caller)?, begin))),
            What::Special(open, _) => {
                let me = self.me.upgrade().ok_or_else(|| Errno::EIO.here())?;
                self.ask(caller, |query| open(&me, query))
            }
            _ => self.open(flags),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
