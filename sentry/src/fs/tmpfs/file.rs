//! Open regular files in memory.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::{FallocateMode, Seals};

use super::TmpInode;
use crate::mm::Mappable;
use crate::vfs::{File, Inode};

/// An open regular file in memory.
pub(super) struct TmpFile {
    pub(super) inode: Arc<TmpInode>,
}

impl File for TmpFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.inode.pages()?.read(offset, buf)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.inode.write(buf, Some(offset)).map(|(_, done)| done)
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        self.inode.write(buf, None)
    }

    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        self.inode.pages()?.seek_data(offset, hole).ok_or_else(|| Errno::ENXIO.here())
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>, Errno> {
        Ok(self.inode.pages()?.clone())
    }

    fn seals(&self) -> Result<Seals, Errno> {
        Ok(self.inode.seals())
    }

    fn add_seals(&self, seals: Seals) -> Result<(), Errno> {
        self.inode.add_seals(seals)
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
