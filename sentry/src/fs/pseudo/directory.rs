//! Listing directories of proc and sysfs.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;

use super::{Listed, PseudoInode, What};
use crate::sync::{Mutex, Rank};
use crate::vfs::{DirectoryEntry, DirectorySink, File, Inode};

/// The first cookie of listings, which follow the tables.
const LISTED: u64 = 1 << 16;

/// An open directory. Its listing is made at the start and after a rewind, so that many short reads of a long list make
/// it once.
pub(super) struct PseudoDirectory {
    inode: Arc<PseudoInode>,
    listed: Mutex<Option<Arc<Vec<Listed>>>>,
}

impl PseudoDirectory {
    pub(super) fn new(inode: Arc<PseudoInode>) -> Self {
        PseudoDirectory { inode, listed: Mutex::new(Rank::Leaf, None) }
    }
}

impl File for PseudoDirectory {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_directory(&self, from: u64, sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        let What::Directory(_, _, listing) = self.inode.entry().what else { return Err(Errno::ENOTDIR.here()) };
        let kernel = self.inode.fs().kernel()?;
        let mut add = |name: &str, kind, next| {
            let name = name.as_bytes();
            sink.add(DirectoryEntry { name, number: self.inode.number_of(name), kind: Some(kind), next })
        };
        let first = usize::try_from(from).unwrap_or(usize::MAX);
        for (i, entry) in self.inode.tables(&kernel).enumerate().skip(first).filter(|(_, e)| e.exists_in(&kernel)) {
            if !add(entry.name, entry.kind(), i as u64 + 1) {
                return Ok(());
            }
        }
        let Some(listing) = listing else { return Ok(()) };
        let known = if from <= LISTED { None } else { self.listed.lock().clone() };
        let list = match known {
            Some(list) => list,
            None => {
                let maker = kernel.mm.admit_maker()?;
                let list = Arc::new(listing.list(&kernel, self.inode.subject())?);
                drop(maker);
                let old = self.listed.lock().replace(list.clone());
                drop(old);
                list
            }
        };
        let start = list.partition_point(|listed| LISTED + listed.cookie <= from);
        for listed in list.iter().skip(start) {
            if !add(&listed.name, listed.entry.kind(), LISTED + listed.cookie) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
