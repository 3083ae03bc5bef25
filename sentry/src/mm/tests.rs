//! The memory manager on a platform that only records mappings.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use amber_abi::errno::Errno;
use amber_abi::mm::MemoryAdvice;
use amber_platform::{Access, AddressSpace, FrameRange, Frames, GuestMemory, PAGE_SIZE, Protection};

use super::*;
use crate::interruption::{Killable, set_caller};

const LIMIT: u64 = 0x7fff_ffff_f000;
const RW: Protection = Protection { read: true, write: true, execute: false };
const RO: Protection = Protection { read: true, write: false, execute: false };

/// Records the mappings, page by page.
#[derive(Default)]
struct Notes {
    pages: Mutex<std::collections::BTreeMap<u64, (u64, Protection)>>,
    calls: Mutex<usize>,
}

impl AddressSpace for Notes {
    fn map(&self, at: u64, frames: FrameRange, protection: Protection) {
        *self.calls.lock().unwrap() += 1;
        let mut pages = self.pages.lock().unwrap();
        for page in (0..frames.len).step_by(PAGE_SIZE as usize) {
            pages.insert(at + page, (frames.start + page, protection));
        }
    }

    fn unmap(&self, range: Range<u64>, _released: Vec<Frames>) {
        self.pages.lock().unwrap().retain(|at, _| !range.contains(at));
    }

    fn protect(&self, range: Range<u64>, protection: Protection) {
        *self.calls.lock().unwrap() += 1;
        for (_, page) in self.pages.lock().unwrap().range_mut(range) {
            page.1 = protection;
        }
    }

