//! The memory manager of a guest process.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_platform::{AddressSpace, Frames, GuestMemory};

use super::flags::MemoryFlags;
use super::fork_precopy::PrecopyBlocks;
use super::layout::Layout;
use super::limits::MemoryLimits;
use super::runs::{Run, RunMap};
use super::vma::{Vma, VmaFlags, VmaMap};
use super::{Mappable, Mapping};
use crate::aio::AioContexts;
use crate::sync::{Mutex, Rank};

/// The memory of a guest process, or of several that share it.
pub struct MemoryManager {
    pub(super) space: Arc<dyn AddressSpace>,
    pub(super) memory: Arc<GuestMemory>,
    /// First address the guest may not map.
    pub(super) limit: u64,
    pub(super) limits: MemoryLimits,
    pub(super) link: Arc<dyn Mapping>,
    state: Mutex<State>,
    id: u64,
    /// The membarrier(2) registration commands given so far.
    barriers: AtomicU32,
    flags: AtomicU32,
    aio: AioContexts,
}

/// What the lock of an address space protects.
#[derive(Default)]
pub(super) struct State {
    pub areas: VmaMap,
    pub runs: RunMap,
    pub layout: Layout,
    /// What mlockall(2) asked for areas still to come.
    pub lock_future: VmaFlags,
    /// Counts changes of what is mapped.
    pub generation: u64,
    /// The most bytes there ever were in areas.
    pub peak: u64,
    /// The most touched bytes ever seen (taken when asked, and before much goes).
    pub resident_peak: u64,
    /// What is stored to between forks.
    pub precopy: PrecopyBlocks,
    /// Whether the last small area that went had been touched everywhere.
    pub fills_areas: bool,
    /// Areas that went, to be dropped without the lock.
    pub garbage: Vec<Vma>,
}

/// How objects reach an address space without keeping it alive.
struct Link(Weak<MemoryManager>);

impl Mapping for Link {
    fn invalidate(&self, object: &dyn Mappable, offset: u64, len: u64, even_private: bool) {
        if let Some(mm) = self.0.upgrade() {
            mm.invalidate(object, offset, len, even_private);
        }
    }
}

impl MemoryManager {
    /// An empty address space below `limit`.
    pub fn new(
        space: Arc<dyn AddressSpace>,
        memory: Arc<GuestMemory>,
        limit: u64,
        limits: MemoryLimits,
        flags: MemoryFlags,
        layout: Layout,
    ) -> Arc<Self> {
        let state = State { layout, ..State::default() };
        Self::with_state(space, memory, limit, limits, flags, |_| state)
    }

    pub(super) fn with_state(
        space: Arc<dyn AddressSpace>,
        memory: Arc<GuestMemory>,
        limit: u64,
        limits: MemoryLimits,
        flags: MemoryFlags,
        state: impl FnOnce(&Arc<dyn Mapping>) -> State,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new_cyclic(|weak| {
            let link: Arc<dyn Mapping> = Arc::new(Link(weak.clone()));
            let state = Mutex::new(Rank::Memory, state(&link));
            let flags = AtomicU32::new(flags.bits());
            let (barriers, aio) = (AtomicU32::new(0), AioContexts::default());
            MemoryManager { space, memory, limit, limits, link, state, id, barriers, flags, aio }
        })
    }

    /// The platform's side.
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Bytes that the platform and the host keep for it.
    pub fn kernel_bytes(&self) -> u64 {
        self.space.host_bytes()
    }

    /// The frames behind all of it.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// First address the guest may not map.
    pub fn address_limit(&self) -> u64 {
        self.limit
    }

    /// How many areas there may be (`vm.max_map_count`).
    pub(super) fn most_areas(&self) -> usize {
        self.limits.system().max_map_count.count() as usize
    }

    /// The contexts of asynchronous I/O.
    pub fn aio(&self) -> &AioContexts {
        &self.aio
    }

    /// The limits setrlimit(2) changes.
    pub fn limits(&self) -> &MemoryLimits {
        &self.limits
    }

    /// A number no other address space of the sandbox ever had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Notes a registration for membarrier(2).
    pub fn register_barrier(&self, command: u32) {
        self.barriers.fetch_or(command, Ordering::Relaxed);
    }

