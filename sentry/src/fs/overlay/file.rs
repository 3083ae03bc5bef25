//! Open regular files of the overlay.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use amber_abi::errno::Errno;
use amber_abi::open::{FallocateMode, OpenFlags};

use super::inode::OverlayInode;
use crate::mm::Mappable;
use crate::vfs::{File, Inode};

/// An open file, which switches from the lower to the upper layer when the inode is copied up.
pub(super) struct OverlayFile {
    inode: Arc<OverlayInode>,
    lower: Option<Arc<dyn File>>,
    upper: OnceLock<Arc<dyn File>>,
}

impl OverlayFile {
    /// Opens the inode's present layer. For writing, the caller has copied it up.
    pub(super) fn new(inode: Arc<OverlayInode>) -> Result<Self, Errno> {
        let file = OverlayFile { lower: None, upper: OnceLock::new(), inode };
        match (file.inode.upper(), file.inode.lower()) {
            (None, Some(lower)) => {
                let lower = lower.clone().open(OpenFlags::O_RDONLY)?;
                Ok(OverlayFile { lower: Some(lower), ..file })
            }
            _ => {
                file.current()?;
                Ok(file)
            }
        }
    }

    fn current(&self) -> Result<&Arc<dyn File>, Errno> {
        if let Some(upper) = self.upper.get() {
            return Ok(upper);
        }
        match (self.inode.upper(), &self.lower) {
            (Some(upper), _) => {
                let file = upper.open(OpenFlags::O_RDWR)?;
                Ok(self.upper.get_or_init(|| file))
            }
            (None, Some(lower)) => Ok(lower),
            (None, None) => Err(Errno::EIO.here()),
        }
    }
}

impl File for OverlayFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.current()?.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.current()?.write_at(buf, offset)
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        self.current()?.append(buf)
    }

    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        self.current()?.seek_data(offset, hole)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>, Errno> {
        self.current()?.mappable()
    }

    fn allocate(&self, mode: FallocateMode, offset: u64, len: u64) -> Result<(), Errno> {
        self.current()?.allocate(mode, offset, len)
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
