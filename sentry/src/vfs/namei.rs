//! Changes of directories: creating, linking, removing and moving entries, with all checks.
//!
//! The directory's lock is held over each change, so that changes of one name are serialized.

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::open::RenameFlags;
use amber_abi::stat::{Device, FileType};

use crate::credentials::Credentials;
use crate::vfs::access::{self, Access, SET_GID};
use crate::vfs::notify::{self, mask};
use crate::vfs::walk::{Last, Target};
use crate::vfs::{Dentry, Inode, NewInode, Path};

/// A new entry: type, mode before the umask, and what the type requires.
#[derive(Clone, Copy)]
pub(crate) struct Creation<'a> {
    /// The file type.
    pub kind: FileType,
    /// The lower twelve bits of the requested mode.
    pub permissions: u16,
    /// The file mode creation mask.
    pub umask: u16,
    /// The device of a device node.
    pub special: Device,
    /// The target of a symbolic link.
    pub target: &'a [u8],
}

impl<'a> Creation<'a> {
    /// A file or directory with this mode.
    pub(crate) fn plain(kind: FileType, permissions: u16, umask: u16) -> Self {
        Creation { kind, permissions, umask, special: Device::default(), target: &[] }
    }

    /// A symbolic link to `target`.
    pub(crate) fn link(target: &'a [u8]) -> Self {
        Creation { kind: FileType::Symlink, permissions: 0o777, umask: 0, special: Device::default(), target }
    }

    /// Owner, group and mode of the new inode in `directory`.
    pub(crate) fn inode_in(&self, credentials: &Credentials, directory: &dyn Inode) -> Result<NewInode<'a>, Errno> {
        let parent = directory.settled_ownership()?;
        let asked = self.permissions & 0o7777;
        let masked = if self.kind == FileType::Symlink { 0 } else { asked & self.umask };
        let mut permissions = asked & !masked;
        let mut gid = credentials.fsgid;
        if parent.permissions & SET_GID != 0 {
            gid = parent.gid;
            if self.kind == FileType::Directory {
                permissions |= SET_GID;
            } else if permissions & (SET_GID | 0o010) == (SET_GID | 0o010)
                && !credentials.in_group(gid)
                && !access::is_capable(credentials, Capability::CAP_FSETID, parent)
            {
                permissions &= !SET_GID;
            }
        }
        Ok(NewInode {
            kind: self.kind,
            permissions,
            masked,
            uid: credentials.fsuid,
            gid,
            special: self.special,
            target: self.target,
        })
    }
}

/// Creates an entry, which must not exist yet.
///
/// # Errors
/// `EEXIST` takes precedence over errors of permissions, as on Linux.
pub(crate) fn create(credentials: &Credentials, target: &Target, new: &Creation<'_>) -> Result<Path, Errno> {
    let name = target.name(Errno::EEXIST)?;
    let directory = &target.directory;
    let parent = directory.inode()?.clone();
    parent.may_modify_entry(name, true)?;
    let made = {
        let mut children = directory.dentry.lock_children(false);
        let (found, fresh) = directory.dentry.lookup_locked(&mut children, name)?;
        if !found.is_negative() {
            drop(children);
            found.use_it(fresh);
            return Err(Errno::EEXIST.here());
        }
        if target.trailing_slash && new.kind != FileType::Directory {
            return Err(Errno::ENOENT.here());
        }
        directory.mount.check_writable()?;
        access::check_create(credentials, directory)?;
        if matches!(new.kind, FileType::CharacterDevice | FileType::BlockDevice)
            && !(new.kind == FileType::CharacterDevice && new.special == Device::default())
            && !credentials.has(Capability::CAP_MKNOD)
        {
            return Err(Errno::EPERM.here());
        }
        let inode = parent.create(name, &new.inode_in(credentials, &*parent)?)?;
        directory.dentry.add_locked(&mut children, name, Some(inode))
    };
    made.use_it(true);
    notify::entry(&directory.dentry, &made, name, mask::IN_CREATE);
    Ok(Path { mount: directory.mount.clone(), dentry: made })
}

