//! A heap allocator that counts. Whatever kind of object a guest makes the sentry keep, it is on the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// Bytes in use, as threads have reported them. The process has one heap, which all its sandboxes share.
static IN_USE: AtomicI64 = AtomicI64::new(0);

/// Bytes that a thread in a [`HeapBatch`] may have allocated or freed without reporting them.
const BATCH: i64 = 8 << 10;
/// The allocator's overhead per block: a word, before the size is rounded up to 16 bytes.
const HEADER: usize = 8;
/// Size of the smallest block.
const SMALLEST: usize = 32;
/// Blocks from this size on are mapped separately, in whole pages (`M_MMAP_THRESHOLD` of mallopt(3)).
const MAPPED_FROM: usize = 128 << 10;

thread_local! {
    // Without destructors, so that allocation works at any time of a thread's life.
    static UNREPORTED: Cell<i64> = const { Cell::new(0) };
    static BATCHED: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, with a count of the bytes in use.
pub struct CountedHeap;

/// Bytes of the heap in use, with overhead; 0 if the program's allocator is not [`CountedHeap`]. Each thread with a
/// [`HeapBatch`] may be off by some KiB.
pub fn heap_bytes() -> u64 {
    IN_USE.load(Ordering::Relaxed).max(0) as u64
}

/// Returns free parts of the heap to the host (malloc_trim(3)). The time is proportional to the size of the heap.
pub fn trim_heap() {
    // SAFETY: touches only memory that is free in the allocator, under the allocator's locks.
    unsafe { libc::malloc_trim(0) };
}

/// While this exists, the thread that made it reports changes of the heap in batches, so that busy threads do not
/// contend for one counter. Dropping it reports the rest.
pub struct HeapBatch {
    /// Not `Send`: it belongs to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl HeapBatch {
    /// Begins a batch on the calling thread.
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

/// Size of the block for a request of `size` bytes.
#[inline]
fn block(size: usize) -> i64 {
    let unit = if size < MAPPED_FROM { 16 } else { crate::PAGE_SIZE as usize };
    (size.saturating_add(HEADER + unit - 1) & !(unit - 1)).max(SMALLEST) as i64
}

// SAFETY: all allocation is by the system's allocator; counting touches no memory of the heap and never fails.
unsafe impl GlobalAlloc for CountedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of the same function.
        let block_start = unsafe { System.alloc(layout) };
        if !block_start.is_null() {
            note(block(layout.size()));
        }
        block_start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of the same function.
        let block_start = unsafe { System.alloc_zeroed(layout) };
        if !block_start.is_null() {
            note(block(layout.size()));
        }
        block_start
    }

    unsafe fn dealloc(&self, block_start: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of the same function.
        unsafe { System.dealloc(block_start, layout) };
        note(-block(layout.size()));
    }

    unsafe fn realloc(&self, block_start: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller upholds the contract of the same function.
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
        // Only differences are exact, and only because the tests of this crate use another allocator: the counter is
        // shared.
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
