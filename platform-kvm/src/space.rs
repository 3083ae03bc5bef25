//! A guest address space: its page tables, and the contexts that run in it.
//!
//! See docs/internals/tlb-generations.md.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use amber_platform::{AddressSpace, FrameRange, Frames, PlatformError, Protection};
use parking_lot::{Condvar, Mutex};

use crate::active_contexts::ActiveContexts;
use crate::answers::SharedAnswers;
use crate::layout::{ADDRESS_LIMIT, TRAMPOLINE};
use crate::machine::Machine;
use crate::platform_error;
use crate::table_allocator::Table;
use crate::tables::{self, FlushSet, PageTables, TableRef};

/// A top-level table. vCPUs that have it loaded keep it alive.
pub(crate) struct TopLevelTable {
    machine: Arc<Machine>,
    table: Table,
}

impl TopLevelTable {
    /// Guest-physical address, as in CR3.
    pub(crate) fn address(&self) -> u64 {
        self.machine.tables().address(self.table)
    }
}

impl Drop for TopLevelTable {
    fn drop(&mut self) {
        self.machine.tables().give_back([self.table]);
        self.machine.tidy_tables();
    }
}

/// How often a space may lose all its mappings for lack of page tables before it counts as unusable.
const MAX_LOSSES: u32 = 8;

/// Frames and tables that can be freed once no TLB holds an entry that leads to them.
struct Garbage {
    /// The generation that removed them.
    generation: u64,
    frames: Vec<Frames>,
    tables: Vec<TableRef>,
}

/// A guest address space.
pub(crate) struct Space {
    machine: Arc<Machine>,
    root: Arc<TopLevelTable>,
    tables: Mutex<PageTables>,
    /// Counts the changes that remove something a TLB may hold. A vCPU flushes its TLB when it enters with an older one.
    tlb_generation: AtomicU64,
    active_contexts: Arc<ActiveContexts>,
    garbage: Mutex<Vec<Garbage>>,
    /// Threads in [`synchronize`](AddressSpace::synchronize), and what they block on.
    waiters: AtomicUsize,
    waiting: Mutex<()>,
    progress: Condvar,
    /// How often there was no memory for a table, and whether the space is unusable because of it.
    losses: AtomicU32,
    broken: AtomicBool,
    answers: Option<SharedAnswers>,
}

impl Space {
    /// A space without mappings.
    ///
    /// # Errors
    /// There is no memory for its tables.
    pub(crate) fn new(machine: &Arc<Machine>) -> Result<Space, PlatformError> {
        let root = TopLevelTable { machine: machine.clone(), table: machine.new_root()? };
        let mut tables = PageTables::new(machine.clone(), root.table);
        let mut answers = None;
        if machine.quirks().syscall_stays_in_ring_3 {
            let page = answers.insert(SharedAnswers::new(machine)?);
            tables.map_own(TRAMPOLINE, page.address(), tables::trampoline())?;
        }
        Ok(Space {
            machine: machine.clone(),
            root: Arc::new(root),
            tables: Mutex::new(tables),
            tlb_generation: AtomicU64::new(1),
            active_contexts: Arc::default(),
            garbage: Mutex::default(),
            waiters: AtomicUsize::new(0),
            waiting: Mutex::new(()),
            progress: Condvar::new(),
            losses: AtomicU32::new(0),
            broken: AtomicBool::new(false),
            answers,
        })
    }

    /// The top-level table.
    pub(crate) fn root(&self) -> &Arc<TopLevelTable> {
        &self.root
    }

    /// The current TLB generation: vCPUs that run the space must have flushed since it began.
    pub(crate) fn tlb_generation(&self) -> u64 {
        self.tlb_generation.load(Ordering::SeqCst)
    }

    /// The guest-physical address of a byte at `address` that user code may read.
    pub(crate) fn find(&self, address: u64) -> Option<u64> {
        self.tables.lock().find(address)
    }

    /// The page of constant results that the trampoline reads, on hosts where system calls stay in ring 3.
    pub(crate) fn answers(&self) -> Option<&SharedAnswers> {
        self.answers.as_ref()
    }

    /// A copy with the same mappings.
    pub(crate) fn copy(&self) -> Result<Space, PlatformError> {
        let child = Space::new(&self.machine)?;
        self.tables.lock().copy_into(&mut child.tables.lock(), ADDRESS_LIMIT)?;
        Ok(child)
    }

    /// The contexts whose last run was in this space.
    pub(crate) fn active_contexts(&self) -> &Arc<ActiveContexts> {
        &self.active_contexts
    }

