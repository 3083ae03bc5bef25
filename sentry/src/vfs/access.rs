//! Who may do what to a file: every permission check of files is here.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::stat::FileType;
use amber_abi::xattr::XATTR_CAPABILITY;

use crate::credentials::Credentials;
use crate::tunables::Tunables;
use crate::vfs::{Inode, Path, SetAttributes, Vfs, acl};

bitflags::bitflags! {
    /// What somebody wants to do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u32 {
        /// Execute a file or search a directory.
        const EXECUTE = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

/// Who owns a file and what is allowed to whom; what the checks here look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The lower twelve bits of the mode.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Set-user-ID on execution.
pub const SET_UID: u16 = 0o4000;
/// Set-group-ID on execution, or inheritance of the group in directories.
pub const SET_GID: u16 = 0o2000;
/// Only owners remove entries of the directory.
pub const STICKY: u16 = 0o1000;

/// Checks the mode bits, the access control list and capabilities (not whether a mount or file system is read-only).
///
/// # Errors
/// `EACCES` if it is not allowed; those of reading the access control list.
pub fn check(credentials: &Credentials, inode: &dyn Inode, wanted: Access) -> Result<(), Errno> {
    // Root's way into directories costs no look at their attributes.
    if inode.kind() == FileType::Directory && credentials.has(Capability::CAP_DAC_OVERRIDE) {
        return Ok(());
    }
    check_owned(credentials, inode, inode.ownership()?, wanted)
}

/// Like [`check`], with the owner and mode that the caller has just looked at.
///
/// # Errors
/// As [`check`].
pub fn check_owned(
    credentials: &Credentials,
    inode: &dyn Inode,
    ownership: Ownership,
    wanted: Access,
) -> Result<(), Errno> {
    let directory = inode.kind() == FileType::Directory;
    // With a capability that overrides the mode there is no look at the access control list.
    if overrides(credentials, ownership, directory, wanted) || is_granted(credentials, inode, ownership, wanted)? {
        Ok(())
    } else {
        Err(Errno::EACCES.here())
    }
}

/// Whether the mode grants it, and the access control list where there is one.
fn is_granted(
    credentials: &Credentials,
    inode: &dyn Inode,
    ownership: Ownership,
    wanted: Access,
) -> Result<bool, Errno> {
    let mode = u32::from(ownership.permissions);
    let granted = if credentials.fsuid == ownership.uid {
        mode >> 6
    } else if mode & 0o070 != 0
        && let Some(acl) = inode.acl()?
    {
        return Ok(acl::grants(&acl, credentials, ownership, wanted));
    } else if credentials.in_group(ownership.gid) {
        mode >> 3
    } else {
        mode
    };
    Ok(Access::from_bits_truncate(granted).contains(wanted))
}

/// Whether a capability grants it whatever the mode says.
fn overrides(credentials: &Credentials, ownership: Ownership, directory: bool, wanted: Access) -> bool {
    let executable = ownership.permissions & 0o111 != 0;
    if credentials.has(Capability::CAP_DAC_OVERRIDE) && (directory || executable || !wanted.contains(Access::EXECUTE)) {
        return true;
    }
    let reads = if directory { !wanted.contains(Access::WRITE) } else { wanted == Access::READ };
    reads && credentials.has(Capability::CAP_DAC_READ_SEARCH)
}

/// Checks permissions and whether the file can be changed at all through this mount.
///
/// # Errors
/// `EROFS` before `EACCES`, as Linux looks at the file system first.
pub fn check_path(credentials: &Credentials, path: &Path, wanted: Access) -> Result<(), Errno> {
    let inode = path.inode()?;
    if wanted.contains(Access::WRITE) && path.mount.super_block.is_read_only() && is_stored(inode.kind()) {
        return Err(Errno::EROFS.here());
    }
    check(credentials, &**inode, wanted)
}

/// Whether writing to such a file changes its file system (unlike writing to a device or a pipe).
pub fn is_stored(kind: FileType) -> bool {
    matches!(kind, FileType::Regular | FileType::Directory | FileType::Symlink)
}

/// Whether the caller owns the file or may act as if.
pub fn is_owner(credentials: &Credentials, uid: u32) -> bool {
    credentials.fsuid == uid || credentials.has(Capability::CAP_FOWNER)
}

/// Whether an entry may be made in a directory: it must still be there, and searchable and writable.
pub fn check_create(credentials: &Credentials, directory: &Path) -> Result<(), Errno> {
    if directory.dentry.is_removed() {
        return Err(Errno::ENOENT.here());
    }
    check_path(credentials, directory, Access::WRITE | Access::EXECUTE)
}

/// Whether an entry may be removed from a directory or replaced there, the sticky bit included.
///
/// # Errors
/// `EACCES`, or `EPERM` where the sticky bit stands against it.
pub fn check_delete(credentials: &Credentials, directory: &Path, victim: &dyn Inode) -> Result<(), Errno> {
    check_path(credentials, directory, Access::WRITE | Access::EXECUTE)?;
    let parent = directory.inode()?.ownership()?;
    if parent.permissions & STICKY != 0 && parent.uid != credentials.fsuid {
        let owner = victim.ownership()?.uid;
        if owner != credentials.fsuid && !credentials.has(Capability::CAP_FOWNER) {
            return Err(Errno::EPERM.here());
        }
    }
    Ok(())
}

/// `fs.protected_symlinks`: in a sticky directory that all may write, only links of the follower or of the directory's
/// owner are followed.
pub fn may_follow_link(credentials: &Credentials, directory: Ownership, link: Ownership) -> bool {
    credentials.fsuid == link.uid
        || directory.permissions & (STICKY | 0o002) != (STICKY | 0o002)
        || directory.uid == link.uid
}

/// `fs.protected_hardlinks`: who does not own a file may link it only if it is a plain file they can read and write.
pub fn check_link_source(credentials: &Credentials, inode: &dyn Inode) -> Result<(), Errno> {
    let ownership = inode.ownership()?;
    if is_owner(credentials, ownership.uid) {
        return Ok(());
    }
    let set_gid = ownership.permissions & (SET_GID | 0o010) == (SET_GID | 0o010);
    let plain = inode.kind() == FileType::Regular && ownership.permissions & SET_UID == 0 && !set_gid;
    if plain && check(credentials, inode, Access::READ | Access::WRITE).is_ok() {
        Ok(())
    } else {
        Err(Errno::EPERM.here())
    }
}

/// `fs.protected_fifos` and `fs.protected_regular`: `O_CREAT` does not open others' files in sticky directories that all,
/// or at level 2 the group, may write.
pub fn check_create_existing(
    credentials: &Credentials,
    tunables: &Tunables,
    directory: Ownership,
    kind: FileType,
    owner: u32,
) -> Result<(), Errno> {
    let level = match kind {
        FileType::Fifo => tunables.protected_fifos.get(),
        FileType::Regular => tunables.protected_regular.get(),
        _ => 0,
    };
    let writers = [0, 0o002, 0o022][level.clamp(0, 2) as usize];
    let shared = directory.permissions & STICKY != 0 && directory.permissions & writers != 0;
    if shared && owner != credentials.fsuid && owner != directory.uid {
        return Err(Errno::EACCES.here());
    }
    Ok(())
}

/// What becomes of the set-ID bits when these credentials change the content or the owner: none if they stay.
pub fn without_set_id(credentials: &Credentials, ownership: Ownership) -> Option<u16> {
    let mut left = ownership.permissions & !SET_UID;
    // Where the group may not execute, the bit stays only with those who could set it.
    let could_set = || credentials.in_group(ownership.gid) || credentials.has(Capability::CAP_FSETID);
    if left & SET_GID != 0 && (left & 0o010 != 0 || !could_set()) {
        left &= !SET_GID;
    }
    (left != ownership.permissions).then_some(left)
}

/// A change of the content by these credentials: a program loses its capabilities, and without CAP_FSETID its set-ID
/// bits. Files that have none are not locked.
pub fn drop_privileges(vfs: &Vfs, credentials: &Credentials, inode: &dyn Inode) -> Result<(), Errno> {
    let set_id = !credentials.has(Capability::CAP_FSETID) && without_set_id(credentials, inode.ownership()?).is_some();
    if !set_id && !inode.has_capabilities() {
        return Ok(());
    }
    vfs.change_attributes(inode, || drop_privileges_locked(credentials, inode))
}

/// Cuts a file or extends it with zeros, which takes its privileges away like any change of the content.
pub fn set_size(vfs: &Vfs, credentials: &Credentials, inode: &dyn Inode, size: u64) -> Result<(), Errno> {
    vfs.change_attributes(inode, || {
        drop_privileges_locked(credentials, inode)?;
        inode.set_attributes(&SetAttributes { size: Some(size), ..SetAttributes::default() })
    })
}

fn drop_privileges_locked(credentials: &Credentials, inode: &dyn Inode) -> Result<(), Errno> {
    if !credentials.has(Capability::CAP_FSETID)
        && let Some(permissions) = without_set_id(credentials, inode.settled_ownership()?)
    {
        inode.set_attributes(&SetAttributes { permissions: Some(permissions), ..SetAttributes::default() })?;
    }
    drop_capabilities(inode)
}

/// Takes the capabilities of a program away. The caller holds the lock of the inode's attributes.
pub fn drop_capabilities(inode: &dyn Inode) -> Result<(), Errno> {
    if inode.has_capabilities() {
        inode.remove_xattr(XATTR_CAPABILITY)?;
    }
    Ok(())
}
