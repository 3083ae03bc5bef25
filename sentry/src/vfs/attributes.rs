//! Attributes of inodes of small file systems: owner, mode and times.

use amber_abi::errno::Errno;
use amber_abi::time::Timespec;

use crate::vfs::access::Ownership;
use crate::vfs::{SetAttributes, SetTime, now};

/// Owner, mode and times of an inode whose length cannot be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    /// Mode, user ID and group ID.
    pub ownership: Ownership,
    /// Last access (`atime`).
    pub accessed: Timespec,
    /// Last change of the content (`mtime`).
    pub modified: Timespec,
    /// Last change of content or attributes (`ctime`).
    pub changed: Timespec,
}

impl Attributes {
    /// Attributes of an inode created now.
    pub(crate) fn new(permissions: u16, uid: u32, gid: u32) -> Self {
        let now = now();
        let ownership = Ownership { permissions, uid, gid };
        Attributes { ownership, accessed: now, modified: now, changed: now }
    }

    /// Applies changes of chmod(2), chown(2) and utimensat(2).
    ///
    /// # Errors
    /// `EINVAL` for a change of the length.
    pub(crate) fn apply(&mut self, changes: &SetAttributes) -> Result<(), Errno> {
        if changes.size.is_some() {
            return Err(Errno::EINVAL.here());
        }
        let now = now();
        let time = |set| match set {
            SetTime::Now => now,
            SetTime::To(time) => time,
        };
        let old = self.ownership;
        self.ownership = Ownership {
            permissions: changes.permissions.unwrap_or(old.permissions),
            uid: changes.uid.unwrap_or(old.uid),
            gid: changes.gid.unwrap_or(old.gid),
        };
        self.accessed = changes.accessed.map_or(self.accessed, time);
        self.modified = changes.modified.map_or(self.modified, time);
        self.changed = now;
        Ok(())
    }
}
