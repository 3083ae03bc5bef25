//! Open files whose length the guest controls. Their content is made in pieces as it is read.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;

use super::{PseudoInode, Query, Reader};
use crate::interruption::check_killed;
use crate::slices::copy_fitting;
use crate::sync::{Mutex, Rank};
use crate::vfs::{File, Inode};

/// Appends the next piece of a text, about a page long, possibly empty. Returns false if it is the last. Between pieces
/// it keeps only the place to continue at.
pub(crate) type Pieces = Box<dyn FnMut(&Query<'_>, &mut Vec<u8>) -> Result<bool, Errno> + Send>;

/// Begins a text that is made in pieces.
pub(crate) type Begin = fn(&Query<'_>) -> Result<Pieces, Errno>;

/// Like [`Begin`], with state bound when the file was opened.
type BeginBound = dyn Fn(&Query<'_>) -> Result<Pieces, Errno> + Send + Sync;

/// A short text as a single piece.
pub(crate) fn one_piece(mut text: Vec<u8>) -> Pieces {
    Box::new(move |_, all| {
        all.append(&mut text);
        Ok(false)
    })
}

/// A text of which only the last piece is kept. Sequential reads make it once; a read of an earlier offset makes it
/// again from the start, as seq_file does in Linux.
pub(crate) struct LongFile {
    inode: Arc<PseudoInode>,
    reader: Reader,
    begin: Box<BeginBound>,
    /// Taken out while a piece is made; a concurrent reader starts again.
    progress: Mutex<Option<Progress>>,
}

/// The progress of a text.
struct Progress {
    pieces: Pieces,
    /// The last piece, and its offset in the text.
    piece: Vec<u8>,
    start: u64,
    ended: bool,
}

impl LongFile {
    /// Opens the file for a reader.
    pub(crate) fn new(
        inode: Arc<PseudoInode>,
        reader: Reader,
        begin: impl Fn(&Query<'_>) -> Result<Pieces, Errno> + Send + Sync + 'static,
    ) -> Self {
        LongFile { inode, reader, begin: Box::new(begin), progress: Mutex::new(Rank::Leaf, None) }
    }
}

impl Progress {
    fn begin(query: &Query<'_>, begin: &BeginBound) -> Result<Progress, Errno> {
        let _maker = query.kernel.mm.admit_maker()?;
        Ok(Progress { pieces: begin(query)?, piece: Vec::new(), start: 0, ended: false })
    }

    fn advance(&mut self, query: &Query<'_>) -> Result<(), Errno> {
        check_killed()?;
        self.start += self.piece.len() as u64;
        self.piece.clear();
        if !(self.pieces)(query, &mut self.piece)? {
            self.ended = true;
            self.pieces = one_piece(Vec::new());
        }
        Ok(())
    }

    /// Reads from an offset that is not before the last piece.
    fn read(&mut self, query: &Query<'_>, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let mut done = 0;
        while let Some(left) = buf.get_mut(done..).filter(|left| !left.is_empty()) {
            let at = usize::try_from(offset + done as u64 - self.start).map_err(|_| Errno::EINVAL.here())?;
            match self.piece.get(at..).filter(|rest| !rest.is_empty()) {
                Some(rest) => done += copy_fitting(rest, left),
                None if self.ended => break,
                None => match self.advance(query) {
                    // The bytes already read are returned; the next read returns the error.
                    Err(_) if done > 0 => break,
                    result => result?,
                },
            }
        }
        Ok(done)
    }
}

impl File for LongFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let kernel = self.inode.fs().kernel()?;
        let query = Query { kernel: &kernel, subject: self.inode.subject(), reader: &self.reader };
        let left = self.progress.lock().take();
        let mut progress = match left {
            Some(progress) if offset > 0 && progress.start <= offset => progress,
            other => {
                drop(other);
                Progress::begin(&query, &*self.begin)?
            }
        };
        let count = progress.read(&query, buf, offset)?;
        let old = self.progress.lock().replace(progress);
        drop(old);
        Ok(count)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The maximum length of a text that is made at once, in bytes.
const MOST_AT_ONCE: usize = 4 << 20;

/// The text up to that length.
pub(super) fn whole(query: &Query<'_>, begin: Begin) -> Result<Vec<u8>, Errno> {
    let mut progress = Progress::begin(query, &begin)?;
    let mut text = Vec::new();
    while !progress.ended && text.len() < MOST_AT_ONCE {
        progress.advance(query)?;
        text.append(&mut progress.piece);
    }
    text.truncate(MOST_AT_ONCE);
    Ok(text)
}
