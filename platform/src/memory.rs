//! Guest memory: frames of one memfd, mapped once into the sentry, counted by reference.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use amber_abi::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, StatxFlags, statx};
use thiserror::Error;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    AtomicInteger, FileOffset, MmapRegion, ReadVolatile, VolatileMemory, VolatileMemoryError, VolatileSlice,
    WriteVolatile,
};

use crate::PAGE_SIZE;
use crate::contract::PlatformError;

mod heap;
mod kernel;
mod ledger;
mod touched;

use kernel::KernelAccount;
use ledger::Ledger;

pub use heap::{CountedHeap, HeapBatch, heap_bytes, trim_heap};
pub use kernel::{KernelCharge, KernelPart, KernelUsage};
pub use touched::Touched;

/// So many bytes of a host file are copied at once: they stay in the processor's cache, and fit a thread's stack.
const PIECE: usize = 16 << 10;

/// A run of frames, in bytes of the memfd; both ends are page aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameRange {
    /// Offset of the first byte in the memfd.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

impl FrameRange {
    /// The offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }
}

/// No run of free frames is long enough, or the limit of memory is reached.
#[derive(Clone, Copy, Debug, Error)]
#[error("guest memory is exhausted")]
pub struct OutOfMemory;

impl From<OutOfMemory> for Errno {
    fn from(_: OutOfMemory) -> Self {
        Errno::ENOMEM
    }
}

/// All memory of the guests of one sandbox.
///
/// Fresh frames read as zero and cost no host memory until touched. Accessors are bounds checked and volatile: the guest
/// may change the bytes at any time. An access outside the memfd is a defect of the sentry and panics.
pub struct GuestMemory {
    file: Arc<File>,
    mapping: MmapRegion,
    limit: u64,
    ledger: Mutex<Ledger>,
    /// Bytes of frames that have holders.
    held: AtomicU64,
    /// What lies beside the frames.
    kernel: KernelAccount,
    /// How many bytes there may be at most, as [`set_caps`](GuestMemory::set_caps) says.
    lasting_cap: AtomicU64,
    cap: AtomicU64,
    /// See [`ahead`](GuestMemory::ahead).
    ahead: AtomicU64,
}

impl GuestMemory {
    /// Makes guest memory of at most `limit` bytes (rounded up to pages).
    ///
    /// # Errors
    /// The host refuses a memfd of that size or to map it.
    pub fn new(limit: u64) -> Result<Arc<Self>, PlatformError> {
        let fault = |what: &str, source: io::Error| PlatformError { what: format!("guest memory: {what}"), source };
        let limit = limit.next_multiple_of(PAGE_SIZE);
        // MFD_EXEC came with Linux 6.3; older kernels make every memfd executable and refuse the flag.
        let executable = MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(libc::MFD_EXEC);
        let fd = memfd_create(c"amber-guest", executable)
            .or_else(|_| memfd_create(c"amber-guest", MFdFlags::MFD_CLOEXEC))
            .map_err(|e| fault("memfd_create", e.into()))?;
        let file = Arc::new(File::from(fd));
        file.set_len(limit).map_err(|e| fault("setting the memfd's size (see `ulimit -f`)", e))?;
        let mapping = MmapRegionBuilder::new(limit as usize)
            .with_file_offset(FileOffset::from_arc(file.clone(), 0))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
            .build()
            .map_err(|e| fault("mapping the memfd (see `ulimit -v`)", io::Error::other(e.to_string())))?;
        Ok(Arc::new(GuestMemory {
            file,
            mapping,
            limit,
            ledger: Mutex::new(Ledger::default()),
            held: AtomicU64::new(0),
            kernel: KernelAccount::default(),
            lasting_cap: AtomicU64::new(u64::MAX),
            cap: AtomicU64::new(u64::MAX),
            ahead: AtomicU64::new(u64::MAX),
        }))
    }