/// Creates a hard link to the inode of `source`; `protected` applies `fs.protected_hardlinks`.
pub(crate) fn link(credentials: &Credentials, source: &Path, target: &Target, protected: bool) -> Result<(), Errno> {
    let name = target.name(Errno::EEXIST)?;
    let directory = &target.directory;
    let inode = source.inode()?.clone();
    let parent = directory.inode()?.clone();
    parent.may_modify_entry(name, true)?;
    let made = {
        let mut children = directory.dentry.lock_children(false);
        let (found, _) = directory.dentry.lookup_locked(&mut children, name)?;
        if !found.is_negative() {
            return Err(Errno::EEXIST.here());
        }
        if target.trailing_slash {
            return Err(Errno::ENOENT.here());
        }
        directory.mount.check_writable()?;
        if !Arc::ptr_eq(&source.mount, &directory.mount) {
            return Err(Errno::EXDEV.here());
        }
        if protected {
            access::check_link_source(credentials, &*inode)?;
        }
        access::check_create(credentials, directory)?;
        if inode.kind() == FileType::Directory {
            return Err(Errno::EPERM.here());
        }
        parent.link(name, &inode)?;
        directory.dentry.add_locked(&mut children, name, Some(inode.clone()))
    };
    made.use_it(true);
    notify::links_changed(directory.dentry.vfs(), &*inode);
    notify::entry(&directory.dentry, &made, name, mask::IN_CREATE);
    Ok(())
}

/// Removes an entry that is not a directory.
pub(crate) fn unlink(credentials: &Credentials, target: &Target) -> Result<(), Errno> {
    let name = target.name(Errno::EISDIR)?;
    remove(credentials, target, name, false)
}

/// Removes an empty directory.
pub(crate) fn rmdir(credentials: &Credentials, target: &Target) -> Result<(), Errno> {
    let name = match &target.last {
        Last::Name(name) => name,
        Last::Dot => return Err(Errno::EINVAL.here()),
        Last::DotDot => return Err(Errno::ENOTEMPTY.here()),
        Last::Root => return Err(Errno::EBUSY.here()),
    };
    remove(credentials, target, name, true)
}

fn remove(credentials: &Credentials, target: &Target, name: &[u8], as_directory: bool) -> Result<(), Errno> {
    let directory = &target.directory;
    directory.mount.check_writable()?;
    let parent = directory.inode()?.clone();
    parent.may_modify_entry(name, false)?;
    let victim = {
        let mut children = directory.dentry.lock_children(false);
        let (found, _) = directory.dentry.lookup_locked(&mut children, name)?;
        let inode = found.inode()?;
        if target.trailing_slash && !as_directory {
            return Err(if found.is_directory() { Errno::EISDIR.here() } else { Errno::ENOTDIR.here() });
        }
        access::check_delete(credentials, directory, &**inode)?;
        check_kind(&found, as_directory)?;
        if found.is_mount_point() {
            return Err(Errno::EBUSY.here());
        }
        // Prevents new entries in a directory being removed. It is locked after its parent, as in renames.
        let inside = as_directory.then(|| found.lock_children(true));
        if as_directory {
            parent.rmdir(name)?
        } else {
            parent.unlink(name)?
        }
        directory.dentry.remove_locked(&mut children, &found);
        drop(inside);
        drop(children);
        found
    };
    notify::name_removed(&victim);
    notify::entry(&directory.dentry, &victim, name, mask::IN_DELETE);
    Ok(())
}

fn check_kind(victim: &Dentry, as_directory: bool) -> Result<(), Errno> {
    match (as_directory, victim.is_directory()) {
        (true, false) => Err(Errno::ENOTDIR.here()),
        (false, true) => Err(Errno::EISDIR.here()),
        _ => Ok(()),
    }
}

