//! Inodes of the overlay.

use std::any::Any;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use amber_abi::acl::Acl;
use amber_abi::errno::Errno;
use amber_abi::open::{OpenFlags, RenameFlags};
use amber_abi::stat::{Device, FileType};

use super::directory::OverlayDirectory;
use super::entries::{Change, Entries};
use super::file::OverlayFile;
use super::{OverlayFs, UPPER_NUMBERS};
use crate::fs::copy;
use crate::fs::tmpfs::TmpInode;
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::vfs::access::Ownership;
use crate::vfs::{File, FileSystem, Inode, Metadata, NewInode, SetAttributes, SetTime};

/// An inode of the lower tree, possibly changed, or of the upper layer.
pub(super) struct OverlayInode {
    fs: Arc<OverlayFs>,
    me: SelfRef<OverlayInode>,
    kind: FileType,
    device: Device,
    number: u64,
    lower: Option<(Arc<dyn Inode>, (Device, u64))>,
    upper: OnceLock<Arc<dyn Inode>>,
    /// The target of a symbolic link of the lower tree, once it was read.
    target: OnceLock<Vec<u8>>,
    /// Locked while the inode is copied up.
    copying: Mutex<()>,
    /// The link count minus that of the lower inode.
    more_links: AtomicI64,
    /// The entries of a directory.
    entries: Option<Mutex<Entries>>,
}

impl OverlayInode {
    fn build(
        fs: Arc<OverlayFs>,
        kind: FileType,
        (device, number): (Device, u64),
        lower: Option<(Arc<dyn Inode>, (Device, u64))>,
        upper: Option<Arc<dyn Inode>>,
    ) -> Arc<Self> {
        let links = match (&lower, kind) {
            (Some(_), _) => 0,
            (None, FileType::Directory) => 2,
            (None, _) => 1,
        };
        Arc::new_cyclic(|me| OverlayInode {
            fs,
            me: SelfRef::new(me),
            kind,
            device,
            number,
            lower,
            upper: upper.map_or_else(OnceLock::new, OnceLock::from),
            target: OnceLock::new(),
            copying: Mutex::new(Rank::Layers, ()),
            more_links: AtomicI64::new(links),
            entries: (kind == FileType::Directory).then(|| Mutex::new(Rank::Layers, Entries::default())),
        })
    }

    pub(super) fn of_lower(fs: Arc<OverlayFs>, key: (Device, u64), lower: Arc<dyn Inode>) -> Arc<Self> {
        let shown = (fs.device_of(key.0), key.1);
        let kind = lower.kind();
        Self::build(fs, kind, shown, Some((lower, key)), None)
    }