    /// The memfd, for a platform to map.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The most bytes there can be.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `len` bytes (a positive multiple of the page size) of zeroed contiguous frames, aligned to `align` bytes.
    pub fn allocate(self: &Arc<Self>, len: u64, align: u64) -> Result<Frames, OutOfMemory> {
        self.take(len, |ledger| ledger.find(len, align.max(PAGE_SIZE), self.limit))
    }

    /// Like [`allocate`](Self::allocate), preferably at offset `hint`, so that neighbours in a guest's address space
    /// are neighbours here too.
    pub fn allocate_near(self: &Arc<Self>, len: u64, hint: u64) -> Result<Frames, OutOfMemory> {
        self.take(len, |ledger| ledger.find_near(len, hint, self.limit))
    }

    /// Like [`allocate_near`](Self::allocate_near) for frames that the caller fills at once, all of them: until then they
    /// may hold what was theirs before. That saves the host from taking memory back and handing it out again.
    pub fn allocate_to_fill(self: &Arc<Self>, len: u64, hint: u64) -> Result<Frames, OutOfMemory> {
        self.take(len, |ledger| ledger.find_warm(len, hint).or_else(|| ledger.find_near(len, hint, self.limit)))
    }

    /// Like [`allocate_near`](Self::allocate_near) for frames that will all be touched soon: preferably those that have the
    /// host's memory still, which are cleared.
    pub fn allocate_for_use(self: &Arc<Self>, len: u64, hint: u64) -> Result<Frames, OutOfMemory> {
        let mut warm = None;
        let frames = self.take(len, |ledger| {
            warm = ledger.find_warm(len, hint);
            warm.or_else(|| ledger.find_near(len, hint, self.limit))
        })?;
        if let Some(start) = warm {
            self.zero(start, len);
        }
        Ok(frames)
    }

    fn take(
        self: &Arc<Self>,
        len: u64,
        mut choose: impl FnMut(&mut Ledger) -> Option<u64>,
    ) -> Result<Frames, OutOfMemory> {
        self.admit(len)?;
        let mut ledger = self.ledger.lock();
        let mut start = choose(&mut ledger);
        if start.is_none() {
            for run in ledger.give_up_warm() {
                self.discard(run);
                ledger.give_back(run);
            }
            start = choose(&mut ledger);
        }
        let range = FrameRange { start: start.ok_or(OutOfMemory)?, len };
        ledger.hold(range);
        self.held.fetch_add(len, Ordering::Relaxed);
        Ok(Frames { memory: self.clone(), range })
    }

