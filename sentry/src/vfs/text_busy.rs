//! `ETXTBSY`: running programs cannot be opened for writing, and files open for writing cannot be executed.

use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::FileType;

use crate::sync::{Mutex, Rank};
use crate::vfs::{Inode, Vfs};

/// Device and number of a file.
type Key = ((u32, u32), u64);

/// The files of a kernel that are open for writing or executed.
pub(crate) struct FileUses {
    /// The number of descriptions that can write a file (positive) or execute it (negative).
    counts: Mutex<HashMap<Key, i64>>,
}

impl FileUses {
    pub(super) fn new() -> Self {
        FileUses { counts: Mutex::new(Rank::Leaf, HashMap::new()) }
    }

    /// Whether a file is being executed.
    pub(crate) fn is_executed(&self, inode: &dyn Inode) -> Result<bool, Errno> {
        let key = key_of(inode)?;
        Ok(self.counts.lock().get(&key).is_some_and(|&count| count < 0))
    }
}

/// A use of a regular file, for writing or execution, which ends when dropped.
pub(crate) struct FileUse {
    vfs: Arc<Vfs>,
    key: Key,
    writes: bool,
}

impl FileUse {
    /// Begins to write a file or, without `writes`, to execute it. Only regular files are counted.
    ///
    /// # Errors
    /// `ETXTBSY` if it is in use the other way; errors of reading attributes.
    pub(crate) fn begin(vfs: &Arc<Vfs>, inode: &dyn Inode, writes: bool) -> Result<Option<FileUse>, Errno> {
        if inode.kind() != FileType::Regular {
            return Ok(None);
        }
        let key = key_of(inode)?;
        let step = if writes { 1 } else { -1 };
        let mut counts = vfs.file_uses.counts.lock();
        let count = counts.entry(key).or_insert(0);
        if *count * step < 0 {
            return Err(Errno::ETXTBSY.here());
        }
        *count += step;
        Ok(Some(FileUse { vfs: vfs.clone(), key, writes }))
    }
}

fn key_of(inode: &dyn Inode) -> Result<Key, Errno> {
    let metadata = inode.metadata()?;
    Ok(((metadata.device.major, metadata.device.minor), metadata.number))
}

impl Drop for FileUse {
    fn drop(&mut self) {
        let mut counts = self.vfs.file_uses.counts.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= if self.writes { 1 } else { -1 };
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
