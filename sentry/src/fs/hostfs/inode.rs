//! Inodes of host files.

use std::any::Any;
use std::fs::File as StdFile;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::acl::Acl;
use amber_abi::errno::Errno;
use amber_abi::open::{OpenFlags, RenameFlags};
use amber_abi::stat::{Device, FileType};
use amber_abi::time::Timespec;
use amber_abi::xattr::XATTR_CAPABILITY;
use amber_host::fs as host;
use amber_host::fs::{HostStat, HostTime};
use amber_host::users::is_imposed;
use amber_host::xattr;

use super::HostFs;
use super::acl::RequestedMode;
use super::descriptor::Descriptor;
use super::directory::{HostDirectory, Listed};
use super::file::HostFile;
use super::identity::Identity;
use super::mapping::Mapped;
use super::sealed::Sealed;
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::vfs::access::{Ownership, SET_GID, SET_UID};
use crate::vfs::{File, FileSystem, Inode, Metadata, NewInode, SetAttributes, SetTime};

/// A host file, identified by the name at which it was found.
pub(super) struct HostInode {
    pub(super) fs: Arc<HostFs>,
    me: SelfRef<HostInode>,
    pub(super) kind: FileType,
    /// The file that it was made for. In a shared tree it never stands for another one.
    pub(super) first: Identity,
    pub(super) state: Mutex<State>,
    pub(super) used: AtomicBool,
    /// Whether owner and group, as last read, are mapped.
    pub(super) has_mapped_owner: AtomicBool,
    /// Incremented when the sentry changes the owner or mode, so that an older read does not replace a newer one.
    pub(super) settled: AtomicU64,
    /// How many more lookups in this directory pin what they find.
    pub(super) pinning: AtomicU32,
    appending: Mutex<()>,
}

/// The mutable state of an inode.
pub(super) struct State {
    pub(super) parent: Option<Arc<HostInode>>,
    pub(super) name: Box<[u8]>,
    pub(super) identity: Identity,
    /// The mount of the cached descriptor.
    pub(super) mount: Option<u64>,
    /// Owner and mode as last read. In a tree that is not shared, only the sentry changes them.
    pub(super) ownership: Ownership,
    /// The host's `ctime` as last read.
    pub(super) changed: Timespec,
    /// The access control list at that time, if it was read; the inner value is none if there is no list.
    pub(super) acl: Option<Option<Arc<Acl>>>,
    /// For directories the descriptor for access to entries, for files one open for reading. Kept while recently used.
    pub(super) kept: Option<Arc<Descriptor>>,
    /// A directory open for reading. Closed together with `kept`.
    pub(super) listing: Option<Arc<Descriptor>>,
    /// An `O_PATH` descriptor of a file whose name is not reliable. Kept while recently used.
    pub(super) pin: Option<Arc<Descriptor>>,
    /// The descriptor by which the file was made, until it is opened.
    pub(super) made: Option<Arc<Descriptor>>,
    /// A descriptor open for writing, while in use.
    pub(super) writer: Weak<Descriptor>,
    /// A descriptor open for reading, while in use.
    pub(super) reader: Weak<Descriptor>,
    /// The pages, once the file was mapped.
    pub(super) mapped: Option<Mapped>,
    /// The only access to the inode after its name was removed.
    pub(super) orphan: Option<Arc<Descriptor>>,
    /// Whether it was made without a name (`O_TMPFILE`) and can still be linked.
    pub(super) linkable: bool,
}

pub(super) fn ownership_of(stat: &HostStat) -> Ownership {
    Ownership { permissions: (stat.mode & 0o7777) as u16, uid: stat.uid, gid: stat.gid }
}

/// The attributes of a host file as the guest sees them on `device`.
pub(in crate::fs) fn metadata_of(stat: &HostStat, kind: FileType, device: Device) -> Metadata {
    Metadata {
        device,
        number: stat.number,
        kind,
        permissions: (stat.mode & 0o7777) as u16,
        links: stat.links as u32,
        uid: stat.uid,
        gid: stat.gid,
        special: Device::from_raw(stat.special),
        size: stat.size,
        blocks: stat.blocks,
        block_size: stat.block_size,
        accessed: stat.accessed,
        modified: stat.modified,
        changed: stat.changed,
        born: None,
    }
}

fn kind_of(stat: &HostStat) -> FileType {
    FileType::from_mode(stat.mode).unwrap_or(FileType::Regular)
}

