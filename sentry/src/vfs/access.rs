//! Permission checks of files: mode bits, access control lists, capabilities, and the `fs.protected_*` rules.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::stat::FileType;
use amber_abi::xattr::XATTR_CAPABILITY;
use amber_host::users::UNMAPPED;

use crate::credentials::Credentials;
use crate::tunables::Tunables;
use crate::vfs::{Inode, Path, SetAttributes, Vfs, acl};

bitflags::bitflags! {
    /// The kinds of access to a file that are checked.
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

/// Owner and mode of a file, on which permission checks depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// The lower twelve bits of the mode.
    pub permissions: u16,
    /// The owner's user ID.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
}

impl Ownership {
    /// Whether the user namespace maps owner and group. Capabilities give no rights over other files, and set-ID bits of
    /// these have no effect: see user_namespaces(7).
    pub(crate) fn is_mapped(self) -> bool {
        self.uid != UNMAPPED && self.gid != UNMAPPED
    }
}

/// Set-user-ID on execution.
pub(crate) const SET_UID: u16 = 0o4000;
/// Set-group-ID on execution; in directories, new entries inherit the group.
pub(crate) const SET_GID: u16 = 0o2000;
/// In a directory: only owners may remove or rename entries.
pub(crate) const STICKY: u16 = 0o1000;

/// Checks the mode bits, the access control list and capabilities, but not whether the mount or file system is
/// read-only.
///
/// # Errors
/// `EACCES` if access is denied; errors of reading attributes and the access control list.
pub(crate) fn check(credentials: &Credentials, inode: &dyn Inode, wanted: Access) -> Result<(), Errno> {
    if overrides_directory(credentials, inode) {
        return Ok(());
    }
    check_owned(credentials, inode, inode.ownership()?, wanted)
}

/// With CAP_DAC_OVERRIDE, access to a directory depends only on whether its owner is mapped.
fn overrides_directory(credentials: &Credentials, inode: &dyn Inode) -> bool {
    inode.kind() == FileType::Directory && credentials.has(Capability::CAP_DAC_OVERRIDE) && inode.has_mapped_owner()
}

/// Like [`check`] for an inode that no lookup has just found, such as a working directory: with the owner and mode that
/// it has now.
///
/// # Errors
/// As [`check`], and those of reading the attributes.
pub(crate) fn check_now(credentials: &Credentials, inode: &dyn Inode, wanted: Access) -> Result<(), Errno> {
    if overrides_directory(credentials, inode) {
        return Ok(());
    }
    check_owned(credentials, inode, inode.settled_ownership()?, wanted)
}

/// Like [`check`], with owner and mode already read by the caller.
///
/// # Errors
/// As for [`check`].
pub(crate) fn check_owned(
    credentials: &Credentials,
    inode: &dyn Inode,
    ownership: Ownership,
    wanted: Access,
) -> Result<(), Errno> {
    let directory = inode.kind() == FileType::Directory;
    // The access control list is not read if a capability overrides the mode.
    if overrides(credentials, ownership, directory, wanted) || is_granted(credentials, inode, ownership, wanted)? {
        Ok(())
    } else {
        Err(Errno::EACCES.here())
    }
}

/// Whether the mode, or the access control list if there is one, grants the access.
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

/// Whether a capability grants the access regardless of the mode.
fn overrides(credentials: &Credentials, ownership: Ownership, directory: bool, wanted: Access) -> bool {
    let executable = ownership.permissions & 0o111 != 0;
    let may_override = directory || executable || !wanted.contains(Access::EXECUTE);
    if may_override && is_capable(credentials, Capability::CAP_DAC_OVERRIDE, ownership) {
        return true;
    }
    let reads = if directory { !wanted.contains(Access::WRITE) } else { wanted == Access::READ };
    reads && is_capable(credentials, Capability::CAP_DAC_READ_SEARCH, ownership)
}

/// Whether the caller has a capability with regard to a file with this owner.
pub(crate) fn is_capable(credentials: &Credentials, capability: Capability, ownership: Ownership) -> bool {
    ownership.is_mapped() && credentials.has(capability)
}

/// Checks permissions, and whether the file can be changed through this mount.
///
/// # Errors
/// `EROFS` takes precedence over `EACCES`, as on Linux.
pub(crate) fn check_path(credentials: &Credentials, path: &Path, wanted: Access) -> Result<(), Errno> {
    let inode = path.inode()?;
    if wanted.contains(Access::WRITE) && path.mount.super_block.is_read_only() && is_stored(inode.kind()) {
        return Err(Errno::EROFS.here());
    }
    check(credentials, &**inode, wanted)
}

/// Whether writing to a file of this type changes its file system, unlike writing to a device or a pipe.
pub(crate) fn is_stored(kind: FileType) -> bool {
    matches!(kind, FileType::Regular | FileType::Directory | FileType::Symlink)
}

/// Whether the caller owns the file or has CAP_FOWNER.
pub(crate) fn is_owner(credentials: &Credentials, uid: u32) -> bool {
    credentials.fsuid == uid || (uid != UNMAPPED && credentials.has(Capability::CAP_FOWNER))
}

/// Checks whether an entry may be created in a directory, which must not be removed and must be searchable and
/// writable.
pub(crate) fn check_create(credentials: &Credentials, directory: &Path) -> Result<(), Errno> {
    if directory.dentry.is_removed() {
        return Err(Errno::ENOENT.here());
    }
    check_path(credentials, directory, Access::WRITE | Access::EXECUTE)
}

