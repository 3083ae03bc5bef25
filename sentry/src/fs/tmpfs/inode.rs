//! Inodes in memory.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use amber_abi::acl::Acl;
use amber_abi::errno::Errno;
use amber_abi::open::{FallocateMode, OpenFlags, RenameFlags, Seals};
use amber_abi::stat::{Device, FileType};
use amber_abi::time::Timespec;
use amber_abi::xattr::XATTR_ACL_ACCESS;
use amber_platform::PAGE_SIZE;

use super::TmpFs;
use super::directory::{Entries, TmpDirectory};
use super::file::TmpFile;
use super::xattrs::Xattrs;
use crate::interruption::check_killed;
use crate::mm::{Mappable, PageCache, Quota};
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::vfs::access::Ownership;
use crate::vfs::{File, FileSystem, Inode, Metadata, NewInode, SetAttributes, SetTime, acl, now};

/// The contribution of an entry to the size of a directory, in bytes.
const ENTRY_SIZE: u64 = 20;

/// Memory of an entry without its name, in bytes.
const ENTRY_BYTES: u64 = 256;
/// Memory of an inode with its entry, without a name or target, in bytes.
pub(super) const INODE_BYTES: u64 = size_of::<TmpInode>() as u64 + ENTRY_BYTES;

/// A file in memory.
pub(crate) struct TmpInode {
    fs: Arc<TmpFs>,
    me: SelfRef<TmpInode>,
    number: u64,
    kind: FileType,
    special: Device,
    born: Timespec,
    attributes: Mutex<Attributes>,
    content: Content,
}

struct Attributes {
    permissions: u16,
    uid: u32,
    gid: u32,
    links: u32,
    /// Whether it was made without a name and can still be linked.
    linkable: bool,
    accessed: Timespec,
    modified: Timespec,
    changed: Timespec,
    xattrs: Xattrs,
}

struct Regular {
    pages: Arc<PageCache>,
    /// Locked over a write, so that length and seals do not change.
    writing: Mutex<Seals>,
}

enum Content {
    Directory(Mutex<Entries>),
    Regular(Regular),
    Link(Vec<u8>),
    Special,
}

impl TmpInode {
    pub(super) fn new(fs: Arc<TmpFs>, new: &NewInode<'_>) -> Arc<Self> {
        let now = now();
        let directory = new.kind == FileType::Directory;
        let attributes = Attributes {
            permissions: new.permissions,
            uid: new.uid,
            gid: new.gid,
            links: if directory { 2 } else { 1 },
            linkable: false,
            accessed: now,
            modified: now,
            changed: now,
            xattrs: Xattrs::default(),
        };
        let content = match new.kind {
            FileType::Directory => Content::Directory(Mutex::new(Rank::Inode, Entries::default())),
            FileType::Regular => {
                let quota: Arc<dyn Quota> = fs.pages.clone();
                let pages = PageCache::lasting(fs.memory.clone(), 0, Some(quota));
                // Files that are not memfds cannot be sealed.
                Content::Regular(Regular { pages, writing: Mutex::new(Rank::Inode, Seals::F_SEAL_SEAL) })
            }
            FileType::Symlink => Content::Link(new.target.to_vec()),
            _ => Content::Special,
        };
        let number = fs.next_number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new_cyclic(|me| TmpInode {
            fs,
            me: SelfRef::new(me),
            number,
            kind: new.kind,
            special: new.special,
            born: now,
            // Taken under the locks of content, as both change together.
            attributes: Mutex::new(Rank::Leaf, attributes),
            content,
        })
    }