impl HostInode {
    pub(super) fn new(fs: Arc<HostFs>, parent: Option<Arc<HostInode>>, name: &[u8], stat: &HostStat) -> Arc<Self> {
        let first = fs.identity_of(stat);
        let state = State {
            parent,
            name: name.into(),
            identity: first,
            mount: None,
            ownership: ownership_of(stat),
            changed: stat.changed,
            acl: None,
            kept: None,
            listing: None,
            pin: None,
            made: None,
            writer: Weak::new(),
            reader: Weak::new(),
            mapped: None,
            orphan: None,
            linkable: false,
        };
        Arc::new_cyclic(|me| HostInode {
            fs,
            me: SelfRef::new(me),
            kind: kind_of(stat),
            first,
            state: Mutex::new(Rank::Inode, state),
            used: AtomicBool::new(false),
            has_mapped_owner: AtomicBool::new(ownership_of(stat).is_mapped()),
            settled: AtomicU64::new(0),
            pinning: AtomicU32::new(0),
            // Locked over an append, which takes the locks of the state and of pages.
            appending: Mutex::new(Rank::Layers, ()),
        })
    }

    /// Whether the host may change the file, which the guest must then see.
    pub(super) fn is_shared(&self) -> bool {
        self.fs.shared
    }

    /// The lock that serializes appends.
    pub(super) fn appending(&self) -> &Mutex<()> {
        &self.appending
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub(super) fn is_kind_of(&self, stat: &HostStat) -> bool {
        self.kind == kind_of(stat)
    }

    pub(super) fn this(&self) -> Arc<HostInode> {
        self.me.get()
    }
}

fn host_time(time: Option<SetTime>) -> HostTime {
    match time {
        None => HostTime::Keep,
        Some(SetTime::Now) => HostTime::Now,
        Some(SetTime::To(t)) => HostTime::At(t),
    }
}

impl HostInode {
    fn set_permissions(&self, file: &StdFile, permissions: u16) -> Result<(), Errno> {
        match xattr::set_permissions(file.as_fd(), permissions) {
            Err(Errno::ENOSYS) if self.kind == FileType::Symlink => Err(Errno::EOPNOTSUPP.here()),
            Err(Errno::ENOSYS) => host::set_permissions_of_path(file.as_fd(), permissions),
            answer => answer,
        }
    }

    /// A directory of a rename, or the source of a link, if it is in this file system.
    fn own(&self, inode: &Arc<dyn Inode>) -> Result<Arc<HostInode>, Errno> {
        let inode = inode.as_any().downcast_ref::<HostInode>().ok_or_else(|| Errno::EXDEV.here())?;
        if Arc::ptr_eq(&inode.fs, &self.fs) { Ok(inode.this()) } else { Err(Errno::EXDEV.here()) }
    }

    /// Sets owner and mode of a new, open file. `requested` is the mode requested from the host, and `stat` what the host made.
    fn settle(
        &self,
        file: &StdFile,
        mut stat: HostStat,
        new: &NewInode<'_>,
        requested: RequestedMode,
    ) -> Result<(), Errno> {
        let mut kept = u16::MAX;
        let (uid, gid) = ((stat.uid != new.uid).then_some(new.uid), (stat.gid != new.gid).then_some(new.gid));
        if uid.is_some() || gid.is_some() {
            match host::set_owner(file.as_fd(), uid, gid) {
                // Set-ID bits would give the rights of the owner that the file system chose.
                Err(Errno::EPERM) if is_imposed(stat.uid) => kept = !(SET_UID | SET_GID),
                answer => answer?,
            }
            // A change of the owner clears set-ID bits.
            stat = host::stat(file.as_fd())?;
        }
        let wanted = requested.settled((stat.mode & 0o7777) as u16) & kept;
        if new.kind != FileType::Symlink && stat.mode & 0o7777 != u32::from(wanted) {
            self.set_permissions(file, wanted)?;
            stat = host::stat(file.as_fd())?;
        }
        self.settle_ownership(&stat);
        Ok(())
    }

