//! A guest address space: its page tables, and who runs in it.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use amber_platform::{AddressSpace, FrameRange, Frames, PlatformError, Protection};
use parking_lot::{Condvar, Mutex};

use crate::answers::SharedAnswers;
use crate::fault;
use crate::layout::{MAILBOX, TRAMPOLINE};
use crate::machine::Machine;
use crate::mailbox::Mailbox;
use crate::residents::Residents;
use crate::table_memory::Table;
use crate::tables::{self, Link, Stale, Tree};

/// A top-level table; processors that have it loaded keep it alive.
pub struct Root {
    machine: Arc<Machine>,
    table: Table,
}

impl Root {
    /// Guest-physical address, for the processor's control register.
    pub fn address(&self) -> u64 {
        self.machine.tables().address(self.table)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.machine.tables().give_back([self.table]);
        self.machine.tidy_tables();
    }
}

/// So often a space may lose all its mappings for want of tables.
const MOST_LOSSES: u32 = 8;

/// What waits until no processor remembers it any more.
struct Garbage {
    /// The change that took it away.
    change: u64,
    frames: Vec<Frames>,
    tables: Vec<Link>,
}

/// A guest address space.
pub struct Space {
    machine: Arc<Machine>,
    root: Arc<Root>,
    tree: Mutex<Tree>,
    /// Number of the last change that processors must take notice of.
    change: AtomicU64,
    residents: Arc<Residents>,
    garbage: Mutex<Vec<Garbage>>,
    /// Threads in [`synchronize`](AddressSpace::synchronize), and what they wait with.
    waiters: AtomicUsize,
    waiting: Mutex<()>,
    progress: Condvar,
    /// How often there was no memory for a table, and whether that made the space unusable.
    losses: AtomicU32,
    broken: AtomicBool,
    answers: Option<SharedAnswers>,
    mailbox: Option<Arc<Mailbox>>,
}

impl Space {
    /// A space without mappings.
    ///
    /// # Errors
    /// There is no memory for its tables.
    pub fn new(machine: &Arc<Machine>) -> Result<Space, PlatformError> {
        let root = Root { machine: machine.clone(), table: machine.new_root()? };
        let mut tree = Tree::new(machine.clone(), root.table);
        let (mut answers, mut mailbox) = (None, None);
        if machine.behaviour().syscall_stays_in_ring_3 {
            let page = answers.insert(SharedAnswers::new(machine)?);
            tree.map_own(TRAMPOLINE, page.address(), tables::trampoline())?;
            let page = mailbox.insert(Arc::new(Mailbox::new(machine)?));
            tree.map_own(MAILBOX, page.address(), tables::mailbox())?;
        }
        Ok(Space {
            machine: machine.clone(),
            root: Arc::new(root),
            tree: Mutex::new(tree),
            change: AtomicU64::new(1),
            residents: Arc::default(),
            garbage: Mutex::default(),
            waiters: AtomicUsize::new(0),
            waiting: Mutex::new(()),
            progress: Condvar::new(),
            losses: AtomicU32::new(0),
            broken: AtomicBool::new(false),
            answers,
            mailbox,
        })
    }

    /// The top-level table.
    pub fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// Number of the last change that processors must take notice of.
    pub fn change(&self) -> u64 {
        self.change.load(Ordering::SeqCst)
    }

    /// Guest-physical address of what a user may read at `address`.
    pub fn find(&self, address: u64) -> Option<u64> {
        self.tree.lock().find(address)
    }

    /// The answers that user code finds by itself, on hosts where that is how it is done.
    pub fn answers(&self) -> Option<&SharedAnswers> {
        self.answers.as_ref()
    }

