//! Inodes and the file systems they belong to, as traits.

use std::any::Any;
use std::sync::Arc;

use amber_abi::acl::Acl;
use amber_abi::errno::Errno;
use amber_abi::open::{OpenFlags, RenameFlags};
use amber_abi::stat::{Device, FileType, StatFs};
use amber_abi::time::Timespec;
use amber_abi::xattr::XATTR_CAPABILITY;

use crate::vfs::access::Ownership;
use crate::vfs::{Caller, File, Path};

/// The attributes of an inode, as stat(2) and statx(2) return them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata {
    /// The file system's device number.
    pub device: Device,
    /// The inode number.
    pub number: u64,
    /// The file type.
    pub kind: FileType,
    /// The lower twelve bits of the mode.
    pub permissions: u16,
    /// The number of hard links.
    pub links: u32,
    /// The owner's user ID.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
    /// The device that a device node refers to.
    pub special: Device,
    /// Length in bytes.
    pub size: u64,
    /// Allocated storage in units of 512 bytes.
    pub blocks: u64,
    /// The preferred size of reads and writes in bytes.
    pub block_size: u32,
    /// Last access (`atime`).
    pub accessed: Timespec,
    /// Last change of the content (`mtime`).
    pub modified: Timespec,
    /// Last change of content or attributes (`ctime`).
    pub changed: Timespec,
    /// Creation (`btime`), if known.
    pub born: Option<Timespec>,
}

/// A new value of a time stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetTime {
    /// The current time (`UTIME_NOW`).
    Now,
    /// This time.
    To(Timespec),
}

/// Changes of attributes; those that are none stay. The caller has checked permissions. `ctime` always becomes the
/// current time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SetAttributes {
    /// The lower twelve bits of the mode.
    pub permissions: Option<u16>,
    /// The owner's user ID.
    pub uid: Option<u32>,
    /// The group ID.
    pub gid: Option<u32>,
    /// The length in bytes: truncates, or extends with zeros.
    pub size: Option<u64>,
    /// Last access (`atime`).
    pub accessed: Option<SetTime>,
    /// Last change of the content (`mtime`).
    pub modified: Option<SetTime>,
}

/// The attributes of a new inode. Owner, group and mode are final: the caller has applied the umask and set-group-ID
/// rules.
#[derive(Clone, Debug)]
pub(crate) struct NewInode<'a> {
    /// The file type.
    pub kind: FileType,
    /// The lower twelve bits of the mode.
    pub permissions: u16,
    /// The bits that the umask removed. They are granted if the directory has a default access control list, which
    /// replaces the umask (see umask(2)).
    pub masked: u16,
    /// The owner's user ID.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
    /// The device of a device node.
    pub special: Device,
    /// The target of a symbolic link.
    pub target: &'a [u8],
}

impl NewInode<'_> {
    /// The character device 0:0, which in an overlay's upper layer hides an entry of the lower layers.
    pub(crate) fn whiteout() -> Self {
        let special = Device::default();
        NewInode { kind: FileType::CharacterDevice, permissions: 0, masked: 0, uid: 0, gid: 0, special, target: &[] }
    }
}

/// A directory entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectoryEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number.
    pub number: u64,
    /// The file type, if the directory has it.
    pub kind: Option<FileType>,
    /// The cookie at which listing continues after this entry (`d_off`).
    pub next: u64,
}

/// Receives directory entries.
pub(crate) trait DirectorySink {
    /// Adds an entry. Returns false if it does not fit; listing then ends before it.
    fn add(&mut self, entry: DirectoryEntry<'_>) -> bool;
}

/// A mounted file system (Linux's super block).
pub(crate) trait FileSystem: Send + Sync {
    /// The type's name, such as `tmpfs`.
    fn name(&self) -> &'static str;

    /// The root directory.
    fn root(&self) -> Arc<dyn Inode>;

    /// The device number of its inodes.
    fn device(&self) -> Device;

    /// Statistics of the file system (statfs(2)).
    fn statfs(&self) -> Result<StatFs, Errno>;

    /// The options in `/proc/mounts` after `rw` or `ro`, each preceded by a comma.
    fn options(&self) -> String {
        String::new()
    }

    /// Whether names may change without the sentry, so that cached entries must be looked up again.
    fn is_volatile(&self) -> bool {
        false
    }

    /// Whether the file system can never be changed, whatever the mount options.
    fn stays_read_only(&self) -> bool {
        false
    }

    /// Applies new mount options (a remount).
    ///
    /// # Errors
    /// `EINVAL` for options that are malformed or cannot be changed.
    fn reconfigure(&self, _options: &str) -> Result<(), Errno> {
        Ok(())
    }

    /// Called after the last mount is gone. Drops references that would keep the file system alive.
    fn shut_down(&self) {}

    /// Writes all changes to storage.
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// An inode: a file, directory, symbolic link, device or the like.
///
/// Names are single path components, never empty, `.` or `..`. The caller has checked permissions, mount flags and
/// limits. Directory operations return the errors of the file system itself (`ENOENT`, `EEXIST`, `ENOTEMPTY`, `EXDEV`,
/// `ENOSPC`, …). The defaults are those of an inode that is not a directory, or of an inherently read-only file system.
pub(crate) trait Inode: Send + Sync + Any {
    /// The file system it belongs to.
    fn file_system(&self) -> Arc<dyn FileSystem>;

