//! Contexts of asynchronous I/O, and their rings of completion events in guest memory: see io_submit(2).
//!
//! As on Linux with cached files, a request is complete before io_submit(2) returns.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use amber_abi::aio::{AIO_RING_COMPAT_FEATURES, AIO_RING_INCOMPAT_FEATURES, AIO_RING_MAGIC, AioRing, IoEvent};
use amber_abi::errno::Errno;
use amber_platform::{PAGE_SIZE, Protection};
use zerocopy::{FromZeros, IntoBytes};

use crate::mm::{Backed, MapRequest, MemoryManager, PageCache, Place, VmaFlags};
use crate::sync::{Mutex, Rank};
use crate::wait::WaitQueue;

const HEADER: u64 = size_of::<AioRing>() as u64;
const EVENT: u64 = size_of::<IoEvent>() as u64;
/// Offsets of the changing fields of the header.
const HEAD: u64 = 8;
const TAIL: u64 = 12;

/// Requests charged to the sandbox for a context, uncharged with it.
struct Share {
    all: Arc<AtomicU64>,
    own: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// A context: a ring in guest memory, whose address is its ID.
pub(crate) struct AioContext {
    address: u64,
    /// Length of the mapping in bytes.
    len: u64,
    /// Number of entries in the ring; one stays free.
    places: u32,
    /// Maximum number of requests in one call.
    most: u64,
    /// The index of the next event. Held during accesses to the ring, and outside of the lock order: no other lock is
    /// held with it.
    tail: parking_lot::Mutex<u32>,
    arrived: WaitQueue,
    ended: AtomicBool,
    _share: Share,
}

impl AioContext {
    /// Maximum number of requests in one io_submit(2).
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// The wait queue for events.
    pub(crate) fn arrived(&self) -> &WaitQueue {
        &self.arrived
    }

    /// Whether the context was destroyed.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn word(&self, mm: &MemoryManager, at: u64) -> Option<u32> {
        let mut word = [0; 4];
        (mm.read_partial(self.address + at, &mut word) == word.len()).then(|| u32::from_ne_bytes(word))
    }

    /// The index of the next event to be taken. Guest code may set it to any value.
    fn head(&self, mm: &MemoryManager) -> u32 {
        self.word(mm, HEAD).unwrap_or(0) % self.places
    }

    fn place(&self, index: u32) -> u64 {
        self.address + HEADER + u64::from(index) * EVENT
    }

    /// Whether the ring has room for another event.
    pub(crate) fn has_room(&self, mm: &MemoryManager) -> bool {
        let tail = self.tail.lock();
        (*tail + 1) % self.places != self.head(mm)
    }

    /// Adds the event of a completed request. The caller has checked that there is room.
    pub(crate) fn complete(&self, mm: &MemoryManager, event: &IoEvent) {
        {
            let mut tail = self.tail.lock();
            // Errors are ignored: the guest has unmapped the ring.
            mm.write_partial(self.place(*tail), event.as_bytes());
            *tail = (*tail + 1) % self.places;
            mm.write_partial(self.address + TAIL, tail.as_bytes());
        }
        self.arrived.notify_all();
    }

    /// Removes and returns up to `most` events.
    pub(crate) fn take(&self, mm: &MemoryManager, most: usize) -> Vec<IoEvent> {
        let tail = self.tail.lock();
        let mut head = self.head(mm);
        let mut events = Vec::new();
        while head != *tail && events.len() < most {
            let mut event = IoEvent::new_zeroed();
            if mm.read_partial(self.place(head), event.as_mut_bytes()) < EVENT as usize {
                break;
            }
            events.push(event);
            head = (head + 1) % self.places;
        }
        mm.write_partial(self.address + HEAD, head.as_bytes());
        drop(tail);
        events
    }
}

/// The contexts of an address space.
pub(crate) struct AioContexts {
    contexts: Mutex<HashMap<u64, Arc<AioContext>>>,
}

impl Default for AioContexts {
    fn default() -> Self {
        AioContexts { contexts: Mutex::new(Rank::Leaf, HashMap::new()) }
    }
}

impl AioContexts {
    /// The context with this ID.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub(crate) fn get(&self, number: u64) -> Result<Arc<AioContext>, Errno> {
        self.contexts.lock().get(&number).cloned().ok_or_else(|| Errno::EINVAL.here())
    }

    /// Makes a context for `count` requests in `mm`, the owner of these contexts. `all` counts the requests of the
    /// sandbox, up to `limit`.
    ///
    /// # Errors
    /// `EINVAL` if `count` is too large for any ring, `EAGAIN` beyond the limit, `ENOMEM`.
    pub(crate) fn make(
        &self,
        mm: &MemoryManager,
        count: u32,
        cpus: u32,
        all: &Arc<AtomicU64>,
        limit: u64,
    ) -> Result<u64, Errno> {
        const MOST: u64 = 0x1000_0000 / EVENT;
        let wanted = u64::from(count.max(cpus.saturating_mul(4))) * 2;
        if wanted > MOST {
            return Err(Errno::EINVAL.here());
        }
        if u64::from(count) > limit {
            return Err(Errno::EAGAIN.here());
        }
        let before = all.fetch_add(count.into(), Ordering::Relaxed);
        let share = Share { all: all.clone(), own: count.into() };
        if before + u64::from(count) > limit {
            return Err(Errno::EAGAIN.here());
        }
        let len = (HEADER + (wanted + 2) * EVENT).next_multiple_of(PAGE_SIZE);
        let places = ((len - HEADER) / EVENT) as u32;
        let pages = PageCache::in_memory(mm.memory().clone(), len);
        let address = mm.map(MapRequest {
            place: Place::Hint(0),
            len,
            protection: Protection { read: true, write: true, execute: false },
            flags: VmaFlags::SHARED | VmaFlags::MAY_READ | VmaFlags::MAY_WRITE,
            backed: Backed::Object(pages, 0, None, "/[aio] (deleted)"),
            populate: false,
            may_lock_any: false,
        })?;
        let header = AioRing {
            id: 0,
            nr: places,
            head: 0,
            tail: 0,
            magic: AIO_RING_MAGIC,
            compat_features: AIO_RING_COMPAT_FEATURES,
            incompat_features: AIO_RING_INCOMPAT_FEATURES,
            header_length: HEADER as u32,
        };
        mm.write_partial(address, header.as_bytes());
        let context = AioContext {
            address,
            len,
            places,
            most: wanted,
            tail: parking_lot::Mutex::new(0),
            arrived: WaitQueue::new(),
            ended: AtomicBool::new(false),
            _share: share,
        };
        self.contexts.lock().insert(address, Arc::new(context));
        Ok(address)
    }

    /// Destroys a context, and wakes the waiters for its events.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub(crate) fn destroy(&self, mm: &MemoryManager, number: u64) -> Result<(), Errno> {
        let context = self.contexts.lock().remove(&number).ok_or_else(|| Errno::EINVAL.here())?;
        context.ended.store(true, Ordering::Relaxed);
        context.arrived.notify_all();
        // The guest may have unmapped it or mapped something else there. Linux has the same effect.
        let _ = mm.unmap(context.address, context.len);
        Ok(())
    }
}
