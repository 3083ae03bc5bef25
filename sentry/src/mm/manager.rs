//! The memory manager of a process.

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

/// An address space, of one process or of several that share it.
pub(crate) struct MemoryManager {
    pub(super) space: Arc<dyn AddressSpace>,
    pub(super) memory: Arc<GuestMemory>,
    /// The first address that cannot be mapped.
    pub(super) limit: u64,
    pub(super) limits: MemoryLimits,
    pub(super) link: Arc<dyn Mapping>,
    state: Mutex<State>,
    id: u64,
    /// The membarrier(2) registrations.
    barriers: AtomicU32,
    flags: AtomicU32,
    aio: AioContexts,
}

/// The state behind the lock of an address space.
#[derive(Default)]
pub(super) struct State {
    pub areas: VmaMap,
    pub runs: RunMap,
    pub layout: Layout,
    /// The flags that mlockall(2) sets on future VMAs.
    pub lock_future: VmaFlags,
    /// Incremented by each change of mappings.
    pub generation: u64,
    /// Peak of the bytes in all VMAs (`VmPeak`).
    pub peak: u64,
    /// Peak of the resident bytes seen (`VmHWM`). It is measured on demand and before much memory is unmapped.
    pub resident_peak: u64,
    /// Memory stored to between forks.
    pub precopy: PrecopyBlocks,
    /// Whether all pages of the small VMA unmapped last were in use.
    pub fills_areas: bool,
    /// Removed VMAs, to be dropped without the lock.
    pub garbage: Vec<Vma>,
}

/// The link from objects to an address space, which does not keep it alive.
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
    pub(crate) fn new(
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

    /// The address space of the platform.
    pub(crate) fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Host memory used by the platform and the host for it, in bytes.
    pub(crate) fn kernel_bytes(&self) -> u64 {
        self.space.host_bytes()
    }

    /// The guest memory that the frames come from.
    pub(crate) fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// The first address that cannot be mapped.
    pub(crate) fn address_limit(&self) -> u64 {
        self.limit
    }

    /// The maximum number of VMAs (`vm.max_map_count`).
    pub(super) fn most_areas(&self) -> usize {
        self.limits.system().max_map_count.count() as usize
    }

    /// The contexts of asynchronous I/O (io_setup(2)).
    pub(crate) fn aio(&self) -> &AioContexts {
        &self.aio
    }

    /// The resource limits.
    pub(crate) fn limits(&self) -> &MemoryLimits {
        &self.limits
    }

    /// A number unique among all address spaces of the sandbox.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Registers for membarrier(2).
    pub(crate) fn register_barrier(&self, command: u32) {
        self.barriers.fetch_or(command, Ordering::Relaxed);
    }

    /// All registrations for membarrier(2), as bits.
    pub(crate) fn barrier_registrations(&self) -> u32 {
        self.barriers.load(Ordering::Relaxed)
    }

    /// The flags set by prctl(2).
    pub(crate) fn flags(&self) -> MemoryFlags {
        MemoryFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Sets or clears flags.
    pub(crate) fn set_flags(&self, flags: MemoryFlags, on: bool) {
        if on {
            self.flags.fetch_or(flags.bits(), Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flags.bits(), Ordering::Relaxed);
        }
    }

    /// Reads or changes the layout, for `/proc` and prctl(2) `PR_SET_MM`.
    pub(crate) fn with_layout<R>(&self, f: impl FnOnce(&mut Layout) -> R) -> R {
        self.with(|state| f(&mut state.layout))
    }

    /// Runs `work` on the state under the lock. Removed VMAs are dropped after unlocking, since dropping the last
    /// reference to a file can run arbitrary code.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = work(&mut state);
        let garbage = std::mem::take(&mut state.garbage);
        drop(state);
        drop(garbage);
        result
    }

    /// Maps frames in a range without runs, with the protection of the VMA.
    pub(super) fn install(&self, state: &mut State, area: &Vma, at: u64, run: Run) {
        self.space.map(at, run.frames.range(), run.ownership.limit(area.protection));
        state.runs.insert(at, run);
        state.generation += 1;
    }

    /// Replaces present frames by others.
    pub(super) fn replace(&self, state: &mut State, area: &Vma, at: u64, run: Run) {
        let range = at..at + run.frames.range().len;
        let old = state.runs.take(range.clone());
        self.install(state, area, at, run);
        self.space.unmap(at..at, old.into_iter().map(|(_, run)| run.frames).collect());
    }

    /// Unmaps the pages of a range, so that the next access faults.
    pub(super) fn drop_pages(&self, state: &mut State, range: Range<u64>) {
        let runs = state.runs.take(range.clone());
        self.release(state, range, runs);
    }

    /// Unmaps runs that are already removed from the map.
    pub(super) fn release(&self, state: &mut State, range: Range<u64>, runs: Vec<(u64, Run)>) {
        let Some(first) = runs.first().map(|&(at, _)| at) else { return };
        let end = runs.last().map_or(range.end, |(at, run)| at + run.frames.range().len);
        let frames: Vec<Frames> = runs.into_iter().map(|(_, run)| run.frames).collect();
        // Nothing is mapped outside of the first and the last run.
        self.space.unmap(first..end, frames);
        state.generation += 1;
    }

    /// Removes VMAs and their pages.
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
            // Adjacent parts are invalidated together.
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
        // The platform drops the frames with the address space, when no guest can reach them.
        self.space.teardown(0..self.limit, frames);
    }
}