/// Checks whether an entry of a directory may be removed or replaced, including the sticky bit.
///
/// # Errors
/// `EACCES`, or `EPERM` because of the sticky bit.
pub(crate) fn check_delete(credentials: &Credentials, directory: &Path, victim: &dyn Inode) -> Result<(), Errno> {
    check_path(credentials, directory, Access::WRITE | Access::EXECUTE)?;
    let parent = directory.inode()?.settled_ownership()?;
    if parent.permissions & STICKY != 0 && parent.uid != credentials.fsuid {
        let owned = victim.ownership()?;
        if owned.uid != credentials.fsuid && !is_capable(credentials, Capability::CAP_FOWNER, owned) {
            return Err(Errno::EPERM.here());
        }
    }
    Ok(())
}

/// `fs.protected_symlinks`: in a world-writable sticky directory, a link is followed only if the caller or the
/// directory's owner owns it.
pub(crate) fn may_follow_link(credentials: &Credentials, directory: Ownership, link: Ownership) -> bool {
    credentials.fsuid == link.uid
        || directory.permissions & (STICKY | 0o002) != (STICKY | 0o002)
        || (directory.uid == link.uid && link.uid != UNMAPPED)
}

/// `fs.protected_hardlinks`: without owning a file, a caller may link it only if it is a regular file without effective
/// set-ID bits that it can read and write.
pub(crate) fn check_link_source(credentials: &Credentials, inode: &dyn Inode) -> Result<(), Errno> {
    let ownership = inode.settled_ownership()?;
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

/// `fs.protected_fifos` and `fs.protected_regular`: `O_CREAT` does not open other users' files in sticky directories
/// that are world-writable or, at level 2, group-writable.
pub(crate) fn check_create_existing(
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
    let writers = match level {
        ..=0 => 0,
        1 => 0o002,
        2.. => 0o022,
    };
    let shared = directory.permissions & STICKY != 0 && directory.permissions & writers != 0;
    let is_of_directory = owner == directory.uid && owner != UNMAPPED;
    if shared && owner != credentials.fsuid && !is_of_directory {
        return Err(Errno::EACCES.here());
    }
    Ok(())
}

/// The permissions without the set-ID bits that a change of content or owner by these credentials clears; none if no
/// bit changes.
pub(crate) fn without_set_id(credentials: &Credentials, ownership: Ownership) -> Option<u16> {
    let mut left = ownership.permissions & !SET_UID;
    // Without group execute permission, the bit stays only if the caller is in the group or has CAP_FSETID.
    let could_set =
        || credentials.in_group(ownership.gid) || is_capable(credentials, Capability::CAP_FSETID, ownership);
    if left & SET_GID != 0 && (left & 0o010 != 0 || !could_set()) {
        left &= !SET_GID;
    }
    (left != ownership.permissions).then_some(left)
}

/// Drops the file's capabilities and, without CAP_FSETID, its set-ID bits, because the content changes. Takes no lock
/// if the file has neither.
pub(crate) fn drop_privileges(vfs: &Vfs, credentials: &Credentials, inode: &dyn Inode) -> Result<(), Errno> {
    let set_id =
        !credentials.has(Capability::CAP_FSETID) && without_set_id(credentials, inode.settled_ownership()?).is_some();
    if !set_id && !inode.has_capabilities() {
        return Ok(());
    }
    vfs.change_attributes(inode, || drop_privileges_locked(credentials, inode))
}

/// Truncates a file or extends it with zeros. Like any change of the content, this drops privileges.
pub(crate) fn set_size(vfs: &Vfs, credentials: &Credentials, inode: &dyn Inode, size: u64) -> Result<(), Errno> {
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

/// Removes the capabilities of a program. The caller holds the lock of the inode's attributes.
pub(crate) fn drop_capabilities(inode: &dyn Inode) -> Result<(), Errno> {
    if inode.has_capabilities() {
        inode.remove_xattr(XATTR_CAPABILITY)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_void_for_unmapped_owners() {
        let root = Credentials::root();
        let owned = |uid, gid| Ownership { permissions: 0o600, uid, gid };
        for (ownership, granted) in [(owned(1, 2), true), (owned(UNMAPPED, 2), false), (owned(1, UNMAPPED), false)] {
            assert_eq!(is_capable(&root, Capability::CAP_CHOWN, ownership), granted);
            assert_eq!(overrides(&root, ownership, false, Access::READ), granted);
            assert_eq!(overrides(&root, ownership, true, Access::WRITE | Access::EXECUTE), granted);
        }
        // CAP_FOWNER depends on the owner only.
        assert!(is_owner(&root, 1) && !is_owner(&root, UNMAPPED));
        let set_gid = |gid| Ownership { permissions: SET_GID | 0o600, uid: 1, gid };
        assert_eq!(without_set_id(&root, set_gid(5)), None);
        assert_eq!(without_set_id(&root, set_gid(UNMAPPED)), Some(0o600));
    }

    #[test]
    fn two_unmapped_owners_are_not_taken_for_the_same() {
        let user = Credentials { fsuid: 7, ..Credentials::root() };
        let shared = |uid| Ownership { permissions: 0o1777, uid, gid: 0 };
        assert!(may_follow_link(&user, shared(3), shared(3)));
        assert!(!may_follow_link(&user, shared(UNMAPPED), shared(UNMAPPED)));
    }
}
