//! The file descriptor table, from descriptor numbers to open file descriptions.

use std::ops::Range;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::GuestMemory;

use crate::sync::{Mutex, Rank};
use crate::vfs::{FileDescription, Vfs};

/// Approximate memory of a description with its file, without the contents of the file, in bytes.
const DESCRIPTION_BYTES: u64 = size_of::<FileDescription>() as u64 + 512;

#[derive(Clone)]
enum Slot {
    Free,
    /// Reserved by a call that has not installed the description yet.
    Reserved,
    Used {
        description: Arc<FileDescription>,
        close_on_exec: bool,
    },
}

/// The number of descriptors that are closed or marked with one acquisition of the lock.
const AT_ONCE: usize = 4096;

/// Slots by number, and a bit map of those in use.
#[derive(Default)]
struct Slots {
    list: Vec<Slot>,
    /// A bit for each number in use.
    taken: Vec<u64>,
    /// The number of leading words of `taken` without a free bit.
    full: usize,
}

impl Slots {
    fn get(&self, index: usize) -> Option<&Slot> {
        self.list.get(index)
    }

    /// Reserves memory for a number, so that [`put`](Self::put) cannot fail.
    fn make_room(&mut self, index: usize, memory: &GuestMemory) -> Result<(), Errno> {
        if index >= self.list.capacity() {
            let (words, taken) = (index / 64 + 1, self.taken.len());
            let more = words * 64 - self.list.len();
            memory.reserve(&mut self.list, more)?;
            memory.reserve(&mut self.taken, words.saturating_sub(taken))?;
        }
        Ok(())
    }

    /// A copy without reserved slots, up to the highest number in use.
    fn copy(&self, memory: &GuestMemory) -> Result<Slots, Errno> {
        let words = self.taken.iter().rposition(|&bits| bits != 0).map_or(0, |last| last + 1);
        let len = self.list.len().min(words * 64);
        let mut copy = Slots { list: memory.list(len)?, taken: memory.list(words)?, full: self.full };
        copy.taken.extend(self.taken.iter().take(words));
        for (index, slot) in self.list.iter().take(len).enumerate() {
            let reserved = matches!(slot, Slot::Reserved);
            copy.list.push(if reserved { Slot::Free } else { slot.clone() });
            if reserved && let Some(word) = copy.taken.get_mut(index / 64) {
                *word &= !(1 << (index % 64));
                copy.full = copy.full.min(index / 64);
            }
        }
        Ok(copy)
    }

    /// Fills a slot and returns its old content.
    #[expect(clippy::indexing_slicing, reason = "the slots and the bit map are made long enough first")]
    fn put(&mut self, index: usize, slot: Slot) -> Slot {
        let (word, bit) = (index / 64, 1 << (index % 64));
        if index >= self.list.len() {
            self.list.resize(index + 1, Slot::Free);
            self.taken.resize(word + 1, 0);
        }
        if matches!(slot, Slot::Free) {
            self.taken[word] &= !bit;
            self.full = self.full.min(word);
        } else {
            self.taken[word] |= bit;
        }
        std::mem::replace(&mut self.list[index], slot)
    }

    /// The numbers in use in a range. The bit map is used because a table can be long for a single number.
    fn taken_in(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let words = self.taken.iter().enumerate().take(range.end.div_ceil(64)).skip(range.start / 64);
        words
            .flat_map(|(word, &bits)| {
                let mut bits = bits;
                let next = move || {
                    let bit = bits.trailing_zeros() as usize;
                    bits &= bits.wrapping_sub(1);
                    (bit < 64).then_some(word * 64 + bit)
                };
                std::iter::from_fn(next)
            })
            .filter(move |number| range.contains(number))
    }