    fn of_upper(fs: Arc<OverlayFs>, upper: Arc<dyn Inode>) -> Result<Arc<Self>, Errno> {
        let shown = (fs.device, UPPER_NUMBERS | upper.identity()?.1);
        let kind = upper.kind();
        Ok(Self::build(fs, kind, shown, None, Some(upper)))
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn lower(&self) -> Option<&Arc<dyn Inode>> {
        self.lower.as_ref().map(|(lower, _)| lower)
    }

    pub(super) fn upper(&self) -> Option<Arc<dyn Inode>> {
        self.upper.get().cloned()
    }

    pub(super) fn entries(&self) -> Result<&Mutex<Entries>, Errno> {
        self.entries.as_ref().ok_or_else(|| Errno::ENOTDIR.here())
    }

    fn this(&self) -> Arc<OverlayInode> {
        self.me.get()
    }

    /// The effective layer: the upper one if it exists.
    fn layer(&self) -> Result<&Arc<dyn Inode>, Errno> {
        self.upper.get().or(self.lower()).ok_or_else(|| Errno::EIO.here())
    }

    /// Keeps the inode in memory while it has a name.
    fn anchor(&self) {
        if let Some((_, key)) = &self.lower {
            self.fs.anchor(*key, &self.this());
        }
    }

    /// Copies the inode to the upper layer, with at most `most` bytes of its content.
    fn copy_up(&self, most: u64) -> Result<&Arc<dyn Inode>, Errno> {
        if let Some(upper) = self.upper.get() {
            return Ok(upper);
        }
        let _one = self.copying.lock_killable()?;
        if let Some(upper) = self.upper.get() {
            return Ok(upper);
        }
        let lower = self.lower().ok_or_else(|| Errno::EIO.here())?;
        let upper = copy::inode(lower, most, |new| Ok(self.fs.upper.make(new)?))?;
        copy::times(lower, &upper)?;
        self.anchor();
        Ok(self.upper.get_or_init(|| upper))
    }

    fn change_entries<T>(&self, change: impl FnOnce(&mut Entries) -> Result<T, Errno>) -> Result<T, Errno> {
        let result = change(&mut self.entries()?.lock())?;
        self.anchor();
        Ok(result)
    }

    /// Updates the times after a change of the directory's content.
    fn note_modified(&self) -> Result<(), Errno> {
        let changes = SetAttributes { modified: Some(SetTime::Now), ..SetAttributes::default() };
        self.copy_up(0)?.set_attributes(&changes)
    }

    fn count(&self, by: i64) {
        self.more_links.fetch_add(by, Ordering::Relaxed);
    }

    fn note_changed(&self) -> Result<(), Errno> {
        self.copy_up(u64::MAX)?.set_attributes(&SetAttributes::default())
    }

    /// Updates link counts after a name of `victim` in this directory was removed.
    fn lose(&self, victim: &OverlayInode) {
        if victim.kind == FileType::Directory {
            victim.count(-2);
            self.count(-1);
        } else {
            victim.count(-1);
        }
        let gone = victim.kind == FileType::Directory || victim.metadata().map_or(true, |m| m.links == 0);
        if let (true, Some((_, key))) = (gone, &victim.lower) {
            self.fs.release(*key);
        }
    }

    fn find(&self, name: &[u8]) -> Result<Arc<OverlayInode>, Errno> {
        let entries = self.entries()?.lock();
        match (entries.get(name), self.lower()) {
            (Some(Change::Present(inode)), _) => Ok(inode.clone()),
            (Some(Change::Removed), _) | (None, None) => Err(Errno::ENOENT.here()),
            (None, Some(lower)) => {
                let found = lower.lookup(name)?;
                drop(entries);
                self.fs.of_lower(found)
            }
        }
    }

    fn check_empty(&self) -> Result<(), Errno> {
        if self.entries()?.lock().has_any() || !self.list(1)?.is_empty() {
            Err(Errno::ENOTEMPTY.here())
        } else {
            Ok(())
        }
    }

    fn own(&self, inode: &Arc<dyn Inode>) -> Result<Arc<OverlayInode>, Errno> {
        let inode = inode.as_any().downcast_ref::<OverlayInode>().ok_or_else(|| Errno::EXDEV.here())?;
        if Arc::ptr_eq(&inode.fs, &self.fs) { Ok(inode.this()) } else { Err(Errno::EXDEV.here()) }
    }
}

impl Drop for OverlayInode {
    /// The guest controls the depth of its directories, so descendants are dropped in a loop, not recursively.
    fn drop(&mut self) {
        let take = |inode: &OverlayInode| {
            let entries = inode.entries.as_ref().map(|entries| std::mem::take(&mut *entries.lock()));
            entries.into_iter().flat_map(Entries::into_inodes).collect::<Vec<_>>()
        };
        let mut open = take(self);
        while let Some(inode) = open.pop() {
            if let Some(inode) = Arc::into_inner(inode) {
                open.extend(take(&inode));
            }
        }
    }
}

impl Inode for OverlayInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn identity(&self) -> Result<(Device, u64), Errno> {
        Ok((self.device, self.number))
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let layer = self.layer()?;
        let m = layer.metadata()?;
        let below = match (self.lower(), self.upper.get()) {
            (Some(lower), Some(_)) => lower.metadata().map_or(1, |m| m.links),
            (Some(_), None) => m.links,
            (None, _) => 0,
        };
        let links = i64::from(below) + self.more_links.load(Ordering::Relaxed);
        let links = u32::try_from(links).unwrap_or(0);
        Ok(Metadata { device: self.device, number: self.number, links, ..m })
    }

    fn ownership(&self) -> Result<Ownership, Errno> {
        self.layer()?.ownership()
    }

    fn has_mapped_owner(&self) -> bool {
        self.layer().is_ok_and(|layer| layer.has_mapped_owner())
    }

    fn refresh(&self) -> Result<(), Errno> {
        self.layer()?.refresh()
    }

    fn acl(&self) -> Result<Option<Arc<Acl>>, Errno> {
        self.layer()?.acl()
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        self.copy_up(changes.size.unwrap_or(u64::MAX))?.set_attributes(changes)
    }

    fn touch_accessed(&self, relative: bool) {
        if let Some(upper) = self.upper.get() {
            upper.touch_accessed(relative);
        }
    }

