//! Bounds the memory in cached pages of host files. Beyond the bound, the pages of files that were not read for the
//! longest time are evicted; an access reads them again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::PageCache;
use crate::sync::{Mutex, Rank};

/// The page caches may hold one such part of guest memory.
const PART: u64 = 8;

/// The caches that have a source.
pub(crate) struct PageCaches {
    all: Mutex<Vec<Weak<PageCache>>>,
    /// Bytes of frames in the caches.
    held: AtomicU64,
    /// Bound of `held`, set with the first allocation.
    bound: AtomicU64,
    over_bound: AtomicBool,
    /// Held during an eviction, so that one task at a time evicts.
    one: parking_lot::Mutex<()>,
    ticks: AtomicU64,
}

impl Default for PageCaches {
    fn default() -> Self {
        PageCaches {
            all: Mutex::new(Rank::Leaf, Vec::new()),
            held: AtomicU64::new(0),
            bound: AtomicU64::new(u64::MAX),
            over_bound: AtomicBool::new(false),
            one: parking_lot::Mutex::new(()),
            ticks: AtomicU64::new(1),
        }
    }
}

impl PageCaches {
    /// The next tick, a number that grows with each call.
    pub(super) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn register(&self, cache: &Arc<PageCache>) {
        let mut all = self.all.lock();
        if all.len() == all.capacity() {
            all.retain(|cache| cache.strong_count() > 0);
        }
        all.push(Arc::downgrade(cache));
    }

    pub(super) fn note_taken(&self, bytes: u64, memory: u64) {
        let bound = memory / PART;
        self.bound.store(bound, Ordering::Relaxed);
        if self.held.fetch_add(bytes, Ordering::Relaxed) + bytes > bound {
            self.over_bound.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn note_given_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Evicts pages if the bound is exceeded. Called by each task regularly, without locks.
    pub(crate) fn reclaim_if_over(&self) {
        if self.over_bound.load(Ordering::Relaxed)
            && let Some(_one) = self.one.try_lock()
        {
            self.over_bound.store(false, Ordering::Relaxed);
            self.evict_to(self.bound.load(Ordering::Relaxed) / 4 * 3);
        }
    }

    /// Evicts all pages that can be read again, because memory is used up. Returns the number of bytes.
    pub(crate) fn evict_all(&self) -> u64 {
        let _one = self.one.lock();
        self.evict_to(0)
    }

    /// Evicts `bytes` of pages that can be read again, the least recently read first. `left` bytes remain, so that
    /// programs do not thrash.
    pub(crate) fn evict_some(&self, bytes: u64, left: u64) {
        let _one = self.one.lock();
        self.evict_to(self.held().saturating_sub(bytes).max(left));
    }

    /// Bytes of frames in the caches.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn evict_to(&self, goal: u64) -> u64 {
        let mut caches: Vec<Arc<PageCache>> = self.all.lock().iter().filter_map(Weak::upgrade).collect();
        caches.sort_by_key(|cache| cache.used.load(Ordering::Relaxed));
        let mut given = 0;
        for cache in caches {
            if self.held() <= goal {
                break;
            }
            given += cache.evict();
        }
        log::debug!("gave up {given} bytes of cached pages");
        given
    }
}
