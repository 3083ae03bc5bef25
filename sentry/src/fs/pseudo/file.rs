//! Open files with short content, which is made when they are read.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;

use super::entry::{Store, Text};
use super::{PseudoInode, Query, Reader};
use crate::slices::copy_fitting;
use crate::sync::{Mutex, Rank};
use crate::vfs::{File, Inode};

/// A file whose content is made when it is read from the start; further reads use that copy.
pub(crate) struct TextFile {
    inode: Arc<PseudoInode>,
    reader: Reader,
    text: Text,
    store: Option<Store>,
    made: Mutex<Option<Arc<Vec<u8>>>>,
}

impl TextFile {
    /// Opens the file for a reader.
    pub(crate) fn new(inode: Arc<PseudoInode>, reader: Reader, text: Text, store: Option<Store>) -> Self {
        TextFile { inode, reader, text, store, made: Mutex::new(Rank::Leaf, None) }
    }

    fn ask<T>(&self, look: impl FnOnce(&Query<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        let kernel = self.inode.fs().kernel()?;
        look(&Query { kernel: &kernel, subject: self.inode.subject(), reader: &self.reader })
    }

    fn content(&self, anew: bool) -> Result<Arc<Vec<u8>>, Errno> {
        if !anew && let Some(text) = self.made.lock().clone() {
            return Ok(text);
        }
        let text = self.ask(|query| {
            let _maker = query.kernel.mm.admit_maker()?;
            (self.text)(query)
        })?;
        let text = Arc::new(text);
        let old = self.made.lock().replace(text.clone());
        drop(old);
        Ok(text)
    }
}

impl File for TextFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let text = self.content(offset == 0)?;
        let rest = usize::try_from(offset).ok().and_then(|at| text.get(at..)).unwrap_or_default();
        Ok(copy_fitting(rest, buf))
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        let store = self.store.ok_or_else(|| Errno::EIO.here())?;
        self.ask(|query| store(query, buf))?;
        Ok(buf.len())
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        Ok((0, self.write_at(buf, 0)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