    /// All registrations for membarrier(2) so far, as bits.
    pub fn barrier_registrations(&self) -> u32 {
        self.barriers.load(Ordering::Relaxed)
    }

    /// The rules prctl(2) set.
    pub fn flags(&self) -> MemoryFlags {
        MemoryFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Adds rules, or takes them away.
    pub fn set_flags(&self, flags: MemoryFlags, on: bool) {
        if on {
            self.flags.fetch_or(flags.bits(), Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flags.bits(), Ordering::Relaxed);
        }
    }

    /// Looks at or changes the places `/proc` and prctl(2) `PR_SET_MM` know.
    pub fn with_layout<R>(&self, f: impl FnOnce(&mut Layout) -> R) -> R {
        self.with(|state| f(&mut state.layout))
    }

    /// Works on the state under its lock. What was behind areas that went is dropped after the lock: a last reference to
    /// a file may do anything.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = work(&mut state);
        let garbage = std::mem::take(&mut state.garbage);
        drop(state);
        drop(garbage);
        result
    }

    /// Maps frames where there are none, in the area of that protection.
    pub(super) fn install(&self, state: &mut State, area: &Vma, at: u64, run: Run) {
        self.space.map(at, run.frames.range(), run.ownership.limit(area.protection));
        state.runs.insert(at, run);
        state.generation += 1;
    }

    /// Puts other frames in the place of present ones.
    pub(super) fn replace(&self, state: &mut State, area: &Vma, at: u64, run: Run) {
        let range = at..at + run.frames.range().len;
        let old = state.runs.take(range.clone());
        self.install(state, area, at, run);
        self.space.unmap(at..at, old.into_iter().map(|(_, run)| run.frames).collect());
    }

    /// Takes the pages of a range away, so that the next touch faults.
    pub(super) fn drop_pages(&self, state: &mut State, range: Range<u64>) {
        let runs = state.runs.take(range.clone());
        self.release(state, range, runs);
    }

    /// Unmaps runs already taken out.
    pub(super) fn release(&self, state: &mut State, range: Range<u64>, runs: Vec<(u64, Run)>) {
        let Some(first) = runs.first().map(|&(at, _)| at) else { return };
        let end = runs.last().map_or(range.end, |(at, run)| at + run.frames.range().len);
        let frames: Vec<Frames> = runs.into_iter().map(|(_, run)| run.frames).collect();
        // Only what is between the first and the last run can be mapped.
        self.space.unmap(first..end, frames);
        state.generation += 1;
    }

    /// Takes areas and their pages away.
    pub(super) fn remove(&self, state: &mut State, range: Range<u64>) {
        self.record_use(state, &range);
        let areas = state.areas.take(range.clone());
        if !areas.is_empty() {
            state.garbage.extend(areas);
            self.drop_pages(state, range);
        }
    }

    fn invalidate(&self, object: &dyn Mappable, offset: u64, len: u64, even_private: bool) {
        let end = offset.saturating_add(len);
        let changed = self.with(|state| {
            let mut parts = state.areas.showing(object, offset..end);
            parts.sort_unstable_by_key(|part| part.start);
            // Neighbours go at once.
            let mut hit: Vec<Range<u64>> = Vec::new();
            for part in parts {
                match hit.last_mut() {
                    Some(last) if last.end == part.start => last.end = part.end,
                    _ => hit.push(part),
                }
            }
            let mut changed = false;
            for range in hit {
                if even_private {
                    changed |= state.runs.pieces(range.clone()).next().is_some();
                    self.drop_pages(state, range);
                } else {
                    let pieces: Vec<Range<u64>> =
                        state.runs.pieces(range).filter(|p| p.ownership.is_of_object()).map(|p| p.range()).collect();
                    for piece in pieces {
                        changed = true;
                        self.drop_pages(state, piece);
                    }
                }
            }
            changed
        });
        if changed {
            self.space.synchronize();
        }
    }
}

impl Drop for MemoryManager {
    fn drop(&mut self) {
        let frames = self.with(|state| state.runs.take_all());
        // The platform drops the frames with the space, when no guest can reach them any more.
        self.space.teardown(0..self.limit, frames);
    }
}
