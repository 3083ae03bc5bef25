//! Open regular files of the host.

use std::any::Any;
use std::fs::File as StdFile;
use std::os::fd::AsFd;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::FallocateMode;
use amber_host::fs as host;

use super::inode::HostInode;
use crate::fs::{File, Inode};

/// A regular file of the host, open.
pub struct HostFile {
    inode: Arc<HostInode>,
    file: Arc<StdFile>,
}

impl HostFile {
    pub(super) fn new(inode: Arc<HostInode>, file: Arc<StdFile>) -> Self {
        HostFile { inode, file }
    }
}

impl File for HostFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        host::read_at(&self.file, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        host::write_at(&self.file, buf, offset)
    }

    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        host::seek_data(self.file.as_fd(), offset, hole)
    }

    fn allocate(&self, mode: FallocateMode, offset: u64, len: u64) -> Result<(), Errno> {
        host::allocate(self.file.as_fd(), mode.bits(), offset, len)
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        host::sync(self.file.as_fd(), data_only)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
