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

/// The attributes of an inode, as stat(2) and statx(2) tell them.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    /// The file system's device number.
    pub device: Device,
    /// The inode's number in it.
    pub number: u64,
    /// What kind of file it is.
    pub kind: FileType,
    /// The lower twelve bits of the mode.
    pub permissions: u16,
    /// How many names it has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Which device a device node stands for.
    pub special: Device,
    /// Length in bytes.
    pub size: u64,
    /// Storage used, in units of 512 bytes.
    pub blocks: u64,
    /// The size preferred for reads and writes.
    pub block_size: u32,
    /// Last read.
    pub accessed: Timespec,
    /// Last change of the content.
    pub modified: Timespec,
    /// Last change of anything.
    pub changed: Timespec,
    /// When it was made, where known.
    pub born: Option<Timespec>,
}

/// How to set a time stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// To the current time (`UTIME_NOW`).
    Now,
    /// To this time.
    To(Timespec),
}

/// Changes of attributes; what is none stays. Permission checks are done by the caller; `changed` always becomes now.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// The lower twelve bits of the mode.
    pub permissions: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length: cuts or extends with zeros.
    pub size: Option<u64>,
    /// Last read.
    pub accessed: Option<SetTime>,
    /// Last change of the content.
    pub modified: Option<SetTime>,
}

/// What a new inode shall be. Owner, group and mode are final: umask and setgid rules were applied by the caller.
#[derive(Clone, Debug)]
pub struct NewInode<'a> {
    /// What kind of file.
    pub kind: FileType,
    /// The lower twelve bits of the mode.
    pub permissions: u16,
    /// The bits that the umask took away. They are granted where the directory has a default access control list, which
    /// replaces the umask (see umask(2)).
    pub masked: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Which device, for device nodes.
    pub special: Device,
    /// Where it points, for symbolic links.
    pub target: &'a [u8],
}

impl NewInode<'_> {
    /// The character device 0:0, which in an overlay's upper layer hides what lies below.
    pub fn whiteout() -> Self {
        let special = Device::default();
        NewInode { kind: FileType::CharacterDevice, permissions: 0, masked: 0, uid: 0, gid: 0, special, target: &[] }
    }
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode's number.
    pub number: u64,
    /// The kind of file, where the directory knows it.
    pub kind: Option<FileType>,
    /// The cookie from which listing goes on behind this entry (`d_off`).
    pub next: u64,
}

/// Where directory entries go.
pub trait DirectorySink {
    /// Takes an entry; false means that it did not fit and listing ends before it.
    fn add(&mut self, entry: DirectoryEntry<'_>) -> bool;
}

/// A file system that is mounted somewhere (Linux's super block).
pub trait FileSystem: Send + Sync {
    /// The type's name, such as `tmpfs`.
    fn name(&self) -> &'static str;

    /// The root directory.
    fn root(&self) -> Arc<dyn Inode>;

    /// The device number its inodes tell.
    fn device(&self) -> Device;

    /// statfs(2).
    fn statfs(&self) -> Result<StatFs, Errno>;

    /// The options that `/proc/mounts` shows behind `rw` or `ro`, each led by a comma.
    fn options(&self) -> String {
        String::new()
    }

    /// Whether names may come and go without the sentry's doing, so that cached entries must be looked up again.
    fn is_volatile(&self) -> bool {
        false
    }

    /// Whether nothing in it can ever be changed, whatever its mounts are asked to allow.
    fn stays_read_only(&self) -> bool {
        false
    }

    /// Takes over new mount options (a remount).
    ///
    /// # Errors
    /// `EINVAL` for options that are malformed or cannot be changed.
    fn reconfigure(&self, _options: &str) -> Result<(), Errno> {
        Ok(())
    }

    /// The last mount is gone: gives up what would keep the file system alive.
    fn shut_down(&self) {}

    /// Writes everything changed to where it lasts.
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// A file, directory, link, device or the like of some file system.
///
/// Names are single path components, never empty, `.` or `..`. Permissions, mount flags and limits were checked by the
/// caller. Directory operations answer the errno of the file system proper (`ENOENT`, `EEXIST`, `ENOTEMPTY`, `EXDEV`,
/// `ENOSPC`, …); the defaults are those of an inode that is not a directory or a file system that is read-only by nature.
pub trait Inode: Send + Sync + Any {
    /// The file system it belongs to.
    fn file_system(&self) -> Arc<dyn FileSystem>;