    /// Bytes of frames that have holders, touched or not.
    pub fn allocated(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes for which the host has set memory aside: what was touched and not given back.
    pub fn touched_bytes(&self) -> u64 {
        // The host counts in blocks of 512 bytes, whatever the size of a block.
        statx(&*self.file, "", AtFlags::EMPTY_PATH, StatxFlags::BLOCKS).map_or(0, |told| told.stx_blocks * 512)
    }

    /// Bytes in use: touched frames and kernel memory.
    pub fn used_bytes(&self) -> u64 {
        self.touched_bytes() + self.kernel_bytes()
    }

    /// What [`used_bytes`](Self::used_bytes) is at most, which needs no call of the host.
    #[inline]
    pub fn claimed_bytes(&self) -> u64 {
        self.allocated() + self.kernel_bytes().saturating_add(self.unsettled_bytes())
    }

    /// Admits nothing from now on that could bring the bytes in use above `bytes`, or above the lower `lasting` if it is
    /// of what no end of a process frees; `u64::MAX` for no such bound.
    pub fn set_caps(&self, lasting: u64, bytes: u64) {
        self.lasting_cap.store(lasting, Ordering::Relaxed);
        self.cap.store(bytes, Ordering::Relaxed);
    }

    /// Whether there may be `len` bytes more, of frames or of kernel memory.
    ///
    /// # Errors
    /// They could be too many.
    pub fn admit(&self, len: u64) -> Result<(), OutOfMemory> {
        self.keep_to(&self.cap, len)
    }

    /// Whether there may be `len` bytes more of what stays when processes end: files in memory, System V objects, message
    /// queues, mounts. It leaves room for processes to run.
    ///
    /// # Errors
    /// They could be too many.
    pub fn admit_lasting(&self, len: u64) -> Result<(), OutOfMemory> {
        self.keep_to(&self.lasting_cap, len)
    }

    fn keep_to(&self, cap: &AtomicU64, len: u64) -> Result<(), OutOfMemory> {
        let cap = cap.load(Ordering::Relaxed);
        let exceeds = |bytes: u64| bytes.saturating_add(len) > cap;
        if exceeds(self.claimed_bytes()) && exceeds(self.used_bytes()) { Err(OutOfMemory) } else { Ok(()) }
    }

    /// Whether there is a bound at all.
    pub fn is_limited(&self) -> bool {
        self.lasting_cap() != u64::MAX
    }

    /// The bound that [`set_caps`](Self::set_caps) set for what no end of a process frees.
    pub fn lasting_cap(&self) -> u64 {
        self.lasting_cap.load(Ordering::Relaxed)
    }

    /// How many bytes whoever needs a page should at most take ahead of need, where memory is scarce.
    pub fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Sets what [`ahead`](Self::ahead) says, down to a power of two; at least a page.
    pub fn set_ahead(&self, bytes: u64) {
        self.ahead.store(1 << bytes.max(PAGE_SIZE).ilog2(), Ordering::Relaxed);
    }

    fn slice(&self, offset: u64, len: usize) -> VolatileSlice<'_, impl BitmapSlice> {
        self.mapping.get_slice(offset as usize, len).expect("frames lie inside guest memory")
    }

    /// Copies bytes out of guest memory.
    pub fn read(&self, offset: u64, buf: &mut [u8]) {
        self.slice(offset, buf.len()).copy_to(buf);
    }

    /// Copies bytes into guest memory.
    pub fn write(&self, offset: u64, buf: &[u8]) {
        self.slice(offset, buf.len()).copy_from(buf);
    }

    /// Copies `len` bytes within guest memory; the ranges must not overlap.
    pub fn copy(&self, from: u64, to: u64, len: u64) {
        self.slice(from, len as usize).copy_to_volatile_slice(self.slice(to, len as usize));
    }

    /// Makes a page-aligned range read as zero again and gives its memory back to the host.
    pub fn discard(&self, range: FrameRange) {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if fallocate(&self.file, hole, range.start as i64, range.len as i64).is_err() {
            // A memfd always supports holes; should the host refuse for want of memory, zeroing keeps the promise.
            self.zero(range.start, range.len);
        }
    }

    /// Makes the host set memory aside for a page-aligned range now; what it holds stays.
    ///
    /// # Errors
    /// The host has no memory left for it.
    pub fn commit(&self, range: FrameRange) -> Result<(), OutOfMemory> {
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, keep, range.start as i64, range.len as i64).map_err(|_| OutOfMemory)?;
        // What was only set aside does not count as touched yet.
        for page in (range.start..range.end()).step_by(PAGE_SIZE as usize) {
            // A store even where nothing changes: adding nothing would be made a load, and that be left out.
            let _ = self.atomic_u64(page).compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fills bytes with zero, keeping the memory.
    pub fn zero(&self, offset: u64, len: u64) {
        const ZEROS: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(PAGE_SIZE);
            self.write(offset + done, &ZEROS[..n as usize]);
            done += n;
        }
    }

    /// Reads from a host file at `position` straight into guest memory; returns the bytes read, 0 at the end.
    pub fn read_from(&self, offset: u64, len: u64, file: &mut impl ReadVolatile) -> io::Result<usize> {
        let mut slice = self.slice(offset, len as usize);
        file.read_volatile(&mut slice).map_err(host_error)
    }