    /// # Errors
    /// The space is unusable: there was no memory for its tables.
    pub(crate) fn check(&self) -> Result<(), PlatformError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(platform_error(
                "no memory for the page tables of a guest process",
                std::io::ErrorKind::OutOfMemory,
            ));
        }
        Ok(())
    }

    /// Called when a context has left the guest: frees garbage that no TLB holds any more, and wakes threads in
    /// [`synchronize`](AddressSpace::synchronize).
    pub(crate) fn after_run(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let _waiting = self.waiting.lock();
            self.progress.notify_all();
        }
        if let Some(mut garbage) = self.garbage.try_lock()
            && !garbage.is_empty()
        {
            let known = self.active_contexts.oldest_generation();
            let (gone, kept) = std::mem::take(&mut *garbage).into_iter().partition(|old| old.generation <= known);
            *garbage = kept;
            drop(garbage);
            self.give_back(gone);
        }
    }

    fn give_back(&self, garbage: Vec<Garbage>) {
        for Garbage { frames, tables, .. } in garbage {
            drop(frames);
            for table in tables {
                tables::release(&self.machine, table);
            }
        }
        self.machine.tidy_tables();
    }

    /// Begins a new TLB generation if the change removed entries that a TLB may hold; gives the generation of the change.
    fn changed(&self, flush: &FlushSet) -> u64 {
        if flush.is_empty() {
            return self.tlb_generation();
        }
        if self.machine.quirks().host_caches_tables {
            for run in &flush.runs {
                self.machine.invalidate(run.start, run.end - run.start);
            }
            return self.tlb_generation();
        }
        self.tlb_generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Frees what a change of this generation removed, as soon as no TLB holds it.
    fn discard(&self, generation: u64, frames: Vec<Frames>, tables: Vec<TableRef>) {
        if frames.is_empty() && tables.is_empty() {
            return;
        }
        let garbage = Garbage { generation, frames, tables };
        // A host that caches tables has dropped its copies for all vCPUs before this.
        if self.machine.quirks().host_caches_tables || self.active_contexts.oldest_generation() >= generation {
            self.give_back(vec![garbage]);
            return;
        }
        self.garbage.lock().push(garbage);
        // The contexts may have left the guest before the garbage was queued.
        self.after_run();
        self.active_contexts.kick_all_before(generation);
    }

    /// Changes the tables and gives the generation of the change. If there is no memory for a table, everything is unmapped, and
    /// the guest faults for what it still needs.
    fn update(&self, change: impl Fn(&mut PageTables, &mut FlushSet) -> Result<(), PlatformError>) -> u64 {
        let mut tables = self.tables.lock();
        let mut flush = FlushSet::default();
        let done = change(&mut tables, &mut flush);
        if let Err(error) = done {
            log::warn!("dropping the page tables of a guest process: {error}");
            // Freeing its own tables may help; if it has not helped repeatedly, the space cannot run.
            let give_up = self.losses.fetch_add(1, Ordering::Relaxed) >= MAX_LOSSES;
            if give_up || self.machine.quirks().host_caches_tables {
                self.broken.store(true, Ordering::Relaxed);
            } else {
                flush.tables.extend(tables.clear());
            }
        }
        drop(tables);
        let generation = self.changed(&flush);
        self.discard(generation, Vec::new(), flush.tables);
        generation
    }
}

impl AddressSpace for Space {
    fn map(&self, at: u64, frames: FrameRange, protection: Protection) {
        self.update(|tables, flush| tables.map(at, frames, protection, flush));
    }

    fn prefault_hint(&self, frames: FrameRange) {
        self.machine.prefault_hint(frames);
    }

    fn unmap(&self, range: Range<u64>, released: Vec<Frames>) {
        let generation = if range.is_empty() {
            self.tlb_generation()
        } else {
            self.update(|tables, flush| tables.unmap(range.clone(), flush))
        };
        self.discard(generation, released, Vec::new());
    }

    fn teardown(&self, range: Range<u64>, released: Vec<Frames>) {
        // The host finds its cached copies through the top-level table, which no vCPU will load again. Invalidating them
        // would also drop those of other spaces that share the frames.
        if self.machine.quirks().host_caches_tables && self.active_contexts.count() == 0 {
            drop(released);
        } else {
            self.unmap(range, released);
        }
    }

    fn protect(&self, range: Range<u64>, protection: Protection) {
        self.update(|tables, flush| tables.protect(range.clone(), protection, flush));
    }

    fn synchronize(&self) {
        if self.machine.quirks().host_caches_tables {
            return;
        }
        let target = self.tlb_generation();
        if self.active_contexts.oldest_generation() >= target {
            return;
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut waiting = self.waiting.lock();
        loop {
            if !self.active_contexts.kick_all_before(target) {
                break;
            }
            self.progress.wait(&mut waiting);
        }
        drop(waiting);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    fn host_bytes(&self) -> u64 {
        self.tables.lock().count() * self.machine.tables().bytes_each()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        for table in self.tables.get_mut().clear() {
            tables::release(&self.machine, table);
        }
    }
}

#[cfg(test)]
mod tests;