    fn synchronize(&self) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct World {
    notes: Arc<Notes>,
    memory: Arc<GuestMemory>,
    mm: Arc<MemoryManager>,
}

fn world() -> World {
    let notes = Arc::new(Notes::default());
    let memory = GuestMemory::new(1 << 30).unwrap();
    let layout = Layout::new(LIMIT, 8 << 20, &Randomness::default());
    let mm = MemoryManager::new(
        notes.clone(),
        memory.clone(),
        LIMIT,
        MemoryLimits::new(Default::default()),
        MemoryFlags::empty(),
        layout,
    );
    World { notes, memory, mm }
}

fn request(place: Place, len: u64, backed: Backed) -> MapRequest {
    MapRequest { place, len, protection: RW, flags: VmaFlags::MAY_ALL, backed, populate: false, may_lock_any: false }
}

fn anonymous(w: &World, len: u64) -> u64 {
    w.mm.map(request(Place::Hint(0), len, Backed::Anonymous)).unwrap()
}

#[test]
fn anonymous_memory_holds_what_is_written() {
    let w = world();
    let at = anonymous(&w, 8 << 20);
    w.mm.write(at + (3 << 20) - 2, b"across").unwrap();
    let mut buf = [0; 6];
    w.mm.read(at + (3 << 20) - 2, &mut buf).unwrap();
    assert_eq!(&buf, b"across");
    assert_eq!(w.mm.read(at + (8 << 20) - 3, &mut buf), Err(Errno::EFAULT));
    assert!(*w.notes.calls.lock().unwrap() <= 4, "one change for each chunk of two megabytes");
    w.mm.unmap(at, 8 << 20).unwrap();
    assert!(w.notes.pages.lock().unwrap().is_empty());
    assert_eq!(w.memory.allocated(), 0);
}

#[test]
fn protection_is_kept() {
    let w = world();
    let at = anonymous(&w, 4 * PAGE_SIZE);
    w.mm.write(at, b"x").unwrap();
    w.mm.protect(at, PAGE_SIZE, RO, protect::Reach::Exact, false).unwrap();
    assert_eq!(w.mm.write(at, b"y"), Err(Errno::EFAULT));
    assert_eq!(w.notes.pages.lock().unwrap()[&at].1, RO);
    assert_eq!(w.mm.fault(at, Access::Write), Err(Fault::Denied));
    assert_eq!(w.mm.fault(at, Access::Read), Ok(()));
    assert_eq!(w.mm.fault(at, Access::Read), Err(Fault::Denied));
    assert_eq!(w.mm.fault(at - PAGE_SIZE, Access::Read), Err(Fault::Unmapped));
    assert_eq!(w.mm.write_forced(at, b"z"), 1);
}

#[test]
fn private_objects_copy_and_shared_ones_do_not() {
    let w = world();
    let cache = PageCache::in_memory(w.memory.clone(), 2 * PAGE_SIZE);
    cache.write(0, b"original").unwrap();
    let backed = || Backed::Object(cache.clone(), 0, None, "");
    let private = w.mm.map(request(Place::Hint(0), 4 * PAGE_SIZE, backed())).unwrap();
    let mut shared = request(Place::Hint(0), 4 * PAGE_SIZE, backed());
    shared.flags |= VmaFlags::SHARED;
    let shared = w.mm.map(shared).unwrap();
    w.mm.write(private, b"private!").unwrap();
    let mut buf = [0; 8];
    w.mm.read(shared, &mut buf).unwrap();
    assert_eq!(&buf, b"original");
    w.mm.write(shared, b"together").unwrap();
    cache.read(0, &mut buf).unwrap();
    assert_eq!(&buf, b"together");
    assert_eq!(w.mm.fault(shared + 2 * PAGE_SIZE, Access::Read), Err(Fault::NoPage));
    cache.set_len(0);
    assert_eq!(w.mm.fault(private, Access::Read), Err(Fault::NoPage));
    assert_eq!(w.mm.fault(shared, Access::Read), Err(Fault::NoPage));
}

#[test]
fn moving_takes_the_pages_along() {
    let w = world();
    let at = anonymous(&w, 2 * PAGE_SIZE);
    anonymous(&w, PAGE_SIZE);
    w.mm.write(at + PAGE_SIZE, b"moved").unwrap();
    let to = w.mm.remap(RemapRequest {
        address: at,
        old_len: 2 * PAGE_SIZE,
        new_len: 64 * PAGE_SIZE,
        may_move: true,
        fixed: Some(0x1000_0000),
        hint: 0,
        keep_old: false,
        may_lock_any: false,
    });
    assert_eq!(to, Ok(0x1000_0000));
    let mut buf = [0; 5];
    w.mm.read(0x1000_0000 + PAGE_SIZE, &mut buf).unwrap();
    assert_eq!(&buf, b"moved");
    assert_eq!(w.mm.fault(at, Access::Read), Err(Fault::Unmapped));
}

#[test]
fn advice_zeroes() {
    let w = world();
    let at = anonymous(&w, 2 * PAGE_SIZE);
    w.mm.write(at, b"gone").unwrap();
    w.mm.advise(at, PAGE_SIZE, MemoryAdvice::MADV_DONTNEED).unwrap();
    let mut buf = [1; 4];
    w.mm.read(at, &mut buf).unwrap();
    assert_eq!(buf, [0; 4]);
    assert_eq!(w.mm.advise(at, 3 * PAGE_SIZE, MemoryAdvice::from_raw(77)), Err(Errno::EINVAL));
}

#[test]
fn stacks_grow_within_limits() {
    let w = world();
    let mut stack = request(Place::Fixed(0x5000_0000), 4 * PAGE_SIZE, Backed::Anonymous);
    stack.flags |= VmaFlags::GROWS_DOWN;
    w.mm.map(stack).unwrap();
    assert_eq!(w.mm.fault(0x5000_0000 - 20 * PAGE_SIZE, Access::Write), Ok(()));
    assert_eq!(w.mm.fault(0x5000_0000 - (9 << 20), Access::Write), Err(Fault::Unmapped));
    w.mm.limits().set_stack(1 << 20);
    assert_eq!(w.mm.fault(0x5000_0000 - (2 << 20), Access::Write), Err(Fault::Unmapped));
}

#[test]
fn the_heap_moves() {
    let w = world();
    w.mm.with_layout(|layout| (layout.start_brk, layout.brk) = (0x6000_0000, 0x6000_0000));
    assert_eq!(w.mm.set_break(0x6002_1000, false), 0x6002_1000);
    w.mm.write(0x6002_0ff8, b"top").unwrap();
    assert_eq!(w.mm.set_break(0x5000_0000, false), 0x6002_1000);
    assert_eq!(w.mm.set_break(0x6000_0800, false), 0x6000_0800);
    assert_eq!(w.mm.write(0x6001_0000, b"x"), Err(Errno::EFAULT));
    assert_eq!(w.mm.areas_from(0).len(), 1);
}

/// A source in which each byte is the number of its page.
struct Pages;

impl PageSource for Pages {
    fn read(&self, memory: &GuestMemory, place: u64, offset: u64, len: u64) -> Result<u64, Errno> {
        for page in (0..len).step_by(PAGE_SIZE as usize) {
            memory.write(place + page, &[((offset + page) / PAGE_SIZE) as u8; PAGE_SIZE as usize]);
        }
        Ok(len)
    }

