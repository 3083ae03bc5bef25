//! Guest memory: reference-counted frames of one memfd, which is mapped into the sentry once.

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
mod room;
mod touched;

use kernel::KernelAccount;
use ledger::Ledger;

pub use heap::{CountedHeap, HeapBatch, heap_bytes, trim_heap};
pub use kernel::{KernelCharge, KernelPart, KernelUsage};
pub use touched::Touched;

/// Bytes of a host file that are copied at a time. They stay in the CPU's cache and fit on a thread's stack.
const COPY_BYTES: usize = 16 << 10;

/// A contiguous range of frames, as bytes of the memfd. Both ends are page aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameRange {
    /// Offset of the first byte in the memfd.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

impl FrameRange {
    /// Offset of the first byte after the range.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }
}

/// No run of free frames is long enough, or the memory limit is reached.
#[derive(Clone, Copy, Debug, Error)]
#[error("guest memory is exhausted")]
pub struct OutOfMemory;

impl From<OutOfMemory> for Errno {
    #[track_caller]
    fn from(_: OutOfMemory) -> Self {
        Errno::ENOMEM.here()
    }
}

/// The memory of all guests of one sandbox.
///
/// New frames read as zero and take no host memory until touched. Accesses are bounds checked and volatile, since the
/// guest may change the bytes at any time. An access outside the memfd is a bug in the sentry and panics.
pub struct GuestMemory {
    file: Arc<File>,
    mapping: MmapRegion,
    limit: u64,
    ledger: Mutex<Ledger>,
    /// Bytes of the frames with references.
    held: AtomicU64,
    /// The memory besides frames.
    kernel: KernelAccount,
    /// Limits in bytes, see [`set_caps`](GuestMemory::set_caps).
    lasting_cap: AtomicU64,
    cap: AtomicU64,
    /// See [`ahead`](GuestMemory::ahead).
    ahead: AtomicU64,
}

