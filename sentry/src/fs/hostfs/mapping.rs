//! The pages of a host file that is mapped.

use std::fs::File as StdFile;
use std::os::fd::AsFd;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_host::fs as host;
use amber_host::fs::HostStat;

use super::descriptor::Descriptor;
use super::inode::HostInode;
use super::pages::{HostPages, WriterSlot};
use crate::mm::{Mappable, PageCache};
use crate::sync::{Mutex, Rank};

/// The pages of a mapped file.
#[derive(Clone)]
pub(super) struct Mapped {
    pages: Arc<PageCache>,
    pub(super) writer: WriterSlot,
    /// The host's `mtime` when the pages were last known to be up to date.
    stamp: Arc<Mutex<(i64, i64)>>,
}

fn stamp_of(stat: &HostStat) -> (i64, i64) {
    (stat.modified.tv_sec, stat.modified.tv_nsec)
}

impl HostInode {
    /// The pages, if the file was mapped.
    pub(super) fn pages(&self) -> Option<Arc<PageCache>> {
        self.state.lock().mapped.as_ref().map(|m| m.pages.clone())
    }

    /// The pages of the file for a mapping. If the host changed the file, they are reloaded. `writer`, a descriptor
    /// open for writing, is used to write them back.
    pub(super) fn map(&self, writer: Option<&Arc<Descriptor>>) -> Result<Arc<PageCache>, Errno> {
        let reader = self.reader()?;
        let stat = host::stat(reader.as_fd())?;
        let mapped = {
            let mut state = self.state.lock();
            match &state.mapped {
                Some(mapped) => mapped.clone(),
                None => {
                    let (source, slot) = HostPages::new(reader);
                    *slot.lock() = state.writer.upgrade();
                    let pages =
                        PageCache::new(&self.fs.vfs.page_caches, self.fs.memory.clone(), Box::new(source), stat.size);
                    let stamp = Arc::new(Mutex::new(Rank::Leaf, stamp_of(&stat)));
                    let mapped = Mapped { pages, writer: slot, stamp };
                    state.mapped = Some(mapped.clone());
                    mapped
                }
            }
        };
        // An existing writer of the pages is kept.
        if let Some(writer) = writer {
            mapped.writer.lock().get_or_insert_with(|| writer.clone());
        }
        let old = std::mem::replace(&mut *mapped.stamp.lock(), stamp_of(&stat));
        if old != stamp_of(&stat) || mapped.pages.len() != stat.size {
            mapped.pages.write_back(0, u64::MAX)?;
            mapped.pages.reload(stat.size);
        }
        Ok(mapped.pages)
    }

    /// Notes a change of the file by the sentry itself, so that its pages stay valid.
    pub(super) fn note_own_change(&self, file: &StdFile) {
        let mapped = self.state.lock().mapped.clone();
        if let Some(mapped) = mapped
            && let Ok(stat) = host::stat(file.as_fd())
        {
            *mapped.stamp.lock() = stamp_of(&stat);
        }
    }

    /// Writes dirty pages to the host.
    pub(super) fn write_back(&self) -> Result<(), Errno> {
        self.pages().map_or(Ok(()), |pages| pages.write_back(0, u64::MAX))
    }
}
