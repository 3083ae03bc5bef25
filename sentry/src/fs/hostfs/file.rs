//! Open regular files of the host.

use std::any::Any;
use std::os::fd::AsFd;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::FallocateMode;
use amber_host::fs as host;

use super::descriptor::Descriptor;
use super::inode::HostInode;
use crate::interruption::check_killed;
use crate::mm::Mappable;
use crate::vfs::{File, Inode};

/// An open regular file of the host. Reads and writes go to the host; mapped pages are kept consistent.
pub(super) struct HostFile {
    inode: Arc<HostInode>,
    file: Arc<Descriptor>,
    writes: bool,
}

impl HostFile {
    /// `writes` is whether the descriptor is open for writing.
    pub(super) fn new(inode: Arc<HostInode>, file: Arc<Descriptor>, writes: bool) -> Self {
        HostFile { inode, file, writes }
    }

    fn write(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        let Some(pages) = self.inode.pages() else { return host::write_at(&self.file, buf, offset) };
        let done = pages.write(offset, buf)?;
        pages.write_back(offset, done as u64)?;
        self.inode.note_own_change(&self.file);
        Ok(done)
    }
}

/// The maximum number of bytes that one call of the host allocates, since it cannot be interrupted.
const ALLOCATED: u64 = 64 << 20;

impl HostFile {
    fn allocate_in_steps(&self, mode: FallocateMode, offset: u64, len: u64) -> Result<(), Errno> {
        let whole = FallocateMode::FALLOC_FL_COLLAPSE_RANGE | FallocateMode::FALLOC_FL_INSERT_RANGE;
        let step = if mode.intersects(whole) { len } else { ALLOCATED };
        let mut done = 0;
        while done < len {
            check_killed()?;
            let part = step.min(len - done);
            host::allocate(self.file.as_fd(), mode.bits(), offset + done, part)?;
            done += part;
        }
        Ok(())
    }
}

impl File for HostFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if self.inode.is_shared()
            && let Some(pages) = self.inode.pages()
        {
            // Writes back stores through shared mappings first.
            pages.write_back(offset, buf.len() as u64)?;
        }
        host::read_at(&self.file, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.write(buf, offset)
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        let _one = self.inode.appending().lock();
        let end = host::stat(self.file.as_fd())?.size;
        self.write(buf, end).map(|n| (end, n))
    }

    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        self.inode.write_back()?;
        host::seek_data(self.file.as_fd(), offset, hole)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>, Errno> {
        Ok(self.inode.map(self.writes.then_some(&self.file))?)
    }

    fn allocate(&self, mode: FallocateMode, offset: u64, len: u64) -> Result<(), Errno> {
        self.inode.write_back()?;
        let done = self.allocate_in_steps(mode, offset, len);
        if let Some(pages) = self.inode.pages() {
            pages.reload(host::stat(self.file.as_fd())?.size);
        }
        done
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.inode.write_back()?;
        host::sync(self.file.as_fd(), data_only)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