    /// The file type, which never changes.
    fn kind(&self) -> FileType;

    /// All attributes.
    fn metadata(&self) -> Result<Metadata, Errno>;

    /// The inode's device and number.
    fn identity(&self) -> Result<(Device, u64), Errno> {
        self.metadata().map(|m| (m.device, m.number))
    }

    /// Whether the inode was made without a name (`O_TMPFILE`) and can still be linked.
    fn is_linkable(&self) -> bool {
        false
    }

    /// The attributes that permission checks use.
    fn ownership(&self) -> Result<Ownership, Errno> {
        let m = self.metadata()?;
        Ok(Ownership { permissions: m.permissions, uid: m.uid, gid: m.gid })
    }

    /// Whether the user namespace maps owner and group; cheaper than [`ownership`](Self::ownership).
    fn has_mapped_owner(&self) -> bool {
        true
    }

    /// Brings [`ownership`](Self::ownership) up to date with changes made on the host. A lookup has the same effect.
    fn refresh(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// The current ownership, for a change that depends on it; includes changes made on the host.
    fn settled_ownership(&self) -> Result<Ownership, Errno> {
        self.refresh()?;
        self.ownership()
    }

    /// The inode that a change of attributes locks: one key where several inodes refer to one host file.
    fn lock_key(&self) -> Result<(Device, u64), Errno> {
        self.identity()
    }

    /// The access control list, unless the mode alone decides.
    fn acl(&self) -> Result<Option<Arc<Acl>>, Errno> {
        Ok(None)
    }

    /// Changes attributes.
    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno>;

    /// Updates `atime` after a read; with `relative`, only under the conditions of `relatime` (mount(8)). Does nothing
    /// in file systems that do not keep it.
    fn touch_accessed(&self, _relative: bool) {}

    /// Updates the times after a write to the fifo of this inode.
    fn touch_modified(&self) {}

    /// Finds an entry.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::ENOTDIR.here())
    }

    /// In a volatile file system: whether the entry `name` is still `child`, which an earlier lookup found.
    fn revalidate(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        match (self.lookup(name).and_then(|found| found.identity()), child.identity()) {
            (Ok(found), Ok(known)) => found == known,
            _ => false,
        }
    }

    /// Creates an entry: a file, directory, symbolic link, device, fifo or socket.
    fn create(&self, _name: &[u8], _new: &NewInode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EPERM.here())
    }

    /// Creates a regular file without a name (`O_TMPFILE`), which linkat(2) can name if `linkable`.
    fn create_unnamed(&self, _new: &NewInode<'_>, _linkable: bool) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// Creates a hard link to `target`, which is in the same file system.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<(), Errno> {
        Err(Errno::EPERM.here())
    }

    /// Removes an entry that is not a directory.
    fn unlink(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM.here())
    }

    /// Removes an empty directory.
    fn rmdir(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM.here())
    }

    /// Moves an entry to a directory of the same file system, with renameat2(2)'s flags.
    fn rename(
        &self,
        _name: &[u8],
        _directory: &Arc<dyn Inode>,
        _new_name: &[u8],
        _flags: RenameFlags,
    ) -> Result<(), Errno> {
        Err(Errno::EPERM.here())
    }

    /// The target of a symbolic link.
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL.here())
    }

    /// The target for this caller, on which that of `/proc/self` and of links to paths depends.
    fn read_link_as(&self, _caller: &dyn Caller) -> Result<Vec<u8>, Errno> {
        self.read_link()
    }

    /// The place that a magic link of `/proc` leads to, regardless of its text; none for ordinary links.
    fn follow_magic_link(&self, _caller: &dyn Caller) -> Option<Result<Path, Errno>> {
        None
    }

    /// Opens the inode. The caller opens device nodes, fifos and sockets through their drivers.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno>;

    /// Opens the inode for a caller, for files whose content or permissions depend on it.
    fn open_as(self: Arc<Self>, _caller: &dyn Caller, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        self.open(flags)
    }

    /// Whether the caller may read and search it regardless of the mode.
    fn permits(&self, _caller: &dyn Caller) -> bool {
        false
    }

    /// Whether the caller may not search it regardless of the mode.
    fn forbids(&self, _caller: &dyn Caller) -> bool {
        false
    }

    /// Called before the directory is locked to create (`making`), remove or move the entry `name`. Directories with
    /// entries of the kernel return an error here.
    fn may_modify_entry(&self, _name: &[u8], _making: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// Reads an extended attribute.
    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// Writes an extended attribute; `create` and `replace` are setxattr(2)'s flags.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _create: bool, _replace: bool) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// Whether it has file capabilities, which the sentry must remove when the content changes.
    fn has_capabilities(&self) -> bool {
        self.xattr(XATTR_CAPABILITY).is_ok()
    }

    /// Passes the name of each extended attribute to `tell`, which must neither sleep nor use the inode.
    fn xattrs(&self, _tell: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// Removes an extended attribute.
    fn remove_xattr(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// For downcasts by file systems.
    fn as_any(&self) -> &dyn Any;
}