/// Moves an entry, with the flags of renameat2(2), whose combinations the caller has checked.
pub(crate) fn rename(credentials: &Credentials, from: &Target, to: &Target, flags: RenameFlags) -> Result<(), Errno> {
    let no_replace = flags.contains(RenameFlags::RENAME_NOREPLACE);
    if !Arc::ptr_eq(&from.directory.mount, &to.directory.mount) {
        return Err(Errno::EXDEV.here());
    }
    let name = from.name(Errno::EBUSY)?;
    let new_name = to.name(if no_replace { Errno::EEXIST } else { Errno::EBUSY })?;
    from.directory.mount.check_writable()?;
    from.directory.inode()?.may_modify_entry(name, false)?;
    let (old_dir, new_dir) = (&from.directory.dentry, &to.directory.dentry);
    let one = old_dir.vfs().renames.lock();
    let same = Arc::ptr_eq(old_dir, new_dir);
    // Under the rename lock ancestry cannot change. An ancestor is locked before its descendant.
    let old_first = same || old_dir.is_ancestor_of(new_dir) || !new_dir.is_ancestor_of(old_dir);
    let mut first = if old_first { old_dir } else { new_dir }.lock_children(false);
    let mut second = if same { None } else { Some(if old_first { new_dir } else { old_dir }.lock_children(true)) };
    let (old_children, mut new_children) = match (&mut second, old_first) {
        (None, _) => (&mut *first, None),
        (Some(second), true) => (&mut *first, Some(&mut **second)),
        (Some(second), false) => (&mut **second, Some(&mut *first)),
    };

    let (moved, _) = old_dir.lookup_locked(old_children, name)?;
    let inode = moved.inode()?.clone();
    let (replaced, _) = match &mut new_children {
        Some(children) => new_dir.lookup_locked(children, new_name)?,
        None => new_dir.lookup_locked(old_children, new_name)?,
    };
    if no_replace && !replaced.is_negative() {
        return Err(Errno::EEXIST.here());
    }
    let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
    if exchange {
        let other = replaced.inode()?;
        if other.kind() != FileType::Directory && to.trailing_slash {
            return Err(Errno::ENOTDIR.here());
        }
    }
    if !moved.is_directory() && (from.trailing_slash || (!exchange && to.trailing_slash)) {
        return Err(Errno::ENOTDIR.here());
    }
    if moved.is_ancestor_of(new_dir) {
        return Err(Errno::EINVAL.here());
    }
    if !replaced.is_negative() && replaced.is_ancestor_of(old_dir) {
        return Err(if exchange { Errno::EINVAL.here() } else { Errno::ENOTEMPTY.here() });
    }
    if replaced.inode().is_ok_and(|other| is_same_inode(other, &inode)) {
        return Ok(());
    }
    check_rename(credentials, from, to, &moved, &replaced, exchange)?;

    // Prevents new entries in a directory being replaced. It is below both directories, so it is locked last.
    let inside = (!exchange && replaced.is_directory()).then(|| replaced.lock_children(true));
    let directory = old_dir.inode()?.clone();
    directory.rename(name, new_dir.inode()?, new_name, flags)?;

    if exchange {
        old_dir.vfs().tree_changes.make(|| replaced.exchange_locked(&moved, old_children, new_children));
    } else {
        if !replaced.is_negative() {
            match &mut new_children {
                Some(children) => new_dir.remove_locked(children, &replaced),
                None => new_dir.remove_locked(old_children, &replaced),
            }
        }
        old_dir.vfs().tree_changes.make(|| moved.move_locked(old_children, new_children, new_dir, new_name));
        if flags.contains(RenameFlags::RENAME_WHITEOUT) {
            // The whiteout left behind is looked up on the next use.
            old_children.remove(name);
        }
    }
    drop(inside);
    drop(second);
    drop(first);
    drop(one);
    let gone = (!exchange && !replaced.is_negative()).then_some(&replaced);
    notify::moved(old_dir, name, new_dir, new_name, &moved, gone);
    if exchange {
        notify::moved(new_dir, new_name, old_dir, name, &replaced, None);
    }
    Ok(())
}

fn is_same_inode(one: &Arc<dyn Inode>, other: &Arc<dyn Inode>) -> bool {
    Arc::ptr_eq(one, other) || matches!((one.identity(), other.identity()), (Ok(a), Ok(b)) if a == b)
}

fn check_rename(
    credentials: &Credentials,
    from: &Target,
    to: &Target,
    moved: &Arc<Dentry>,
    replaced: &Arc<Dentry>,
    exchange: bool,
) -> Result<(), Errno> {
    let inode = moved.inode()?;
    access::check_delete(credentials, &from.directory, &**inode)?;
    match replaced.inode() {
        Err(_) => access::check_create(credentials, &to.directory)?,
        Ok(other) => {
            access::check_delete(credentials, &to.directory, &**other)?;
            if !exchange {
                check_kind(replaced, moved.is_directory())?;
            }
        }
    }
    // Moving a directory to another parent changes its `..`, which requires write permission.
    if !Arc::ptr_eq(&from.directory.dentry, &to.directory.dentry) {
        if moved.is_directory() {
            access::check(credentials, &**inode, Access::WRITE)?;
        }
        if exchange && replaced.is_directory() {
            access::check(credentials, &**replaced.inode()?, Access::WRITE)?;
        }
    }
    if moved.is_mount_point() || replaced.is_mount_point() {
        return Err(Errno::EBUSY.here());
    }
    Ok(())
}
