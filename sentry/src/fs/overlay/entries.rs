//! The changes of one directory.

use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::errno::Errno;

use super::inode::OverlayInode;
use crate::vfs::Inode;

/// A changed name.
#[derive(Clone)]
pub(super) enum Change {
    /// An inode that was created, moved or linked here.
    Present(Arc<OverlayInode>),
    /// The name was removed but exists in the lower directory.
    Removed,
}

/// The changes of a directory, by name.
#[derive(Default)]
pub(super) struct Entries(HashMap<Box<[u8]>, Change>);

impl Entries {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Change> {
        self.0.get(name)
    }

    pub(super) fn set(&mut self, name: &[u8], inode: Arc<OverlayInode>) {
        self.0.insert(name.into(), Change::Present(inode));
    }

    /// Removes a name. `lower` is the lower directory, which may have the name as well.
    ///
    /// # Errors
    /// Errors of the lookup in the lower directory; the name is not removed then.
    pub(super) fn remove(&mut self, name: &[u8], lower: Option<&Arc<dyn Inode>>) -> Result<Option<Change>, Errno> {
        let below = match lower.map(|lower| lower.lookup(name)) {
            None | Some(Err(Errno::ENOENT)) => false,
            Some(Ok(_)) => true,
            Some(Err(errno)) => return Err(errno),
        };
        Ok(if below { self.0.insert(name.into(), Change::Removed) } else { self.0.remove(name) })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Change)> {
        self.0.iter().map(|(name, change)| (&**name, change))
    }

    pub(super) fn into_inodes(self) -> impl Iterator<Item = Arc<OverlayInode>> {
        self.0.into_values().filter_map(|change| match change {
            Change::Present(inode) => Some(inode),
            Change::Removed => None,
        })
    }

    pub(super) fn has_any(&self) -> bool {
        self.0.values().any(|change| matches!(change, Change::Present(_)))
    }
}