    /// The descriptions in a range of numbers, each with its number and close-on-exec flag.
    fn used_in(&self, range: Range<usize>) -> impl Iterator<Item = (usize, &Arc<FileDescription>, bool)> {
        self.taken_in(range).filter_map(|number| match self.get(number) {
            Some(Slot::Used { description, close_on_exec }) => Some((number, description, *close_on_exec)),
            _ => None,
        })
    }

    /// The lowest free number that is at least `from`.
    fn lowest_free(&mut self, from: usize) -> usize {
        let start = self.full.max(from / 64);
        for (word, taken) in self.taken.iter().enumerate().skip(start) {
            let before = if word == from / 64 { (1 << (from % 64)) - 1 } else { 0 };
            let free = !(taken | before);
            if free != 0 {
                return word * 64 + free.trailing_zeros() as usize;
            }
            if word == self.full && before == 0 {
                self.full += 1;
            }
        }
        from.max(self.taken.len() * 64)
    }
}

/// The descriptors of a process, or of several processes that share them (`CLONE_FILES`).
pub(crate) struct FdTable {
    vfs: Arc<Vfs>,
    slots: Mutex<Slots>,
    id: u64,
    memory: Arc<GuestMemory>,
}

/// A reserved descriptor number. Dropping it frees the number unless a description was installed.
pub(crate) struct ReservedFd {
    table: Arc<FdTable>,
    fd: i32,
    installed: bool,
}

impl ReservedFd {
    /// The descriptor number.
    pub(crate) fn fd(&self) -> i32 {
        self.fd
    }

    /// Installs the description under the number.
    pub(crate) fn install(mut self, description: Arc<FileDescription>, close_on_exec: bool) -> i32 {
        self.installed = true;
        self.table.slots.lock().put(self.fd as usize, Slot::Used { description, close_on_exec });
        self.fd
    }
}

impl Drop for ReservedFd {
    fn drop(&mut self) {
        if !self.installed {
            self.table.slots.lock().put(self.fd as usize, Slot::Free);
        }
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        let slots = std::mem::take(&mut *self.slots.lock());
        for slot in slots.list {
            if let Slot::Used { description, .. } = slot {
                description.closed(self.id);
            }
        }
    }
}

impl FdTable {
    /// An empty table, whose length `memory` limits.
    pub(crate) fn new(vfs: &Arc<Vfs>, memory: &Arc<GuestMemory>) -> Self {
        FdTable::with(vfs, Slots::default(), memory)
    }

    fn with(vfs: &Arc<Vfs>, slots: Slots, memory: &Arc<GuestMemory>) -> Self {
        let id = vfs.open_files.number_table();
        FdTable { vfs: vfs.clone(), slots: Mutex::new(Rank::Files, slots), id, memory: memory.clone() }
    }

    /// A number that is unique in the sandbox and never reused: the owner of its processes' record locks.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Approximate kernel memory of everything that is open here, in bytes.
    pub(crate) fn kept_bytes(&self) -> u64 {
        let mut open: Vec<_> = {
            let slots = self.slots.lock();
            slots.used_in(0..usize::MAX).map(|(_, description, _)| description.clone()).collect()
        };
        // A description with several descriptors counts once.
        open.sort_unstable_by_key(|description| Arc::as_ptr(description).addr());
        open.dedup_by(|one, other| Arc::ptr_eq(one, other));
        open.iter().map(|description| DESCRIPTION_BYTES + description.file().kept_bytes()).sum()
    }