    fn write(&self, _: &GuestMemory, _: u64, _: u64, _: u64) -> Result<(), Errno> {
        Err(Errno::EIO)
    }
}

#[test]
fn clean_pages_are_given_up_and_read_again() {
    let w = world();
    let cache = PageCache::new(&Arc::default(), w.memory.clone(), Box::new(Pages), 8 << 20);
    let at = w.mm.map(request(Place::Hint(0), 8 << 20, Backed::Object(cache.clone(), 0, None, ""))).unwrap();
    let mut byte = [0];
    for page in [1, 600, 1200] {
        w.mm.read(at + page * PAGE_SIZE, &mut byte).unwrap();
        assert_eq!(u64::from(byte[0]), page % 256);
    }
    w.mm.write(at + 600 * PAGE_SIZE, b"changed").unwrap();
    let before = w.memory.allocated();
    assert!(cache.evict() >= 4 << 20);
    assert!(w.memory.allocated() < before);
    w.mm.read(at + 1200 * PAGE_SIZE, &mut byte).unwrap();
    assert_eq!(u64::from(byte[0]), 1200 % 256);
    // Private copies stay.
    w.mm.read(at + 600 * PAGE_SIZE, &mut byte).unwrap();
    assert_eq!(&byte, b"c");
}

#[test]
fn small_vmas_are_populated_after_full_use() {
    const LEN: u64 = 16 * PAGE_SIZE;
    let w = world();
    let touched = || w.memory.touched_bytes();
    // Accesses the first pages of a new VMA, unmaps it, and returns how much of the next one is present before an
    // access.
    let next_has = |pages: u64| {
        let area = anonymous(&w, LEN);
        for page in (0..pages * PAGE_SIZE).step_by(PAGE_SIZE as usize) {
            w.mm.write(area + page, b"secret").unwrap();
        }
        w.mm.unmap(area, LEN).unwrap();
        let before = touched();
        let next = anonymous(&w, LEN);
        let frames = FrameRange { start: w.notes.pages.lock().unwrap()[&next].0, len: LEN };
        assert!(touched() <= before);
        let mut bytes = vec![1; LEN as usize];
        let ready = w.memory.is_filled(frames);
        w.mm.read(next, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        w.mm.unmap(next, PAGE_SIZE).unwrap();
        ready
    };
    assert!(!next_has(15));
    assert!(next_has(16));
    assert!(!next_has(0));
}

/// A caller that was killed.
struct Killed;

impl Killable for Killed {
    fn is_killed(&self) -> bool {
        true
    }
}

#[test]
fn a_killed_caller_has_no_more_populated() {
    let w = world();
    let killed: Arc<dyn Killable> = Arc::new(Killed);
    set_caller(Some(Arc::downgrade(&killed)));
    let at = w.mm.map(MapRequest { populate: true, ..request(Place::Hint(0), 512 << 20, Backed::Anonymous) }).unwrap();
    assert!(w.memory.touched_bytes() <= 4 << 20);
    assert_eq!(w.mm.lock(at, 512 << 20, LockMode::Now, true), Err(Errno::EINTR));
    assert_eq!(w.mm.advise(at, 512 << 20, MemoryAdvice::MADV_POPULATE_WRITE), Err(Errno::EINTR));
    set_caller(None);
    assert_eq!(w.mm.advise(at, 8 << 20, MemoryAdvice::MADV_POPULATE_WRITE), Ok(()));
    assert!(w.memory.touched_bytes() >= 8 << 20);
}

/// Maps each page of an object with an anonymous page before it, so that each is a VMA of its own. Returns the address.
fn scattered(w: &World, cache: &Arc<PageCache>, pages: u64) -> u64 {
    let at = 0x1000_0000;
    for page in 0..pages {
        let backed = Backed::Object(cache.clone(), page * PAGE_SIZE, None, "");
        let place = Place::Fixed(at + page * 2 * PAGE_SIZE);
        let mut request = request(place, PAGE_SIZE, backed);
        request.flags |= VmaFlags::SHARED;
        w.mm.map(request).unwrap();
    }
    at
}

#[test]
fn among_many_areas_those_of_an_object_lose_what_it_loses() {
    const PAGES: u64 = 400;
    let w = world();
    let cache = PageCache::in_memory(w.memory.clone(), PAGES * PAGE_SIZE);
    let at = scattered(&w, &cache, PAGES);
    let other = PageCache::in_memory(w.memory.clone(), PAGE_SIZE);
    let other_at = w.mm.map(request(Place::Hint(0), PAGE_SIZE, Backed::Object(other, 0, None, ""))).unwrap();
    w.mm.write(other_at, b"stays").unwrap();
    let place = |page: u64| at + page * 2 * PAGE_SIZE;
    (0..PAGES).for_each(|page| w.mm.write(place(page), b"full").unwrap());
    let read = |at: u64| {
        let mut text = [0; 4];
        w.mm.read(at, &mut text).map(|()| text)
    };
    cache.punch_hole(7 * PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
    assert_eq!([6, 7, 8, 9].map(|page| read(place(page))), [Ok(*b"full"), Ok([0; 4]), Ok([0; 4]), Ok(*b"full")]);
    // A moved VMA is found at its new address.
    let moved = RemapRequest {
        address: place(300),
        old_len: PAGE_SIZE,
        new_len: PAGE_SIZE,
        may_move: true,
        fixed: Some(0x8000_0000),
        hint: 0,
        keep_old: false,
        may_lock_any: false,
    };
    w.mm.remap(moved).unwrap();
    cache.set_len(200 * PAGE_SIZE);
    let mapped = w.notes.pages.lock().unwrap().keys().copied().filter(|&page| page >= place(200)).collect::<Vec<_>>();
    assert_eq!(mapped, [other_at]);
    assert_eq!((read(place(199)), read(0x8000_0000), read(other_at)), (Ok(*b"full"), Err(Errno::EFAULT), Ok(*b"stay")));
}

#[test]
fn a_killed_caller_removes_and_reads_no_more() {
    let w = world();
    let cache = PageCache::in_memory(w.memory.clone(), 8 * PAGE_SIZE);
    let at = w.mm.map(MapRequest {
        flags: VmaFlags::MAY_ALL | VmaFlags::SHARED,
        ..request(Place::Hint(0), 8 * PAGE_SIZE, Backed::Object(cache.clone(), 0, None, ""))
    });
    let at = at.unwrap();
    cache.write(0, &[1; 16]).unwrap();
    let killed: Arc<dyn Killable> = Arc::new(Killed);
    set_caller(Some(Arc::downgrade(&killed)));
    assert_eq!(w.mm.advise(at, 8 * PAGE_SIZE, MemoryAdvice::MADV_REMOVE), Err(Errno::EINTR));
    assert_eq!(w.mm.advise(at, 8 * PAGE_SIZE, MemoryAdvice::MADV_WILLNEED), Err(Errno::EINTR));
    assert_eq!(w.mm.lock_all(true, false, LockMode::Now, true), Err(Errno::EINTR));
    set_caller(None);
    w.mm.unlock_all();
    assert_eq!(cache.present_bytes(), PAGE_SIZE);
    assert_eq!(w.mm.advise(at, 8 * PAGE_SIZE, MemoryAdvice::MADV_REMOVE), Ok(()));
    assert_eq!(cache.present_bytes(), 0);
    assert_eq!(w.mm.advise(at, 8 * PAGE_SIZE, MemoryAdvice::MADV_WILLNEED), Ok(()));
    assert_eq!(w.mm.advise(at, 9 * PAGE_SIZE, MemoryAdvice::MADV_WILLNEED), Err(Errno::ENOMEM));
}

#[test]
fn what_was_set_aside_and_then_used_stays() {
    let w = world();
    let cache = PageCache::in_memory(w.memory.clone(), 16 << 20);
    let (mut made, mut at) = (Vec::new(), 0);
    while at < 16 << 20 {
        at = cache.reserve_some(at..16 << 20, &mut made).unwrap();
    }
    assert_eq!(cache.present_bytes(), 16 << 20);
    // One page is written, one is mapped, one is reserved twice.
    cache.write(5 << 20, b"kept").unwrap();
    let frames = cache.frames(9 << 20, PAGE_SIZE, true).unwrap();
    cache.reserve_some((13 << 20)..(13 << 20) + PAGE_SIZE, &mut Vec::new()).unwrap();
    cache.release_reserved(made);
    assert_eq!(cache.present_bytes(), 3 * PAGE_SIZE);
    let mut text = [0; 4];
    cache.read(5 << 20, &mut text).unwrap();
    assert_eq!(&text, b"kept");
    drop(frames);
}