    /// What kind of file it is; never changes.
    fn kind(&self) -> FileType;

    /// All attributes.
    fn metadata(&self) -> Result<Metadata, Errno>;

    /// Which inode it is: device and number.
    fn identity(&self) -> Result<(Device, u64), Errno> {
        self.metadata().map(|m| (m.device, m.number))
    }

    /// Whether it can still get a first name: made without one, and not given up.
    fn is_linkable(&self) -> bool {
        false
    }

    /// The attributes that permission checks look at.
    fn ownership(&self) -> Result<Ownership, Errno> {
        let m = self.metadata()?;
        Ok(Ownership { permissions: m.permissions, uid: m.uid, gid: m.gid })
    }

    /// The same as of now, for a change that depends on it; what the host changed meanwhile counts too.
    fn settled_ownership(&self) -> Result<Ownership, Errno> {
        self.ownership()
    }

    /// Which inode a change of attributes locks: one key where several inodes stand for one file of the host.
    fn lock_key(&self) -> Result<(Device, u64), Errno> {
        self.identity()
    }

    /// The access control list, where there is one and the mode is not all that counts.
    fn acl(&self) -> Result<Option<Arc<Acl>>, Errno> {
        Ok(None)
    }

    /// Changes attributes.
    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno>;

    /// The content was read: `accessed` becomes now, if `relative` only where that tells something new (see
    /// `relatime` in mount(8)). File systems that do not keep such times do nothing.
    fn touch_accessed(&self, _relative: bool) {}

    /// Something was written to the fifo that goes by this inode's name.
    fn touch_modified(&self) {}

    /// Finds an entry.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::ENOTDIR.here())
    }

    /// In a volatile file system: whether the entry `name` is still `child`, which a lookup found earlier.
    fn revalidate(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        match (self.lookup(name).and_then(|found| found.identity()), child.identity()) {
            (Ok(found), Ok(known)) => found == known,
            _ => false,
        }
    }

    /// Makes an entry: a file, directory, symbolic link, device, fifo or socket.
    fn create(&self, _name: &[u8], _new: &NewInode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EPERM.here())
    }

    /// Makes a regular file without a name (`O_TMPFILE`), which can get one by linkat(2) if `linkable`.
    fn create_unnamed(&self, _new: &NewInode<'_>, _linkable: bool) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// Makes a further name for `target`, of the same file system.
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

    /// Moves an entry to another directory (or this one) of the same file system, with renameat2(2)'s flags.
    fn rename(
        &self,
        _name: &[u8],
        _directory: &Arc<dyn Inode>,
        _new_name: &[u8],
        _flags: RenameFlags,
    ) -> Result<(), Errno> {
        Err(Errno::EPERM.here())
    }

    /// The text of a symbolic link.
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL.here())
    }

    /// The text as the caller sees it: that of `/proc/self` and of links to paths depends on who reads.
    fn read_link_as(&self, _caller: &dyn Caller) -> Result<Vec<u8>, Errno> {
        self.read_link()
    }

    /// Where a magic link of `/proc` leads, past its text; none for ordinary links.
    fn follow_magic_link(&self, _caller: &dyn Caller) -> Option<Result<Path, Errno>> {
        None
    }

    /// Opens the inode. Device nodes, fifos and sockets are opened by the caller, through what they stand for.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno>;

    /// Opens the inode for a certain caller, for files whose content or permission depends on who opens them.
    fn open_as(self: Arc<Self>, _caller: &dyn Caller, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        self.open(flags)
    }

    /// Whether the caller may read and search it whatever its mode says.
    fn permits(&self, _caller: &dyn Caller) -> bool {
        false
    }

    /// Whether the caller may not search it whatever its mode says.
    fn forbids(&self, _caller: &dyn Caller) -> bool {
        false
    }

    /// Asked before the directory is locked to make (`making`), remove or move the entry `name`: directories whose
    /// entries are the kernel's own say here why that cannot be.
    fn may_modify_entry(&self, _name: &[u8], _making: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// Reads an extended attribute.
    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// Writes an extended attribute; `create` and `replace` as setxattr(2)'s flags.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _create: bool, _replace: bool) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// Whether it has capabilities of a program, which the sentry has to take away when the content is changed.
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

    /// For file systems to find their own kind again.
    fn as_any(&self) -> &dyn Any;
}