    /// Where user code hands over calls, on the same hosts.
    pub fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
    }

    /// A copy with the same mappings.
    pub fn copy(&self) -> Result<Space, PlatformError> {
        let child = Space::new(&self.machine)?;
        self.tree.lock().copy_into(&mut child.tree.lock(), self.machine.address_limit())?;
        Ok(child)
    }

    /// Who runs here.
    pub fn residents(&self) -> &Arc<Residents> {
        &self.residents
    }

    /// Says whether guest code can run here.
    ///
    /// # Errors
    /// There was no memory for the space's tables.
    pub fn check(&self) -> Result<(), PlatformError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(fault("no memory for the page tables of a guest process", std::io::ErrorKind::OutOfMemory));
        }
        Ok(())
    }

    /// After a context came out of the guest: gives back what no one remembers any more, and lets threads that synchronize
    /// look again.
    pub fn after_run(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let _waiting = self.waiting.lock();
            self.progress.notify_all();
        }
        if let Some(mut garbage) = self.garbage.try_lock()
            && !garbage.is_empty()
        {
            let known = self.residents.known();
            let (gone, kept) = std::mem::take(&mut *garbage).into_iter().partition(|old| old.change <= known);
            *garbage = kept;
            drop(garbage);
            self.give_back(gone);
        }
    }

    fn give_back(&self, garbage: Vec<Garbage>) {
        for Garbage { frames, tables, .. } in garbage {
            drop(frames);
            for link in tables {
                tables::release(&self.machine, link);
            }
        }
        self.machine.tidy_tables();
    }

    /// Makes processors notice that mappings were taken away.
    fn changed(&self, stale: &Stale) -> u64 {
        if stale.is_empty() {
            return self.change();
        }
        if self.machine.behaviour().host_remembers_tables {
            for run in &stale.runs {
                self.machine.forget(run.start, run.end - run.start);
            }
            return self.change();
        }
        self.change.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Drops what was taken away with a change, as soon as no one remembers it.
    fn discard(&self, change: u64, frames: Vec<Frames>, tables: Vec<Link>) {
        if frames.is_empty() && tables.is_empty() {
            return;
        }
        let garbage = Garbage { change, frames, tables };
        // Where the host remembers tables, it was made to forget, for all processors, before this.
        if self.machine.behaviour().host_remembers_tables || self.residents.known() >= change {
            self.give_back(vec![garbage]);
            return;
        }
        self.garbage.lock().push(garbage);
        // They may have come out before the garbage was there to see.
        self.after_run();
        self.residents.kick_all_before(change);
    }

    /// Works on the tables. Where there is no memory for one more, everything is unmapped, and the guest faults for what
    /// it still needs.
    fn work(&self, work: impl Fn(&mut Tree, &mut Stale) -> Result<(), PlatformError>) -> u64 {
        let mut tree = self.tree.lock();
        let mut stale = Stale::default();
        let done = work(&mut tree, &mut stale);
        if let Err(error) = done {
            log::warn!("a guest process loses its page tables: {error}");
            // Its own tables may be what others lack; but if that does not help, it cannot run.
            let hopeless = self.losses.fetch_add(1, Ordering::Relaxed) >= MOST_LOSSES;
            if hopeless || self.machine.behaviour().host_remembers_tables {
                self.broken.store(true, Ordering::Relaxed);
            } else {
                stale.tables.extend(tree.clear());
            }
        }
        drop(tree);
        let change = self.changed(&stale);
        self.discard(change, Vec::new(), stale.tables);
        change
    }
}

impl AddressSpace for Space {
    fn map(&self, at: u64, frames: FrameRange, protection: Protection) {
        self.work(|tree, stale| tree.map(at, frames, protection, stale));
    }

    fn prefault_hint(&self, frames: FrameRange) {
        self.machine.prefault_hint(frames);
    }

    fn unmap(&self, range: Range<u64>, released: Vec<Frames>) {
        let change =
            if range.is_empty() { self.change() } else { self.work(|tree, stale| tree.unmap(range.clone(), stale)) };
        self.discard(change, released, Vec::new());
    }

    fn teardown(&self, range: Range<u64>, released: Vec<Frames>) {
        // What the host remembers of these tables is found through their root, which no processor will load again. To make it
        // forget would cost other spaces what it remembers of the frames they share.
        if self.machine.behaviour().host_remembers_tables && self.residents.count() == 0 {
            drop(released);
        } else {
            self.unmap(range, released);
        }
    }

    fn protect(&self, range: Range<u64>, protection: Protection) {
        self.work(|tree, stale| tree.protect(range.clone(), protection, stale));
    }

    fn synchronize(&self) {
        if self.machine.behaviour().host_remembers_tables {
            return;
        }
        let target = self.change();
        if self.residents.known() >= target {
            return;
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut waiting = self.waiting.lock();
        loop {
            if !self.residents.kick_all_before(target) {
                break;
            }
            self.progress.wait(&mut waiting);
        }
        drop(waiting);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    fn host_bytes(&self) -> u64 {
        self.tree.lock().count() * self.machine.tables().bytes_each()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        for link in self.tree.get_mut().clear() {
            tables::release(&self.machine, link);
        }
    }
}

#[cfg(test)]
mod tests;