    /// The inode number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn take_children(&self) -> Vec<Arc<TmpInode>> {
        match &self.content {
            Content::Directory(entries) => std::mem::take(&mut *entries.lock()).into_inodes(),
            _ => Vec::new(),
        }
    }

    fn entries(&self) -> Result<&Mutex<Entries>, Errno> {
        match &self.content {
            Content::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR.here()),
        }
    }

    pub(super) fn with_entries<T>(&self, look: impl FnOnce(&Entries) -> T) -> Result<T, Errno> {
        Ok(look(&self.entries()?.lock()))
    }

    fn regular(&self) -> Result<&Regular, Errno> {
        match &self.content {
            Content::Regular(regular) => Ok(regular),
            Content::Directory(_) => Err(Errno::EISDIR.here()),
            _ => Err(Errno::EINVAL.here()),
        }
    }

    /// The content of a regular file.
    pub(crate) fn pages(&self) -> Result<&Arc<PageCache>, Errno> {
        Ok(&self.regular()?.pages)
    }

    /// Writes at an offset or, with none, at the end. Returns the offset and the number of bytes.
    pub(super) fn write(&self, buf: &[u8], offset: Option<u64>) -> Result<(u64, usize), Errno> {
        let regular = self.regular()?;
        let done = {
            let seals = regular.writing.lock();
            let len = regular.pages.len();
            let offset = offset.unwrap_or(len);
            if seals.intersects(Seals::F_SEAL_WRITE | Seals::F_SEAL_FUTURE_WRITE) {
                return Err(Errno::EPERM.here());
            }
            let mut buf = buf;
            if seals.contains(Seals::F_SEAL_GROW) && offset.saturating_add(buf.len() as u64) > len {
                let room = len.saturating_sub(offset) as usize;
                buf = buf.get(..room).filter(|b| !b.is_empty()).ok_or_else(|| Errno::EPERM.here())?;
            }
            regular.pages.write(offset, buf).map(|n| (offset, n))?
        };
        self.note_modified();
        Ok(done)
    }

    fn set_len(&self, len: u64) -> Result<(), Errno> {
        let regular = self.regular()?;
        {
            let seals = regular.writing.lock();
            let old = regular.pages.len();
            if (len < old && seals.contains(Seals::F_SEAL_SHRINK)) || (len > old && seals.contains(Seals::F_SEAL_GROW))
            {
                return Err(Errno::EPERM.here());
            }
            regular.pages.set_len(len);
        }
        self.note_modified();
        Ok(())
    }

    /// The seals (see memfd_create(2)).
    pub(crate) fn seals(&self) -> Seals {
        self.regular().map_or(Seals::F_SEAL_SEAL, |regular| *regular.writing.lock())
    }

    /// Makes the file sealable (`MFD_ALLOW_SEALING` of memfd_create(2)).
    pub(crate) fn allow_sealing(&self, seals: Seals) {
        if let Ok(regular) = self.regular() {
            *regular.writing.lock() = seals;
        }
    }

    pub(super) fn add_seals(&self, new: Seals) -> Result<(), Errno> {
        let regular = self.regular()?;
        let mut new = new;
        // Sealing the mode of an executable file also seals its content, as on Linux.
        if new.contains(Seals::F_SEAL_EXEC) && self.ownership()?.permissions & 0o111 != 0 {
            new |= Seals::F_SEAL_SHRINK | Seals::F_SEAL_GROW | Seals::F_SEAL_WRITE | Seals::F_SEAL_FUTURE_WRITE;
        }
        let mut seals = regular.writing.lock();
        if seals.contains(Seals::F_SEAL_SEAL) {
            return Err(Errno::EPERM.here());
        }
        if new.contains(Seals::F_SEAL_WRITE) && !seals.contains(Seals::F_SEAL_WRITE) {
            regular.pages.seal_stores(true)?;
        } else if new.contains(Seals::F_SEAL_FUTURE_WRITE) {
            regular.pages.seal_stores(false)?;
        }
        *seals |= new;
        Ok(())
    }

    /// Notes that the inode got its first name, so that it cannot be linked again after its last name is removed.
    pub(crate) fn note_named(&self) {
        self.attributes.lock().linkable = false;
    }

    /// Updates the times for stores through shared mappings since the last call.
    fn note_stores(&self) {
        if let Content::Regular(regular) = &self.content
            && let Some(time) = regular.pages.take_store_time()
        {
            let mut attributes = self.attributes.lock();
            (attributes.modified, attributes.changed) = (time, time);
        }
    }

    /// Updates the times after a change of the content.
    pub(super) fn note_modified(&self) {
        let mut attributes = self.attributes.lock();
        attributes.modified = now();
        attributes.changed = attributes.modified;
    }

    fn note_changed(&self) {
        self.attributes.lock().changed = now();
    }

    pub(super) fn allocate(&self, mode: FallocateMode, offset: u64, len: u64) -> Result<(), Errno> {
        let keep = mode.contains(FallocateMode::FALLOC_FL_KEEP_SIZE);
        let rest = mode - FallocateMode::FALLOC_FL_KEEP_SIZE;
        let regular = self.regular()?;
        {
            let seals = regular.writing.lock();
            let pages = &regular.pages;
            let end = offset + len;
            if rest == FallocateMode::FALLOC_FL_PUNCH_HOLE && keep {
                if seals.intersects(Seals::F_SEAL_WRITE | Seals::F_SEAL_FUTURE_WRITE) {
                    return Err(Errno::EPERM.here());
                }
                pages.remove_range(offset..end.min(pages.len().next_multiple_of(PAGE_SIZE)).max(offset));
            } else if !rest.is_empty() {
                return Err(Errno::EOPNOTSUPP.here());
            }
        }
        if rest.is_empty() {
            let mut made = Vec::new();
            if let Err(errno) = self.set_aside(offset..offset + len, keep, &mut made) {
                regular.pages.release_reserved(made);
                return Err(errno);
            }
        }
        self.note_modified();
        Ok(())
    }

    /// Allocates all pages of a range and, unless `keep` is set, extends the file to its end. Adds the newly allocated
    /// ranges to `made`.
    fn set_aside(&self, range: Range<u64>, keep: bool, made: &mut Vec<Range<u64>>) -> Result<(), Errno> {
        let regular = self.regular()?;
        let pages = &regular.pages;
        let mut at = range.start;
        if !self.fs.pages.can_hold((range.end - range.start) / PAGE_SIZE) {
            return Err(Errno::ENOSPC.here());
        }
        while at < range.end {
            check_killed()?;
            let seals = regular.writing.lock();
            if range.end > pages.len() && seals.contains(Seals::F_SEAL_GROW) {
                return Err(Errno::EPERM.here());
            }
            at = pages.reserve_some(at..range.end, made)?;
            if at == range.end && !keep && at > pages.len() {
                pages.set_len(at);
            }
        }
        Ok(())
    }

    fn this(&self) -> Arc<TmpInode> {
        self.me.get()
    }

    fn own(&self, inode: &Arc<dyn Inode>) -> Result<Arc<TmpInode>, Errno> {
        let inode = inode.as_any().downcast_ref::<TmpInode>().ok_or_else(|| Errno::EXDEV.here())?;
        if Arc::ptr_eq(&inode.fs, &self.fs) { Ok(inode.this()) } else { Err(Errno::EXDEV.here()) }
    }

    fn add_link(&self) {
        let mut attributes = self.attributes.lock();
        attributes.links += 1;
        attributes.changed = now();
    }

    fn drop_link(&self) {
        let mut attributes = self.attributes.lock();
        attributes.links = attributes.links.saturating_sub(1);
        attributes.changed = now();
    }

    /// Updates the link count for a new or removed subdirectory.
    fn count_subdirectory(&self, gained: bool) {
        let mut attributes = self.attributes.lock();
        attributes.links = if gained { attributes.links + 1 } else { attributes.links.saturating_sub(1) };
    }

    fn take_away(&self, victim: &TmpInode) {
        victim.drop_link();
        if victim.kind == FileType::Directory {
            victim.drop_link();
            self.count_subdirectory(false);
        }
    }

    fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    fn check_replaceable(&self, victim: &TmpInode) -> Result<(), Errno> {
        match (self.is_directory(), victim.is_directory()) {
            (true, false) => Err(Errno::ENOTDIR.here()),
            (false, true) => Err(Errno::EISDIR.here()),
            (true, true) if victim.with_entries(Entries::len)? > 0 => Err(Errno::ENOTEMPTY.here()),
            _ => Ok(()),
        }
    }
}

