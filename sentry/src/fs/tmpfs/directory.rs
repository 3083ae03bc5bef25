//! Directories in memory.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use amber_abi::errno::Errno;

use super::TmpInode;
use crate::vfs::{DirectoryEntry, DirectorySink, File, Inode};

/// The entries of a directory, in order of creation. Each keeps its cookie.
#[derive(Default)]
pub(super) struct Entries {
    by_name: HashMap<Arc<[u8]>, u64>,
    by_cookie: BTreeMap<u64, (Arc<[u8]>, Arc<TmpInode>)>,
    last_cookie: u64,
}

impl Entries {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<TmpInode>> {
        let cookie = self.by_name.get(name)?;
        self.by_cookie.get(cookie).map(|(_, inode)| inode)
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Adds or replaces an entry.
    pub(super) fn insert(&mut self, name: &[u8], inode: Arc<TmpInode>) -> Option<Arc<TmpInode>> {
        if let Some(cookie) = self.by_name.get(name)
            && let Some((_, old)) = self.by_cookie.get_mut(cookie)
        {
            return Some(std::mem::replace(old, inode));
        }
        let name: Arc<[u8]> = Arc::from(name);
        self.last_cookie += 1;
        self.by_name.insert(name.clone(), self.last_cookie);
        self.by_cookie.insert(self.last_cookie, (name, inode));
        None
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let cookie = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie).map(|(_, inode)| inode)
    }

    pub(super) fn into_inodes(self) -> Vec<Arc<TmpInode>> {
        self.by_cookie.into_values().map(|(_, inode)| inode).collect()
    }

    /// At most `most` entries from a cookie on.
    fn from(&self, cookie: u64, most: usize) -> Vec<(u64, Arc<[u8]>, Arc<TmpInode>)> {
        let range = self.by_cookie.range(cookie + 1..).take(most);
        range.map(|(&cookie, (name, inode))| (cookie, name.clone(), inode.clone())).collect()
    }
}

/// An open directory in memory.
pub(super) struct TmpDirectory {
    pub(super) inode: Arc<TmpInode>,
}

impl File for TmpDirectory {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_directory(&self, from: u64, sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        const BATCH: usize = 128;
        let mut from = from;
        loop {
            let batch = self.inode.with_entries(|entries| entries.from(from, BATCH))?;
            for (cookie, name, inode) in &batch {
                let kind = Some(inode.kind());
                if !sink.add(DirectoryEntry { name, number: inode.number(), kind, next: *cookie }) {
                    return Ok(());
                }
                from = *cookie;
            }
            if batch.len() < BATCH {
                return Ok(());
            }
        }
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