    fn touch_modified(&self) {
        if let Some(upper) = self.upper.get() {
            upper.touch_modified();
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Ok(self.find(name)?)
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let upper = self.fs.upper.make(new)?;
        let inode = Self::of_upper(self.fs.clone(), upper)?;
        self.note_modified()?;
        self.change_entries(|entries| {
            entries.set(name, inode.clone());
            Ok(())
        })?;
        if new.kind == FileType::Directory {
            self.count(1);
        }
        Ok(inode)
    }

    fn create_unnamed(&self, new: &NewInode<'_>, linkable: bool) -> Result<Arc<dyn Inode>, Errno> {
        let upper = self.fs.upper.root().create_unnamed(new, linkable)?;
        let inode = Self::of_upper(self.fs.clone(), upper)?;
        inode.count(-1);
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let target = self.own(target)?;
        if target.metadata()?.links == 0 && !target.layer()?.is_linkable() {
            return Err(Errno::ENOENT.here());
        }
        target.note_changed()?;
        self.note_modified()?;
        self.change_entries(|entries| {
            entries.set(name, target.clone());
            Ok(())
        })?;
        target.count(1);
        target.anchor();
        if let Some(upper) = target.upper()
            && let Some(upper) = upper.as_any().downcast_ref::<TmpInode>()
        {
            upper.note_named();
        }
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        let victim = self.find(name)?;
        if victim.kind == FileType::Directory {
            return Err(Errno::EISDIR.here());
        }
        self.note_modified()?;
        let old = self.change_entries(|entries| entries.remove(name, self.lower()))?;
        drop(old);
        self.lose(&victim);
        if let Some(upper) = victim.upper.get() {
            upper.set_attributes(&SetAttributes::default())?;
        }
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<(), Errno> {
        let victim = self.find(name)?;
        victim.check_empty()?;
        self.note_modified()?;
        let old = self.change_entries(|entries| entries.remove(name, self.lower()))?;
        drop(old);
        self.lose(&victim);
        Ok(())
    }

    fn rename(
        &self,
        name: &[u8],
        directory: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        if flags.contains(RenameFlags::RENAME_WHITEOUT) {
            return Err(Errno::EINVAL.here());
        }
        let to = self.own(directory)?;
        // The caller has locked the names of both directories, so nothing changes between these steps.
        let moved = self.find(name)?;
        let replaced = match to.find(new_name) {
            Ok(inode) => Some(inode),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        if let (false, Some(victim)) = (exchange, &replaced)
            && victim.kind == FileType::Directory
        {
            victim.check_empty()?;
        }
        self.note_modified()?;
        to.note_modified()?;
        let step = |inode: &OverlayInode| i64::from(inode.kind == FileType::Directory);
        if exchange {
            let other = replaced.ok_or_else(|| Errno::ENOENT.here())?;
            self.change_entries(|entries| {
                entries.set(name, other.clone());
                Ok(())
            })?;
            self.count(step(&other) - step(&moved));
            to.count(step(&moved) - step(&other));
            other.anchor();
        } else {
            let old = self.change_entries(|entries| entries.remove(name, self.lower()))?;
            drop(old);
            if let Some(victim) = &replaced {
                to.lose(victim);
            }
            self.count(-step(&moved));
            to.count(step(&moved));
        }
        to.change_entries(|entries| {
            entries.set(new_name, moved.clone());
            Ok(())
        })?;
        moved.anchor();
        if let Some(upper) = moved.upper.get() {
            upper.set_attributes(&SetAttributes::default())?;
        }
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        if let (None, Some(lower)) = (self.upper.get(), self.lower()) {
            // The lower tree does not change, so the target is cached.
            if let Some(target) = self.target.get() {
                return Ok(target.clone());
            }
            let target = lower.read_link()?;
            return Ok(self.target.get_or_init(|| target).clone());
        }
        self.layer()?.read_link()
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.kind {
            FileType::Directory => Ok(Arc::new(OverlayDirectory::new(self))),
            FileType::Regular => {
                if flags.contains(OpenFlags::O_TRUNC) {
                    self.copy_up(0)?;
                } else if flags.writes() {
                    self.copy_up(u64::MAX)?;
                }
                Ok(Arc::new(OverlayFile::new(self)?))
            }
            _ => Err(Errno::ENXIO.here()),
        }
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.layer()?.xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<(), Errno> {
        self.copy_up(u64::MAX)?.set_xattr(name, value, create, replace)
    }

    fn has_capabilities(&self) -> bool {
        self.layer().is_ok_and(|layer| layer.has_capabilities())
    }

    fn xattrs(&self, tell: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
        self.layer()?.xattrs(tell)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        self.copy_up(u64::MAX)?.remove_xattr(name)
    }

    fn is_linkable(&self) -> bool {
        self.layer().is_ok_and(|layer| layer.is_linkable())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