    /// Copies up to `len` bytes of a host file from `position` on into guest memory, in pieces; returns the bytes copied,
    /// fewer only at the end of the file. They are written to the memfd, not through the mapping: a fault for each page
    /// would cost more than the second copy, and the sentry reads few of these pages itself.
    pub fn fill_from(&self, offset: u64, len: u64, file: &File, position: u64) -> io::Result<u64> {
        let mut buf = [0; PIECE];
        let mut done = 0;
        while done < len {
            let want = (len - done).min(PIECE as u64) as usize;
            match file.read_at(&mut buf[..want], position + done) {
                Ok(0) => break,
                Ok(got) => {
                    self.file.write_all_at(&buf[..got], offset + done)?;
                    done += got as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes guest memory straight to a host file; returns the bytes written.
    pub fn write_to(&self, offset: u64, len: u64, file: &mut impl WriteVolatile) -> io::Result<usize> {
        file.write_volatile(&self.slice(offset, len as usize)).map_err(host_error)
    }

    /// A 32-bit word of guest memory as an atomic; `offset` must be a multiple of 4.
    pub fn atomic_u32(&self, offset: u64) -> &AtomicU32 {
        self.atomic(offset)
    }

    /// A 64-bit word of guest memory as an atomic; `offset` must be a multiple of 8.
    pub fn atomic_u64(&self, offset: u64) -> &AtomicU64 {
        self.atomic(offset)
    }

    fn atomic<T: AtomicInteger>(&self, offset: u64) -> &T {
        self.mapping.get_atomic_ref(offset as usize).expect("aligned words lie inside guest memory")
    }

    /// A relaxed look at a word, for values that need no order.
    pub fn load_u32(&self, offset: u64) -> u32 {
        self.atomic_u32(offset).load(Ordering::SeqCst)
    }

    fn drop_references(&self, range: FrameRange) {
        let mut ledger = self.ledger.lock();
        let mut freed = ledger.remove_holder(range);
        self.held.fetch_sub(freed.iter().map(|run| run.len).sum(), Ordering::Relaxed);
        freed.retain(|run| !ledger.keep_warm(*run));
        drop(ledger);
        // Punch the holes before the frames can be taken again: fresh frames read as zero.
        for run in freed {
            self.discard(run);
            self.ledger.lock().give_back(run);
        }
    }
}

/// One reference to each frame of a range. Cloning adds a reference, dropping gives it back; a frame without references
/// is free again.
pub struct Frames {
    memory: Arc<GuestMemory>,
    range: FrameRange,
}

impl Frames {
    /// Which frames these are.
    pub fn range(&self) -> FrameRange {
        self.range
    }

    /// A further reference to `len` bytes of these frames from byte `from` on; both page aligned and inside.
    pub fn part(&self, from: u64, len: u64) -> Frames {
        assert!(from + len <= self.range.len, "a part lies inside its frames");
        let range = FrameRange { start: self.range.start + from, len };
        self.memory.ledger.lock().add_holder(range);
        Frames { memory: self.memory.clone(), range }
    }

    /// Cuts the frames at byte `at` (page aligned, inside) into two holders; no reference is added.
    pub fn split_at(mut self, at: u64) -> (Frames, Frames) {
        assert!(at <= self.range.len, "the cut lies inside the frames");
        let tail = Frames {
            memory: self.memory.clone(),
            range: FrameRange { start: self.range.start + at, len: self.range.len - at },
        };
        self.range.len = at;
        (self, tail)
    }

    /// Whether no one else holds any of these frames.
    pub fn is_unshared(&self) -> bool {
        self.holders(0, self.range.len) <= 1
    }

    /// The most holders that any frame has in `len` bytes from byte `from` on.
    pub fn holders(&self, from: u64, len: u64) -> u32 {
        self.memory.ledger.lock().most_holders(FrameRange { start: self.range.start + from, len })
    }

    /// Puts `next` behind these frames if it follows directly in the memfd; else gives it back.
    pub fn append(&mut self, next: Frames) -> Result<(), Frames> {
        if self.range.end() != next.range.start {
            return Err(next);
        }
        let mut next = next;
        self.range.len += next.range.len;
        // Its references are ours now.
        next.range.len = 0;
        Ok(())
    }
}

impl Clone for Frames {
    fn clone(&self) -> Self {
        self.part(0, self.range.len)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.range.len > 0 {
            self.memory.drop_references(self.range);
        }
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frames({:#x}..{:#x})", self.range.start, self.range.end())
    }
}

/// The host's own error, with its number.
fn host_error(error: VolatileMemoryError) -> io::Error {
    match error {
        VolatileMemoryError::IOError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::ledger::WARM_RUN;
    use super::*;

    #[test]
    fn frames_come_zeroed_and_are_reused() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let first = memory.allocate(2 * WARM_RUN, PAGE_SIZE).unwrap();
        let place = first.range().start;
        memory.write(place, b"secret");
        drop(first);
        let second = memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
        assert_eq!(second.range().start, place);
        let mut buf = [1; 6];
        memory.read(place, &mut buf);
        assert_eq!(buf, [0; 6]);
    }

    #[test]
    fn only_who_fills_them_gets_frames_as_they_were_left() {
        let memory = GuestMemory::new(2 * PAGE_SIZE).unwrap();
        let first = memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
        let place = first.range().start;
        memory.write(place, b"secret");
        drop(first);
        let other = memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
        assert_ne!(other.range().start, place);
        let filled = memory.allocate_to_fill(PAGE_SIZE, 0).unwrap();
        assert_eq!(filled.range().start, place);
        drop(filled);
        // When nothing else is left, warm frames are zeroed for anyone.
        let last = memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
        assert_eq!(last.range().start, place);
        assert_eq!(memory.load_u32(place), 0);
    }

    #[test]
    fn frames_for_use_are_used_ones_and_clear() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let first = memory.allocate(4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        let place = first.range();
        for page in (place.start..place.end()).step_by(PAGE_SIZE as usize) {
            assert!(!memory.is_filled(place));
            memory.write(page, b"secret");
        }
        assert!(memory.is_filled(place));
        drop(first);
        let second = memory.allocate_for_use(4 * PAGE_SIZE, 0).unwrap();
        assert_eq!(second.range(), place);
        let mut bytes = vec![1; place.len as usize];
        memory.read(place.start, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0));
        // Where there are none, fresh ones do.
        let other = memory.allocate_for_use(PAGE_SIZE, 0).unwrap();
        assert_eq!(memory.load_u32(other.range().start), 0);
    }

    #[test]
    fn a_part_keeps_only_its_own_frames() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let whole = memory.allocate(4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        let part = whole.part(PAGE_SIZE, PAGE_SIZE);
        assert!(!whole.is_unshared());
        drop(whole);
        assert!(part.is_unshared());
        assert_eq!(memory.allocated(), PAGE_SIZE);
        drop(part);
        assert_eq!(memory.allocated(), 0);
    }

    #[test]
    fn only_touched_frames_count_for_the_cap() {
        let memory = GuestMemory::new(64 * PAGE_SIZE).unwrap();
        memory.set_caps(2 * PAGE_SIZE, 4 * PAGE_SIZE);
        let frames = memory.allocate(4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        let more = memory.allocate(4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        assert_eq!((memory.allocated(), memory.touched_bytes()), (8 * PAGE_SIZE, 0));
        memory.zero(frames.range().start, 2 * PAGE_SIZE);
        assert_eq!(memory.touched_bytes(), 2 * PAGE_SIZE);
        assert!(memory.admit_lasting(PAGE_SIZE).is_err());
        assert!(memory.allocate(4 * PAGE_SIZE, PAGE_SIZE).is_err());
        assert!(memory.allocate(2 * PAGE_SIZE, PAGE_SIZE).is_ok());
        drop((frames, more));
        assert_eq!(memory.allocated(), 0);
    }

    #[test]
    fn the_limit_holds() {
        let memory = GuestMemory::new(4 * PAGE_SIZE).unwrap();
        let _all = memory.allocate(4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        assert!(memory.allocate(PAGE_SIZE, PAGE_SIZE).is_err());
    }
}