    /// Removes a new file, unless the host has another under the name by now.
    fn discard(&self, directory: BorrowedFd<'_>, name: &[u8]) {
        if host::stat_at(directory, name).is_ok_and(|stat| self.stands_for(&stat)) {
            let removed = if self.kind == FileType::Directory {
                host::remove_directory_at(directory, name)
            } else {
                host::unlink_at(directory, name)
            };
            if let Err(errno) = removed {
                log::warn!("a new file whose owner cannot be set stays on the host: {errno}");
            }
        }
    }
}

impl Drop for HostInode {
    /// The guest controls the depth of its directories, so ancestors are dropped in a loop, not recursively.
    fn drop(&mut self) {
        let mut next = self.state.lock().parent.take();
        while let Some(inode) = next.and_then(Arc::into_inner) {
            next = inode.state.lock().parent.take();
        }
        if let Err(errno) = self.write_back() {
            log::error!("writing back changed pages of a host file: {errno}");
        }
    }
}

impl Listed for HostInode {
    fn list(&self) -> Result<Vec<host::HostEntry>, Errno> {
        host::list(self.directory()?.as_fd())
    }
}

impl Inode for HostInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let stat = self.stat()?;
        Ok(metadata_of(&stat, self.kind, self.fs.guest_device(stat.device)))
    }

    fn identity(&self) -> Result<(Device, u64), Errno> {
        let identity = self.state.lock().identity;
        Ok((self.fs.guest_device(identity.device), identity.number))
    }

    fn ownership(&self) -> Result<Ownership, Errno> {
        Ok(self.state.lock().ownership)
    }

    fn has_mapped_owner(&self) -> bool {
        self.has_mapped_owner.load(Ordering::Relaxed)
    }

    fn refresh(&self) -> Result<(), Errno> {
        if self.is_shared() {
            self.look_again(|| self.stat())?;
        }
        Ok(())
    }

    fn lock_key(&self) -> Result<(Device, u64), Errno> {
        let identity = self.state.lock().identity;
        Ok((Device::from_raw(identity.device), identity.number))
    }

    fn acl(&self) -> Result<Option<Arc<Acl>>, Errno> {
        self.read_acl()
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        if let Some(size) = changes.size {
            self.write_back()?;
            let writer = self.writer()?;
            host::set_size(writer.as_fd(), size)?;
            if let Some(pages) = self.pages() {
                pages.set_len(size);
                self.note_own_change(&writer);
            }
        }
        let file = self.pinned()?;
        if changes.uid.is_some() || changes.gid.is_some() {
            host::set_owner(file.as_fd(), changes.uid, changes.gid)?;
        }
        // Last, since a change of the owner clears the set-ID bits.
        if let Some(permissions) = changes.permissions {
            self.set_permissions(&file, permissions)?;
        }
        if changes.accessed.is_some() || changes.modified.is_some() {
            host::set_times(file.as_fd(), host_time(changes.accessed), host_time(changes.modified))?;
        }
        self.settle_ownership(&host::stat(file.as_fd())?);
        Ok(())
    }

    fn touch_modified(&self) {
        // Failure to set the time does not fail the write.
        let _ = self.pinned().and_then(|file| host::set_times(file.as_fd(), HostTime::Keep, HostTime::Now));
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.entry(name)
    }

    fn revalidate(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        let Some(child) = child.as_any().downcast_ref::<HostInode>() else {
            let sealed = child.as_any().downcast_ref::<Sealed>();
            return sealed.is_some_and(|sealed| {
                let found = self.directory().and_then(|d| host::look_at(d.as_fd(), name));
                found.is_ok_and(|found| sealed.is(&found, self.fs.guest_device(found.stat.device)))
            });
        };
        self.is_still(name, child).unwrap_or(false)
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let requested = self.requested_mode(new)?;
        let directory = self.directory()?;
        let directory = directory.as_fd();
        let path_only = || host::open_at(directory, name, OpenFlags::O_PATH, 0);
        let file = match new.kind {
            FileType::Regular => {
                let flags = OpenFlags::O_CREAT | OpenFlags::O_EXCL | OpenFlags::O_RDWR;
                host::open_at(directory, name, flags, requested.mode)?
            }
            FileType::Directory => {
                host::make_directory_at(directory, name, requested.mode)?;
                path_only()?
            }
            FileType::Symlink => {
                host::make_link_at(directory, name, new.target)?;
                path_only()?
            }
            // A node would be a usable device on the host. An overlay's whiteout is not a device.
            FileType::BlockDevice => return Err(Errno::EPERM.here()),
            FileType::CharacterDevice if new.special != Device::default() => return Err(Errno::EPERM.here()),
            kind => {
                let mode = kind.mode() | u32::from(requested.mode);
                host::make_node_at(directory, name, mode, new.special.raw())?;
                path_only()?
            }
        };
        let found = host::look(file.as_fd())?;
        self.fs.admit(file.as_fd(), found.mount)?;
        let inode = self.fs.inode(Some(self.this()), name, &found.stat);
        let file = inode.hold_made(file, &found);
        // With another owner than its creator it must not stay.
        inode.settle(&file, found.stat, new, requested).inspect_err(|_| inode.discard(directory, name))?;
        Ok(inode)
    }

    fn create_unnamed(&self, new: &NewInode<'_>, linkable: bool) -> Result<Arc<dyn Inode>, Errno> {
        let requested = self.requested_mode(new)?;
        let file = host::open_unnamed(self.directory()?.as_fd(), requested.mode, linkable)?;
        let stat = host::stat(file.as_fd())?;
        let file = Descriptor::new(&self.fs.memory, file);
        let inode = self.fs.inode(Some(self.this()), b"", &stat);
        {
            let mut state = inode.state.lock();
            (state.reader, state.writer) = (Arc::downgrade(&file), Arc::downgrade(&file));
            state.orphan = Some(file.clone());
            state.linkable = linkable;
        }
        inode.settle(&file, stat, new, requested)?;
        Ok(inode)
    }

    fn is_linkable(&self) -> bool {
        self.state.lock().linkable
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let target = self.own(target)?;
        // The name may stand for another file by now, which was not checked.
        let file = target.pinned()?;
        let has_no_name = target.state.lock().orphan.is_some();
        host::link_file_at(file.as_fd(), self.directory()?.as_fd(), name)?;
        if has_no_name {
            target.state.lock().linkable = false;
            target.found_at(Some(self.this()), name);
        }
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        if let Some(victim) = self.known_entry(name) {
            victim.prepare_removal();
        }
        host::unlink_at(self.directory()?.as_fd(), name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<(), Errno> {
        if let Some(victim) = self.known_entry(name) {
            victim.prepare_removal();
        }
        host::remove_directory_at(self.directory()?.as_fd(), name)
    }

    fn rename(
        &self,
        name: &[u8],
        directory: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let to = self.own(directory)?;
        let moved = self.known_entry(name);
        let replaced = to.known_entry(new_name);
        if let Some(replaced) = &replaced {
            replaced.prepare_removal();
        }
        let (from_fd, to_fd) = (self.directory()?, to.directory()?);
        let done = host::rename_at(from_fd.as_fd(), name, to_fd.as_fd(), new_name, flags);
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        if let Some(replaced) = replaced
            && (done.is_err() || exchange)
        {
            let at = if done.is_err() { (to.clone(), new_name) } else { (self.this(), name) };
            replaced.found_at(Some(at.0), at.1);
        }
        done?;
        if let Some(moved) = moved {
            moved.found_at(Some(to), new_name);
        }
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL.here());
        }
        host::read_link(self.pinned()?.as_fd())
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.kind {
            FileType::Directory => Ok(Arc::new(HostDirectory::new(self))),
            FileType::Regular => {
                let writes = flags.writes();
                let file = if writes { self.writer()? } else { self.reader()? };
                Ok(Arc::new(HostFile::new(self, file, writes)))
            }
            _ => Err(Errno::ENXIO.here()),
        }
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        match self.any_opened() {
            // A file that cannot be opened has no attributes set through this file system.
            Err(Errno::EOPNOTSUPP) => Err(Errno::ENODATA.here()),
            file => xattr::get(file?.as_fd(), name),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<(), Errno> {
        xattr::set(self.opened_to_change()?.as_fd(), name, value, u32::from(create) | u32::from(replace) << 1)
    }

    /// The host removes capabilities when the content changes.
    fn has_capabilities(&self) -> bool {
        false
    }

    fn xattrs(&self, tell: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
        let file = match self.any_opened() {
            Err(Errno::EOPNOTSUPP) => return Ok(()),
            file => file?,
        };
        // Labels of the host's security modules are hidden from the guest.
        let names = xattr::list(file.as_fd())?;
        let shown = names.iter().filter(|n| !n.starts_with(b"security.") || *n == XATTR_CAPABILITY);
        shown.for_each(|name| tell(name));
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        xattr::remove(self.opened_to_change()?.as_fd(), name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
