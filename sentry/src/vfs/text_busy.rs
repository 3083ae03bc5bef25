//! Programs that run cannot be written, and what is being written cannot be executed (`ETXTBSY`).

use std::collections::HashMap;

use amber_abi::errno::Errno;
use amber_abi::stat::FileType;

use crate::sync::{Mutex, Rank};
use crate::vfs::Inode;

/// Device and number of a file.
type Key = ((u32, u32), u64);

/// How many descriptions can write a file (above zero) or execute it (below).
static USES: Mutex<Option<HashMap<Key, i64>>> = Mutex::new(Rank::Leaf, None);

/// One writer or one execution of a regular file; dropping it ends the use.
#[derive(Debug)]
pub struct FileUse {
    key: Key,
    writes: bool,
}

impl FileUse {
    /// Begins to write a file or, without `writes`, to execute it. Files that are not regular are not counted.
    ///
    /// # Errors
    /// `ETXTBSY` if it is in use the other way; those of reading attributes.
    pub fn begin(inode: &dyn Inode, writes: bool) -> Result<Option<FileUse>, Errno> {
        if inode.kind() != FileType::Regular {
            return Ok(None);
        }
        let key = key_of(inode)?;
        let step = if writes { 1 } else { -1 };
        let mut uses = USES.lock();
        let count = uses.get_or_insert_default().entry(key).or_insert(0);
        if *count * step < 0 {
            return Err(Errno::ETXTBSY);
        }
        *count += step;
        Ok(Some(FileUse { key, writes }))
    }

    /// Whether a file is being executed.
    pub fn is_executed(inode: &dyn Inode) -> Result<bool, Errno> {
        let key = key_of(inode)?;
        Ok(USES.lock().as_ref().and_then(|uses| uses.get(&key)).is_some_and(|&count| count < 0))
    }
}

fn key_of(inode: &dyn Inode) -> Result<Key, Errno> {
    let metadata = inode.metadata()?;
    Ok(((metadata.device.major, metadata.device.minor), metadata.number))
}

impl Drop for FileUse {
    fn drop(&mut self) {
        let mut uses = USES.lock();
        let uses = uses.get_or_insert_default();
        if let Some(count) = uses.get_mut(&self.key) {
            *count -= if self.writes { 1 } else { -1 };
            if *count == 0 {
                uses.remove(&self.key);
            }
        }
    }
}