    /// The open file description of `fd`, which may be opened with `O_PATH`.
    ///
    /// # Errors
    /// `EBADF` if it is not open.
    pub(crate) fn get_any(&self, fd: i32) -> Result<Arc<FileDescription>, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF.here())?;
        match self.slots.lock().get(index) {
            Some(Slot::Used { description, .. }) => Ok(description.clone()),
            _ => Err(Errno::EBADF.here()),
        }
    }

    /// The open file description of `fd`.
    ///
    /// # Errors
    /// `EBADF` if it is not open or was opened with `O_PATH`.
    pub(crate) fn get(&self, fd: i32) -> Result<Arc<FileDescription>, Errno> {
        self.get_any(fd).and_then(|d| if d.is_path_only() { Err(Errno::EBADF.here()) } else { Ok(d) })
    }

    /// Reserves the lowest free number that is at least `from` and below `limit` (RLIMIT_NOFILE).
    ///
    /// # Errors
    /// `EMFILE` if there is none; `EINVAL` if `from` is not below the limit; `ENOMEM`.
    pub(crate) fn reserve(self: &Arc<Self>, from: i32, limit: u64) -> Result<ReservedFd, Errno> {
        let limit = limit.min(i32::MAX as u64) as usize;
        let from = usize::try_from(from).ok().filter(|&f| f < limit.max(1)).ok_or_else(|| Errno::EINVAL.here())?;
        let mut slots = self.slots.lock();
        let at = slots.lowest_free(from);
        if at >= limit {
            return Err(Errno::EMFILE.here());
        }
        slots.make_room(at, &self.memory)?;
        slots.put(at, Slot::Reserved);
        Ok(ReservedFd { table: self.clone(), fd: at as i32, installed: false })
    }

    /// Installs `description` under the lowest free number.
    pub(crate) fn insert(
        self: &Arc<Self>,
        description: Arc<FileDescription>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<i32, Errno> {
        Ok(self.reserve(0, limit)?.install(description, close_on_exec))
    }

    /// Installs `description` as `fd` and returns the old description, for the caller to flush.
    ///
    /// # Errors
    /// `EBADF` if `fd` is not below the limit; `EBUSY` if another thread has reserved it (see dup2(2)); `ENOMEM`.
    pub(crate) fn replace(
        &self,
        fd: i32,
        description: Arc<FileDescription>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Option<Arc<FileDescription>>, Errno> {
        let index = usize::try_from(fd).ok().filter(|&i| (i as u64) < limit).ok_or_else(|| Errno::EBADF.here())?;
        let mut slots = self.slots.lock();
        if matches!(slots.get(index), Some(Slot::Reserved)) {
            return Err(Errno::EBUSY.here());
        }
        slots.make_room(index, &self.memory)?;
        match slots.put(index, Slot::Used { description, close_on_exec }) {
            Slot::Used { description, .. } => Ok(Some(description)),
            Slot::Free | Slot::Reserved => Ok(None),
        }
    }

    /// Removes a descriptor from the table.
    ///
    /// # Errors
    /// `EBADF` if it is not open.
    pub(crate) fn remove(&self, fd: i32) -> Result<Arc<FileDescription>, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF.here())?;
        let mut slots = self.slots.lock();
        match slots.get(index) {
            Some(Slot::Used { .. }) => match slots.put(index, Slot::Free) {
                Slot::Used { description, .. } => Ok(description),
                Slot::Free | Slot::Reserved => Err(Errno::EBADF.here()),
            },
            _ => Err(Errno::EBADF.here()),
        }
    }

    /// Removes the open descriptors from `first` to `last` (inclusive) for which `wanted(close_on_exec)` is true, and
    /// passes each to `closed` without the table's lock.
    pub(crate) fn remove_range(
        &self,
        first: u32,
        last: u32,
        wanted: impl Fn(bool) -> bool,
        mut closed: impl FnMut(Arc<FileDescription>),
    ) {
        self.in_parts(first, last, |slots, part| {
            let numbers: Vec<usize> = slots.used_in(part).filter(|used| wanted(used.2)).map(|used| used.0).collect();
            let removed = numbers.into_iter().filter_map(|number| match slots.put(number, Slot::Free) {
                Slot::Used { description, .. } => Some(description),
                Slot::Free | Slot::Reserved => None,
            });
            removed.collect::<Vec<_>>()
        })
        .for_each(|removed| removed.into_iter().for_each(&mut closed));
    }

    /// Sets the close-on-exec flag of all open descriptors from `first` to `last` (inclusive).
    pub(crate) fn set_close_on_exec_range(&self, first: u32, last: u32) {
        let parts = self.in_parts(first, last, |slots, part| {
            for number in slots.taken_in(part).collect::<Vec<usize>>() {
                if let Some(Slot::Used { close_on_exec, .. }) = slots.list.get_mut(number) {
                    *close_on_exec = true;
                }
            }
        });
        parts.for_each(drop);
    }

    /// Calls a function with the table locked for each part of a range of numbers, and unlocks it in between.
    fn in_parts<T>(
        &self,
        first: u32,
        last: u32,
        mut work: impl FnMut(&mut Slots, Range<usize>) -> T,
    ) -> impl Iterator<Item = T> {
        let end = (last as usize).saturating_add(1).min(self.slots.lock().list.len());
        (first as usize..end).step_by(AT_ONCE).map(move |start| {
            let part = start..end.min(start + AT_ONCE);
            work(&mut self.slots.lock(), part)
        })
    }

    /// The close-on-exec flag of `fd`.
    pub(crate) fn close_on_exec(&self, fd: i32) -> Result<bool, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF.here())?;
        match self.slots.lock().get(index) {
            Some(Slot::Used { close_on_exec, .. }) => Ok(*close_on_exec),
            _ => Err(Errno::EBADF.here()),
        }
    }

    /// Sets the close-on-exec flag of `fd`.
    pub(crate) fn set_close_on_exec(&self, fd: i32, value: bool) -> Result<(), Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF.here())?;
        match self.slots.lock().list.get_mut(index) {
            Some(Slot::Used { close_on_exec, .. }) => {
                *close_on_exec = value;
                Ok(())
            }
            _ => Err(Errno::EBADF.here()),
        }
    }

    /// A copy of the table, for fork(2).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn duplicate(&self) -> Result<FdTable, Errno> {
        let copy = self.slots.lock().copy(&self.memory)?;
        Ok(FdTable::with(&self.vfs, copy, &self.memory))
    }

    /// An upper bound of the numbers in use, exclusive, which select(2) uses.
    pub(crate) fn size(&self) -> usize {
        self.slots.lock().list.len().next_multiple_of(64)
    }

    /// The open descriptors in ascending order.
    pub(crate) fn open(&self) -> Vec<i32> {
        let slots = self.slots.lock();
        slots.used_in(0..usize::MAX).map(|(number, ..)| number as i32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_found() {
        let mut slots = Slots::default();
        for number in 0..200 {
            assert_eq!(slots.lowest_free(0), number);
            slots.put(number, Slot::Reserved);
        }
        assert_eq!((slots.lowest_free(70), slots.lowest_free(1000)), (200, 1000));
        slots.put(65, Slot::Free);
        slots.put(130, Slot::Free);
        assert_eq!((slots.lowest_free(0), slots.lowest_free(65), slots.lowest_free(66)), (65, 65, 130));
        slots.put(65, Slot::Reserved);
        assert_eq!((slots.lowest_free(0), slots.lowest_free(131)), (130, 200));
        slots.put(500, Slot::Reserved);
        slots.put(130, Slot::Reserved);
        assert_eq!((slots.lowest_free(3), slots.lowest_free(500)), (200, 501));
    }

    #[test]
    fn taken_numbers_are_found() {
        let mut slots = Slots::default();
        let numbers = [0, 63, 64, 127, 500, 100_000];
        numbers.iter().for_each(|&number| drop(slots.put(number, Slot::Reserved)));
        let found = |range| slots.taken_in(range).collect::<Vec<_>>();
        assert_eq!(found(0..usize::MAX), numbers);
        assert_eq!(found(63..128), [63, 64, 127]);
        assert_eq!(found(64..127), [64]);
        assert_eq!((found(501..100_000), found(200_000..usize::MAX)), (vec![], vec![]));
    }
}