impl GuestMemory {
    /// Makes guest memory of at most `limit` bytes, rounded up to pages.
    ///
    /// # Errors
    /// The host refuses to create or to map a memfd of that size.
    pub fn new(limit: u64) -> Result<Arc<Self>, PlatformError> {
        let fault = |what: &str, source: io::Error| PlatformError { what: format!("guest memory: {what}"), source };
        let limit = limit.next_multiple_of(PAGE_SIZE);
        // MFD_EXEC exists since Linux 6.3. Older kernels make every memfd executable and reject the flag.
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

    /// Maximum size in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Allocates `len` bytes (a positive multiple of the page size) of zeroed contiguous frames, aligned to `align`
    /// bytes.
    pub fn allocate(self: &Arc<Self>, len: u64, align: u64) -> Result<Frames, OutOfMemory> {
        self.take(len, |ledger| ledger.find(len, align.max(PAGE_SIZE), self.limit))
    }

    /// Like [`allocate`](Self::allocate), preferably at offset `hint`, so that neighbours in a guest's address space
    /// are neighbours in the memfd as well.
    pub fn allocate_near(self: &Arc<Self>, len: u64, hint: u64) -> Result<Frames, OutOfMemory> {
        self.take(len, |ledger| ledger.find_near(len, hint, self.limit))
    }

    /// Like [`allocate_near`](Self::allocate_near), for frames that the caller overwrites completely before any guest
    /// can read them: they may contain the bytes of a previous owner. This saves the host from freeing and zeroing
    /// pages.
    pub fn allocate_to_fill(self: &Arc<Self>, len: u64, hint: u64) -> Result<Frames, OutOfMemory> {
        self.take(len, |ledger| ledger.find_warm(len, hint).or_else(|| ledger.find_near(len, hint, self.limit)))
    }

    /// Like [`allocate_near`](Self::allocate_near), for frames that will all be touched soon. Prefers frames that still
    /// have the host's memory, and zeroes them.
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
            for run in ledger.take_warm() {
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

    /// Bytes of the frames with references, touched or not.
    pub fn allocated(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Host memory of the frames in bytes: what was touched and not freed since.
    pub fn touched_bytes(&self) -> u64 {
        // `stx_blocks` counts 512 bytes each, whatever the block size.
        statx(&*self.file, "", AtFlags::EMPTY_PATH, StatxFlags::BLOCKS).map_or(0, |stat| stat.stx_blocks * 512)
    }

    /// Bytes in use: touched frames and kernel memory.
    pub fn used_bytes(&self) -> u64 {
        self.touched_bytes() + self.kernel_bytes()
    }

    /// An upper bound of [`used_bytes`](Self::used_bytes) that needs no system call.
    #[inline]
    pub fn claimed_bytes(&self) -> u64 {
        self.allocated() + self.kernel_bytes().saturating_add(self.unsettled_bytes())
    }

    /// Limits the bytes in use to `bytes`, and to the lower `lasting` for memory that outlives processes; `u64::MAX`
    /// means no limit.
    pub fn set_caps(&self, lasting: u64, bytes: u64) {
        self.lasting_cap.store(lasting, Ordering::Relaxed);
        self.cap.store(bytes, Ordering::Relaxed);
    }

    /// Checks that `len` more bytes are within the limit, as frames or kernel memory.
    ///
    /// # Errors
    /// They may exceed it.
    pub fn admit(&self, len: u64) -> Result<(), OutOfMemory> {
        self.keep_to(&self.cap, len)
    }

    /// Checks that `len` more bytes are within the limit for memory that outlives processes: files in memory, System V
    /// IPC objects, message queues, mounts. That limit leaves room for processes to run.
    ///
    /// # Errors
    /// They may exceed it.
    pub fn admit_lasting(&self, len: u64) -> Result<(), OutOfMemory> {
        self.keep_to(&self.lasting_cap, len)
    }

    fn keep_to(&self, cap: &AtomicU64, len: u64) -> Result<(), OutOfMemory> {
        let cap = cap.load(Ordering::Relaxed);
        let exceeds = |bytes: u64| bytes.saturating_add(len) > cap;
        if exceeds(self.claimed_bytes()) && exceeds(self.used_bytes()) { Err(OutOfMemory) } else { Ok(()) }
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.lasting_cap() != u64::MAX
    }

    /// The limit for memory that outlives processes, as [`set_caps`](Self::set_caps) set it.
    pub fn lasting_cap(&self) -> u64 {
        self.lasting_cap.load(Ordering::Relaxed)
    }

    /// Maximum number of bytes to allocate ahead of need, if memory is scarce.
    pub fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Sets [`ahead`](Self::ahead), rounded down to a power of two, at least a page.
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

    /// Copies `len` bytes within guest memory. The ranges must not overlap.
    pub fn copy(&self, from: u64, to: u64, len: u64) {
        self.slice(from, len as usize).copy_to_volatile_slice(self.slice(to, len as usize));
    }

    /// Returns the memory of a page-aligned range to the host. The range then reads as zero.
    pub fn discard(&self, range: FrameRange) {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if fallocate(&self.file, hole, range.start as i64, range.len as i64).is_err() {
            // A memfd always supports holes. If the host fails for lack of memory, zeroing has the same visible effect.
            self.zero(range.start, range.len);
        }
    }

    /// Makes the host allocate memory for a page-aligned range. The contents stay.
    ///
    /// # Errors
    /// The host is out of memory.
    pub fn commit(&self, range: FrameRange) -> Result<(), OutOfMemory> {
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, keep, range.start as i64, range.len as i64).map_err(|_| OutOfMemory)?;
        // Pages that are only allocated do not count as touched yet.
        for page in (range.start..range.end()).step_by(PAGE_SIZE as usize) {
            // A store even if nothing changes. The compiler may turn the addition of zero into a load, and omit that.
            let _ = self.atomic_u64(page).compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Zeroes bytes without freeing the memory.
    pub fn zero(&self, offset: u64, len: u64) {
        const ZEROS: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(PAGE_SIZE);
            self.write(offset + done, &ZEROS[..n as usize]);
            done += n;
        }
    }

    /// Reads from a host file directly into guest memory. Returns the number of bytes read, 0 at end of file.
    pub fn read_from(&self, offset: u64, len: u64, file: &mut impl ReadVolatile) -> io::Result<usize> {
        let mut slice = self.slice(offset, len as usize);
        file.read_volatile(&mut slice).map_err(host_error)
    }

    /// Copies up to `len` bytes of a host file from `position` into guest memory. Returns the number of bytes copied,
    /// which is smaller only at end of file. The bytes are written to the memfd and not through the mapping: a page
    /// fault per page would cost more than the second copy, and the sentry reads few of these pages.
    pub fn fill_from(&self, offset: u64, len: u64, file: &File, position: u64) -> io::Result<u64> {
        let mut buf = [0; COPY_BYTES];
        let mut done = 0;
        while done < len {
            let want = (len - done).min(COPY_BYTES as u64) as usize;
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

    /// Writes guest memory directly to a host file. Returns the number of bytes written.
    pub fn write_to(&self, offset: u64, len: u64, file: &mut impl WriteVolatile) -> io::Result<usize> {
        file.write_volatile(&self.slice(offset, len as usize)).map_err(host_error)
    }

    /// A 32-bit word as an atomic. `offset` must be a multiple of 4.
    pub fn atomic_u32(&self, offset: u64) -> &AtomicU32 {
        self.atomic(offset)
    }

    /// A 64-bit word as an atomic. `offset` must be a multiple of 8.
    pub fn atomic_u64(&self, offset: u64) -> &AtomicU64 {
        self.atomic(offset)
    }

    fn atomic<T: AtomicInteger>(&self, offset: u64) -> &T {
        self.mapping.get_atomic_ref(offset as usize).expect("aligned words lie inside guest memory")
    }

    /// Loads a 32-bit word (sequentially consistent). `offset` must be a multiple of 4.
    pub fn load_u32(&self, offset: u64) -> u32 {
        self.atomic_u32(offset).load(Ordering::SeqCst)
    }

    fn drop_references(&self, range: FrameRange) {
        let mut ledger = self.ledger.lock();
        let mut freed = ledger.remove_reference(range);
        self.held.fetch_sub(freed.iter().map(|run| run.len).sum(), Ordering::Relaxed);
        freed.retain(|run| !ledger.keep_warm(*run));
        drop(ledger);
        // Punch the holes before the frames become free: free frames must read as zero.
        for run in freed {
            self.discard(run);
            self.ledger.lock().give_back(run);
        }
    }
}

/// A reference to each frame of a range. A clone is another reference. A frame without references is free.
pub struct Frames {
    memory: Arc<GuestMemory>,
    range: FrameRange,
}

impl Frames {
    /// The range of frames.
    pub fn range(&self) -> FrameRange {
        self.range
    }

    /// Another reference to `len` bytes of these frames from byte `from`. Both are page aligned and within the range.
    pub fn part(&self, from: u64, len: u64) -> Frames {
        assert!(from + len <= self.range.len, "a part lies inside its frames");
        let range = FrameRange { start: self.range.start + from, len };
        self.memory.ledger.lock().add_reference(range);
        Frames { memory: self.memory.clone(), range }
    }

    /// Splits the reference at byte `at`, which is page aligned and within the range. No reference count changes.
    pub fn split_at(mut self, at: u64) -> (Frames, Frames) {
        assert!(at <= self.range.len, "the cut lies inside the frames");
        let tail = Frames {
            memory: self.memory.clone(),
            range: FrameRange { start: self.range.start + at, len: self.range.len - at },
        };
        self.range.len = at;
        (self, tail)
    }

    /// Whether this is the only reference to all of these frames.
    pub fn is_unshared(&self) -> bool {
        self.holders(0, self.range.len) <= 1
    }

    /// The highest reference count of any frame in `len` bytes from byte `from`.
    pub fn holders(&self, from: u64, len: u64) -> u32 {
        self.memory.ledger.lock().max_references(FrameRange { start: self.range.start + from, len })
    }

    /// Appends `next` if it directly follows in the memfd; otherwise returns it.
    pub fn append(&mut self, next: Frames) -> Result<(), Frames> {
        if self.range.end() != next.range.start {
            return Err(next);
        }
        let mut next = next;
        self.range.len += next.range.len;
        // `self` has its references now.
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

/// The host's error, with its errno.
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
    fn only_allocate_to_fill_returns_uncleared_frames() {
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
        // If nothing else is left, warm frames are zeroed and used.
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
        // Without warm frames, new ones are used.
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
