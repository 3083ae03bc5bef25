//! Open host directories.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::FileType;
use amber_host::fs::HostEntry;

use crate::sync::{Mutex, Rank};
use crate::vfs::{DirectoryEntry, DirectorySink, File, Inode};

/// A host directory that can be listed.
pub(in crate::fs) trait Listed: Inode {
    /// All its entries.
    ///
    /// # Errors
    /// Errors of the host.
    fn list(&self) -> Result<Vec<HostEntry>, Errno>;
}

/// An open host directory. The entries are read when listing starts and after a rewind, so that cookies stay valid when
/// the directory changes.
pub(in crate::fs) struct HostDirectory<I> {
    inode: Arc<I>,
    list: Mutex<Option<Arc<Vec<HostEntry>>>>,
}

impl<I: Listed> HostDirectory<I> {
    pub(in crate::fs) fn new(inode: Arc<I>) -> Self {
        HostDirectory { inode, list: Mutex::new(Rank::Leaf, None) }
    }
}

impl<I: Listed> File for HostDirectory<I> {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_directory(&self, from: u64, sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        let known = if from == 0 { None } else { self.list.lock().clone() };
        let list = match known {
            Some(list) => list,
            None => {
                let list = Arc::new(self.inode.list()?);
                *self.list.lock() = Some(list.clone());
                list
            }
        };
        for (at, entry) in list.iter().enumerate().skip(from as usize) {
            let kind = FileType::from_dirent(entry.kind);
            let next = at as u64 + 1;
            if !sink.add(DirectoryEntry { name: &entry.name, number: entry.number, kind, next }) {
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