impl Drop for TmpInode {
    /// The guest controls the depth of its directories, so descendants are dropped in a loop, not recursively.
    fn drop(&mut self) {
        self.fs.inodes.give_back(1 + self.attributes.get_mut().xattrs.total_cost());
        let mut open = self.take_children();
        while let Some(inode) = open.pop() {
            if let Some(inode) = Arc::into_inner(inode) {
                open.extend(inode.take_children());
            }
        }
    }
}

impl Inode for TmpInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn identity(&self) -> Result<(Device, u64), Errno> {
        Ok((self.fs.device, self.number))
    }

    fn is_linkable(&self) -> bool {
        self.attributes.lock().linkable
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        self.note_stores();
        let (size, pages) = match &self.content {
            Content::Directory(entries) => ((entries.lock().len() as u64 + 2) * ENTRY_SIZE, 0),
            Content::Regular(regular) => (regular.pages.len(), regular.pages.present_bytes() / PAGE_SIZE),
            Content::Link(target) => (target.len() as u64, 0),
            Content::Special => (0, 0),
        };
        let attributes = self.attributes.lock();
        Ok(Metadata {
            device: self.fs.device,
            number: self.number,
            kind: self.kind,
            permissions: attributes.permissions,
            links: attributes.links,
            uid: attributes.uid,
            gid: attributes.gid,
            special: self.special,
            size,
            blocks: pages * (PAGE_SIZE / 512),
            block_size: PAGE_SIZE as u32,
            accessed: attributes.accessed,
            modified: attributes.modified,
            changed: attributes.changed,
            born: Some(self.born),
        })
    }

    fn ownership(&self) -> Result<Ownership, Errno> {
        let attributes = self.attributes.lock();
        Ok(Ownership { permissions: attributes.permissions, uid: attributes.uid, gid: attributes.gid })
    }

    /// The list of a copied file; lists cannot be set otherwise.
    fn acl(&self) -> Result<Option<Arc<Acl>>, Errno> {
        acl::of(self.xattr(XATTR_ACL_ACCESS))
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        if let (Some(permissions), Content::Regular(regular)) = (changes.permissions, &self.content) {
            let sealed = regular.writing.lock().contains(Seals::F_SEAL_EXEC);
            if sealed && (permissions ^ self.attributes.lock().permissions) & 0o111 != 0 {
                return Err(Errno::EPERM.here());
            }
        }
        if let Some(size) = changes.size {
            self.set_len(size)?;
        }
        let now = now();
        let time = |set| match set {
            SetTime::Now => now,
            SetTime::To(time) => time,
        };
        self.note_stores();
        let mut attributes = self.attributes.lock();
        attributes.permissions = changes.permissions.unwrap_or(attributes.permissions);
        attributes.uid = changes.uid.unwrap_or(attributes.uid);
        attributes.gid = changes.gid.unwrap_or(attributes.gid);
        attributes.accessed = changes.accessed.map_or(attributes.accessed, time);
        attributes.modified = changes.modified.map_or(attributes.modified, time);
        attributes.changed = now;
        Ok(())
    }

    fn touch_accessed(&self, relative: bool) {
        let mut attributes = self.attributes.lock();
        let now = now();
        let day = 24 * 60 * 60;
        let seen = (attributes.accessed.tv_sec, attributes.accessed.tv_nsec);
        let stale = seen <= (attributes.modified.tv_sec, attributes.modified.tv_nsec)
            || seen <= (attributes.changed.tv_sec, attributes.changed.tv_nsec)
            || now.tv_sec - attributes.accessed.tv_sec >= day;
        if !relative || stale {
            attributes.accessed = now;
        }
    }

    fn touch_modified(&self) {
        self.note_modified();
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = self.entries()?.lock().get(name).cloned();
        Ok(found.ok_or_else(|| Errno::ENOENT.here())?)
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let entries = self.entries()?;
        let inode = self.fs.make(new)?;
        {
            let mut entries = entries.lock();
            if entries.get(name).is_some() {
                return Err(Errno::EEXIST.here());
            }
            entries.insert(name, inode.clone());
        }
        if inode.is_directory() {
            self.count_subdirectory(true);
        }
        self.note_modified();
        Ok(inode)
    }

    fn create_unnamed(&self, new: &NewInode<'_>, linkable: bool) -> Result<Arc<dyn Inode>, Errno> {
        let inode = self.fs.make(new)?;
        {
            let mut attributes = inode.attributes.lock();
            attributes.links = 0;
            attributes.linkable = linkable;
        }
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let target = self.own(target)?;
        let mut entries = self.entries()?.lock();
        if entries.get(name).is_some() {
            return Err(Errno::EEXIST.here());
        }
        {
            let mut attributes = target.attributes.lock();
            if attributes.links == 0 && !attributes.linkable {
                return Err(Errno::ENOENT.here());
            }
            attributes.linkable = false;
        }
        self.fs.memory.admit_lasting(ENTRY_BYTES + name.len() as u64).map_err(|_| Errno::ENOSPC.here())?;
        target.add_link();
        entries.insert(name, target);
        drop(entries);
        self.note_modified();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        let victim = {
            let mut entries = self.entries()?.lock();
            let victim = entries.get(name).cloned().ok_or_else(|| Errno::ENOENT.here())?;
            if victim.is_directory() {
                return Err(Errno::EISDIR.here());
            }
            entries.remove(name);
            victim
        };
        self.take_away(&victim);
        self.note_modified();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<(), Errno> {
        let victim = {
            let mut entries = self.entries()?.lock();
            let victim = entries.get(name).cloned().ok_or_else(|| Errno::ENOENT.here())?;
            // A parent's entries are locked before a child's. The caller has locked the directory's names, so no rename
            // can reverse their order.
            if victim.entries()?.lock_beside().len() > 0 {
                return Err(Errno::ENOTEMPTY.here());
            }
            entries.remove(name);
            victim
        };
        self.take_away(&victim);
        self.note_modified();
        Ok(())
    }

    fn rename(
        &self,
        name: &[u8],
        directory: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let to = self.own(directory)?;
        // The caller has locked the names of both directories, so nothing changes between these steps.
        let moved = self.with_entries(|e| e.get(name).cloned())?.ok_or_else(|| Errno::ENOENT.here())?;
        let replaced = to.with_entries(|e| e.get(new_name).cloned())?;
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            let other = replaced.ok_or_else(|| Errno::ENOENT.here())?;
            self.entries()?.lock().insert(name, other.clone());
            to.entries()?.lock().insert(new_name, moved.clone());
            if moved.is_directory() != other.is_directory() {
                self.count_subdirectory(other.is_directory());
                to.count_subdirectory(moved.is_directory());
            }
            other.note_changed();
        } else {
            let whiteout = if flags.contains(RenameFlags::RENAME_WHITEOUT) {
                Some(self.fs.make(&NewInode::whiteout())?)
            } else {
                None
            };
            if let Some(victim) = &replaced {
                moved.check_replaceable(victim)?;
            }
            let gone = self.entries()?.lock().remove(name);
            drop(gone);
            to.entries()?.lock().insert(new_name, moved.clone());
            if let Some(victim) = &replaced {
                to.take_away(victim);
            }
            if moved.is_directory() {
                self.count_subdirectory(false);
                to.count_subdirectory(true);
            }
            if let Some(whiteout) = whiteout {
                self.entries()?.lock().insert(name, whiteout);
            }
        }
        moved.note_changed();
        self.note_modified();
        to.note_modified();
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match &self.content {
            Content::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL.here()),
        }
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.kind {
            FileType::Directory => Ok(Arc::new(TmpDirectory { inode: self })),
            FileType::Regular => Ok(Arc::new(TmpFile { inode: self })),
            _ => Err(Errno::ENXIO.here()),
        }
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.attributes.lock().xattrs.get(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<(), Errno> {
        let mut attributes = self.attributes.lock();
        attributes.xattrs.set(name, value, (create, replace), &self.fs.memory, &self.fs.inodes)?;
        attributes.changed = now();
        Ok(())
    }

    fn xattrs(&self, tell: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
        self.attributes.lock().xattrs.names(tell);
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        let mut attributes = self.attributes.lock();
        attributes.xattrs.remove(name, &self.fs.inodes)?;
        attributes.changed = now();
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
