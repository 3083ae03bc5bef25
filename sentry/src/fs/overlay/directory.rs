//! Open directories of the overlay.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::FileType;

use super::entries::Change;
use super::inode::OverlayInode;
use crate::sync::{Mutex, Rank};
use crate::vfs::{DirectoryEntry, DirectorySink, File, Inode};

/// An entry of the merged list.
#[derive(Clone)]
pub(super) struct Listed {
    pub(super) name: Box<[u8]>,
    pub(super) number: u64,
    pub(super) kind: Option<FileType>,
}

/// Collects the entries of a lower directory.
pub(super) struct Collector<'a> {
    pub(super) list: Vec<Listed>,
    /// Whether a name of the lower directory is hidden.
    pub(super) hides: &'a dyn Fn(&[u8]) -> bool,
    /// The number of entries after which it stops.
    pub(super) most: usize,
}

impl DirectorySink for Collector<'_> {
    fn add(&mut self, entry: DirectoryEntry<'_>) -> bool {
        if !(self.hides)(entry.name) {
            self.list.push(Listed { name: entry.name.into(), number: entry.number, kind: entry.kind });
        }
        self.list.len() < self.most
    }
}

/// An open directory. The entries are read when listing starts and after a rewind.
pub(super) struct OverlayDirectory {
    inode: Arc<OverlayInode>,
    list: Mutex<Option<Arc<Vec<Listed>>>>,
}

impl OverlayDirectory {
    pub(super) fn new(inode: Arc<OverlayInode>) -> Self {
        OverlayDirectory { inode, list: Mutex::new(Rank::Leaf, None) }
    }
}

impl OverlayInode {
    /// The entries of both layers, about `most` at most.
    pub(super) fn list(&self, most: usize) -> Result<Vec<Listed>, Errno> {
        let entries = self.entries()?.lock();
        let hides = |name: &[u8]| entries.get(name).is_some();
        let mut collector = Collector { list: Vec::new(), hides: &hides, most };
        if let Some(lower) = self.lower() {
            lower.clone().open(amber_abi::open::OpenFlags::O_RDONLY)?.read_directory(0, &mut collector)?;
        }
        let mut list = collector.list;
        for (name, change) in entries.iter() {
            if let Change::Present(inode) = change {
                list.push(Listed { name: name.into(), number: inode.number(), kind: Some(inode.kind()) });
            }
        }
        Ok(list)
    }
}

impl File for OverlayDirectory {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_directory(&self, from: u64, sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        let known = if from == 0 { None } else { self.list.lock().clone() };
        let list = match known {
            Some(list) => list,
            None => {
                let list = Arc::new(self.inode.list(usize::MAX)?);
                *self.list.lock() = Some(list.clone());
                list
            }
        };
        for (at, entry) in list.iter().enumerate().skip(from as usize) {
            let next = at as u64 + 1;
            if !sink.add(DirectoryEntry { name: &entry.name, number: entry.number, kind: entry.kind, next }) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
