//! Contexts of asynchronous I/O, and the rings in guest memory that tell what came of it: see io_submit(2).
//!
//! As on Linux with files that are cached, a request is done before io_submit(2) returns; what is asynchronous is only
//! when the program looks.

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
/// Offsets of what changes in the header.
const HEAD: u64 = 8;
const TAIL: u64 = 12;

/// Requests that all contexts of the sandbox can hold, given back with the context.
struct Share {
    all: Arc<AtomicU64>,
    own: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// A context: a ring in guest memory, whose address is its number.
pub struct AioContext {
    address: u64,
    /// Bytes mapped.
    len: u64,
    /// Places of the ring; one stays free.
    places: u32,
    /// The most requests of one call.
    most: u64,
    /// Where the next event goes. Held over accesses to the ring, and outside the lock order: who holds it has no other
    /// lock, and no one takes it below another.
    tail: parking_lot::Mutex<u32>,
    arrived: WaitQueue,
    ended: AtomicBool,
    _share: Share,
}

impl AioContext {
    /// How many requests one call may submit.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Who is told of events.
    pub fn arrived(&self) -> &WaitQueue {
        &self.arrived
    }

    /// Whether it was destroyed.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn word(&self, mm: &MemoryManager, at: u64) -> Option<u32> {
        let mut word = [0; 4];
        (mm.read_partial(self.address + at, &mut word) == word.len()).then(|| u32::from_ne_bytes(word))
    }

    /// Where the next event is taken; the program may move it, to anywhere.
    fn head(&self, mm: &MemoryManager) -> u32 {
        self.word(mm, HEAD).unwrap_or(0) % self.places
    }

    fn place(&self, index: u32) -> u64 {
        self.address + HEADER + u64::from(index) * EVENT
    }

    /// Whether there is room for one more event.
    pub fn has_room(&self, mm: &MemoryManager) -> bool {
        let tail = self.tail.lock();
        (*tail + 1) % self.places != self.head(mm)
    }

    /// Tells what came of a request; the caller made sure that there is room.
    pub fn tell(&self, mm: &MemoryManager, event: &IoEvent) {
        {
            let mut tail = self.tail.lock();
            // A program that takes the ring away does not want to know.
            mm.write_partial(self.place(*tail), event.as_bytes());
            *tail = (*tail + 1) % self.places;
            mm.write_partial(self.address + TAIL, tail.as_bytes());
        }
        self.arrived.notify_all();
    }

    /// Takes up to `most` events.
    pub fn take(&self, mm: &MemoryManager, most: usize) -> Vec<IoEvent> {
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
pub struct AioContexts {
    contexts: Mutex<HashMap<u64, Arc<AioContext>>>,
}

impl Default for AioContexts {
    fn default() -> Self {
        AioContexts { contexts: Mutex::new(Rank::Leaf, HashMap::new()) }
    }
}

impl AioContexts {
    /// The context with this number.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn get(&self, number: u64) -> Result<Arc<AioContext>, Errno> {
        self.contexts.lock().get(&number).cloned().ok_or_else(|| Errno::EINVAL.here())
    }

    /// Makes a context for `count` requests in `mm`, of which these are the contexts; `all` counts the requests of the
    /// sandbox, which are not to exceed `limit`.
    ///
    /// # Errors
    /// `EINVAL` for absurdly many, `EAGAIN` beyond the limit, `ENOMEM`.
    pub fn make(
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

    /// Destroys a context; whoever waits for its events waits no more.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn destroy(&self, mm: &MemoryManager, number: u64) -> Result<(), Errno> {
        let context = self.contexts.lock().remove(&number).ok_or_else(|| Errno::EINVAL.here())?;
        context.ended.store(true, Ordering::Relaxed);
        context.arrived.notify_all();
        // It may be gone already, or something else be there: that was the program's doing.
        let _ = mm.unmap(context.address, context.len);
        Ok(())
    }
}
