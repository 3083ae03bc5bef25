//! The contents of a regular file in memory: pages, and holes between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::PAGE_SIZE;

use super::TmpFs;

const PAGE: usize = PAGE_SIZE as usize;

/// Bytes of one file.
pub struct Data {
    fs: Arc<TmpFs>,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    len: u64,
}

impl Data {
    pub(super) fn new(fs: Arc<TmpFs>) -> Self {
        Data { fs, pages: BTreeMap::new(), len: 0 }
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Pages that hold something.
    pub(super) fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let len = (self.len.saturating_sub(offset)).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % PAGE_SIZE) as usize;
            let n = (PAGE - within).min(len - done);
            match self.pages.get(&(at / PAGE_SIZE)) {
                Some(page) => buf[done..done + n].copy_from_slice(&page[within..within + n]),
                None => buf[done..done + n].fill(0),
            }
            done += n;
        }
        len
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let within = (at % PAGE_SIZE) as usize;
            let n = (PAGE - within).min(buf.len() - done);
            match self.page(at / PAGE_SIZE) {
                Ok(page) => page[within..within + n].copy_from_slice(&buf[done..done + n]),
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
            done += n;
            self.len = self.len.max(at + n as u64);
        }
        Ok(done)
    }

    fn page(&mut self, index: u64) -> Result<&mut [u8; PAGE], Errno> {
        use std::collections::btree_map::Entry;
        match self.pages.entry(index) {
            Entry::Occupied(page) => Ok(page.into_mut()),
            Entry::Vacant(place) => {
                self.fs.pages.take(1)?;
                Ok(place.insert(Box::new([0; PAGE])))
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.drop_pages(len.div_ceil(PAGE_SIZE), u64::MAX);
            let within = (len % PAGE_SIZE) as usize;
            if within != 0
                && let Some(page) = self.pages.get_mut(&(len / PAGE_SIZE))
            {
                page[within..].fill(0);
            }
        }
        self.len = len;
    }

    fn drop_pages(&mut self, from: u64, to: u64) {
        let mut gone = self.pages.split_off(&from);
        if to != u64::MAX {
            let mut kept = gone.split_off(&to);
            self.pages.append(&mut kept);
        }
        self.fs.pages.give_back(gone.len() as u64);
    }

    /// Makes a range read as zero and frees its whole pages.
    pub(super) fn punch(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let (first, last) = (offset.div_ceil(PAGE_SIZE), end / PAGE_SIZE);
        if first <= last {
            self.drop_pages(first, last);
            self.zero_within(offset, first * PAGE_SIZE);
            self.zero_within(last * PAGE_SIZE, end);
        } else {
            self.zero_within(offset, end);
        }
    }

    /// Zeroes a range that lies in one page.
    fn zero_within(&mut self, from: u64, to: u64) {
        if from < to
            && let Some(page) = self.pages.get_mut(&(from / PAGE_SIZE))
        {
            let start = (from % PAGE_SIZE) as usize;
            page[start..start + (to - from) as usize].fill(0);
        }
    }

    /// Gives every page of a range storage.
    pub(super) fn reserve(&mut self, offset: u64, len: u64) -> Result<(), Errno> {
        let (first, last) = (offset / PAGE_SIZE, (offset + len).div_ceil(PAGE_SIZE));
        let missing = (last - first).saturating_sub(self.pages.range(first..last).count() as u64);
        if missing > self.fs.pages.free() {
            return Err(Errno::ENOSPC);
        }
        (first..last).try_for_each(|index| self.page(index).map(drop))
    }

    /// The next byte of data, or of a hole, from `offset` on, which lies before the end.
    pub(super) fn seek(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let index = offset / PAGE_SIZE;
        if hole {
            let mut at = index;
            for (&page, _) in self.pages.range(index..) {
                if page != at {
                    break;
                }
                at += 1;
            }
            return Ok((at * PAGE_SIZE).max(offset).min(self.len));
        }
        let (&page, _) = self.pages.range(index..).next().ok_or(Errno::ENXIO)?;
        let at = (page * PAGE_SIZE).max(offset);
        if at < self.len { Ok(at) } else { Err(Errno::ENXIO) }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.fs.pages.give_back(self.pages.len() as u64);
    }
}
