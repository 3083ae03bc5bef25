//! Open regular files of the host kernel's file systems.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_host::reader::Opened;

use super::{KernelInode, TRIES};
use crate::interruption::check_killed;
use crate::sync::{Mutex, Rank};
use crate::vfs::{File, Inode};

/// An open regular file. The reader process may close it at any time; it is then reopened.
pub(super) struct KernelFile {
    inode: Arc<KernelInode>,
    opened: Mutex<Arc<Opened>>,
}

impl KernelFile {
    pub(super) fn new(inode: Arc<KernelInode>) -> Result<Self, Errno> {
        let opened = Arc::new(inode.opened()?);
        Ok(KernelFile { inode, opened: Mutex::new(Rank::Leaf, opened) })
    }
}

impl File for KernelFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        for _ in 1..TRIES {
            let opened = self.opened.lock().clone();
            match opened.read(buf, offset, check_killed) {
                Err(Errno::ESTALE) => {}
                read => return read,
            }
            let fresh = Arc::new(self.inode.opened()?);
            let old = std::mem::replace(&mut *self.opened.lock(), fresh);
            drop(old);
        }
        let opened = self.opened.lock().clone();
        opened.read(buf, offset, check_killed)
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
