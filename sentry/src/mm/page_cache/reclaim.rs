//! Cached pages of host files do not fill the memory of the guest: beyond a bound, those not read for the longest time
//! are given up. They are read again when somebody touches them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::PageCache;
use crate::sync::{Mutex, Rank};

/// The part of guest memory that caches may hold.
const PART: u64 = 8;

/// All caches that have a source.
static CACHES: Mutex<Vec<Weak<PageCache>>> = Mutex::new(Rank::Leaf, Vec::new());
/// Bytes of frames they hold.
static HELD: AtomicU64 = AtomicU64::new(0);
/// How many may be held, once somebody took some.
static BOUND: AtomicU64 = AtomicU64::new(u64::MAX);
static WANTED: AtomicBool = AtomicBool::new(false);
/// One task at a time gives up what is too much.
static ONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// A number that grows with each call.
pub(super) fn tick() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn register(cache: &Arc<PageCache>) {
    let mut caches = CACHES.lock();
    if caches.len() == caches.capacity() {
        caches.retain(|cache| cache.strong_count() > 0);
    }
    caches.push(Arc::downgrade(cache));
}

pub(super) fn note_taken(bytes: u64, memory: u64) {
    let bound = memory / PART;
    BOUND.store(bound, Ordering::Relaxed);
    if HELD.fetch_add(bytes, Ordering::Relaxed) + bytes > bound {
        WANTED.store(true, Ordering::Relaxed);
    }
}

pub(super) fn note_given_back(bytes: u64) {
    HELD.fetch_sub(bytes, Ordering::Relaxed);
}

/// Called by each task now and then, with no lock held: gives pages up if there are too many.
pub fn relieve() {
    if WANTED.load(Ordering::Relaxed)
        && let Some(_one) = ONE.try_lock()
    {
        WANTED.store(false, Ordering::Relaxed);
        give_up(BOUND.load(Ordering::Relaxed) / 4 * 3);
    }
}

/// Memory is used up: gives up all pages that can be read again. Returns how many bytes that were.
pub fn give_up_all() -> u64 {
    let _one = ONE.lock();
    give_up(0)
}

/// Gives up so many bytes of pages that can be read again, those first that were not read for the longest time; some are
/// left, without which programs would do nothing but read them again.
pub fn give_up_some(bytes: u64, left: u64) {
    let _one = ONE.lock();
    give_up(HELD.load(Ordering::Relaxed).saturating_sub(bytes).max(left));
}

/// How many bytes of frames the caches have.
pub fn held() -> u64 {
    HELD.load(Ordering::Relaxed)
}

fn give_up(goal: u64) -> u64 {
    let mut caches: Vec<Arc<PageCache>> = CACHES.lock().iter().filter_map(Weak::upgrade).collect();
    caches.sort_by_key(|cache| cache.used.load(Ordering::Relaxed));
    let mut given = 0;
    for cache in caches {
        if HELD.load(Ordering::Relaxed) <= goal {
            break;
        }
        given += cache.evict();
    }
    log::debug!("gave up {given} bytes of cached pages");
    given
}
