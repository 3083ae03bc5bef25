//! Regular files in memory, open.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::FallocateMode;

use super::TmpInode;
use crate::fs::{File, Inode};

/// A regular file in memory, open.
pub struct TmpFile {
    pub(super) inode: Arc<TmpInode>,
}

impl File for TmpFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.inode.with_data(|data| Ok(data.read(buf, offset)))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        let done = self.inode.with_data(|data| data.write(buf, offset))?;
        self.inode.note_modified();
        Ok(done)
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        let done = self.inode.with_data(|data| {
            let end = data.len();
            data.write(buf, end).map(|n| (end, n))
        })?;
        self.inode.note_modified();
        Ok(done)
    }

    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        self.inode.with_data(|data| if offset >= data.len() { Err(Errno::ENXIO) } else { data.seek(offset, hole) })
    }

    fn allocate(&self, mode: FallocateMode, offset: u64, len: u64) -> Result<(), Errno> {
        self.inode.allocate(mode, offset, len)
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
