//! The process's heap, counted: everything that guests make the sentry keep lies there, whatever kind of object it is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// Bytes in use as threads reported them. There is one heap in a process, for all sandboxes in it.
static IN_USE: AtomicI64 = AtomicI64::new(0);

/// What a thread that batches its reports may keep to itself, in bytes.
const BATCH: i64 = 8 << 10;
/// What the allocator adds to each block: a word before it, rounded up to 16 bytes.
const HEADER: usize = 8;
/// The smallest block.
const SMALLEST: usize = 32;
/// Blocks from this size on are mapped by themselves, in whole pages.
const MAPPED_FROM: usize = 128 << 10;

thread_local! {
    // Neither has a destructor, so that they can be used at any time of a thread's life.
    static UNREPORTED: Cell<i64> = const { Cell::new(0) };
    static BATCHED: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, which counts the bytes in use.
pub struct CountedHeap;

/// Bytes of the heap in use, overhead included; 0 in a program whose allocator is not [`CountedHeap`]. Each thread
/// in a [`HeapBatch`] may be behind by some KiB.
pub fn heap_bytes() -> u64 {
    IN_USE.load(Ordering::Relaxed).max(0) as u64
}

/// Gives free parts of the heap back to the host. This takes time in proportion to the heap.
pub fn trim_heap() {
    // SAFETY: only touches memory that the allocator knows as free, under its own locks.
    unsafe { libc::malloc_trim(0) };
}

/// While it lives, the thread that made it reports changes of the heap in batches, which keeps busy threads from
/// contending for one counter. What they keep to themselves is reported at the end.
pub struct HeapBatch {
    /// It belongs to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl HeapBatch {
    /// Begins a batch on this thread.
    #[must_use]
    pub fn begin() -> Self {
        BATCHED.set(true);
        HeapBatch { _thread: std::marker::PhantomData }
    }
}

impl Drop for HeapBatch {
    fn drop(&mut self) {
        BATCHED.set(false);
        note(0);
    }
}

#[inline]
fn note(change: i64) {
    let sum = UNREPORTED.get() + change;
    if BATCHED.get() && sum.abs() < BATCH {
        UNREPORTED.set(sum);
    } else {
        UNREPORTED.set(0);
        IN_USE.fetch_add(sum, Ordering::Relaxed);
    }
}

/// What a request for `size` bytes takes.
#[inline]
fn block(size: usize) -> i64 {
    let unit = if size < MAPPED_FROM { 16 } else { crate::PAGE_SIZE as usize };
    (size.saturating_add(HEADER + unit - 1) & !(unit - 1)).max(SMALLEST) as i64
}

// SAFETY: everything is the system's allocator's work; counting touches no memory of the heap and never fails.
unsafe impl GlobalAlloc for CountedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        let block_start = unsafe { System.alloc(layout) };
        if !block_start.is_null() {
            note(block(layout.size()));
        }
        block_start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        let block_start = unsafe { System.alloc_zeroed(layout) };
        if !block_start.is_null() {
            note(block(layout.size()));
        }
        block_start
    }

    unsafe fn dealloc(&self, block_start: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the same promises.
        unsafe { System.dealloc(block_start, layout) };
        note(-block(layout.size()));
    }

    unsafe fn realloc(&self, block_start: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        let moved = unsafe { System.realloc(block_start, layout, new_size) };
        if !moved.is_null() {
            note(block(new_size) - block(layout.size()));
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_what_the_allocator_makes_of_requests() {
        assert_eq!([block(1), block(24), block(25), block(100)], [32, 32, 48, 112]);
        assert_eq!(block(1 << 20), (1 << 20) + 4096);
    }

    #[test]
    fn batches_are_reported_at_their_end() {
        // On a thread of its own, and only by differences: other tests share the counter, but this crate's tests do not
        // have the allocator.
        let before = heap_bytes();
        let batch = HeapBatch::begin();
        note(BATCH - 1);
        assert_eq!(heap_bytes(), before);
        note(1);
        assert_eq!(heap_bytes(), before + BATCH as u64);
        note(-BATCH / 2);
        assert_eq!(heap_bytes(), before + BATCH as u64);
        drop(batch);
        assert_eq!(heap_bytes(), before + BATCH as u64 / 2);
        note(-BATCH / 2);
        assert_eq!(heap_bytes(), before);
    }
}
