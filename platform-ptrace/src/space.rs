//! A guest address space: its mappings, and the queue of changes to apply in its stub.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use amber_platform::{
    AddressSpace, FrameRange, Frames, GuestMemory, KernelCharge, KernelPart, PlatformError, Protection,
};
use parking_lot::{Condvar, Mutex};

use crate::context_handle::ContextHandle;
use crate::layout::{ADDRESS_LIMIT, MEMORY_FD};
use crate::mappings::{Extent, Mappings};
use crate::stub::Stub;
use crate::tracee::{Call, Tracee};

/// Below this many mappings, ENOMEM is not a matter of `vm.max_map_count` (65530 by default), so dropping them is no
/// remedy.
const FORGET_THRESHOLD: usize = 1024;

/// Host kernel memory of a stub without mappings, in bytes: the process and its upper page tables.
const PROCESS_BYTES: u64 = 56 << 10;

/// A change to apply in the stub.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Map { at: u64, frames: FrameRange, protection: Protection },
    Unmap { range: Range<u64> },
    Protect { range: Range<u64>, protection: Protection },
}

/// Pending changes, and the mappings as they will be afterwards.
#[derive(Default)]
struct Queue {
    changes: Vec<Change>,
    released: Vec<Frames>,
    mappings: Mappings,
}

impl Queue {
    /// Appends a change, merged into the last one where possible.
    fn push(&mut self, change: Change) {
        match (self.changes.last_mut(), &change) {
            (
                Some(Change::Map { at, frames, protection }),
                Change::Map { at: next, frames: more, protection: same },
            ) if *at + frames.len == *next && frames.end() == more.start && protection == same => {
                frames.len += more.len
            }
            (Some(Change::Unmap { range }), Change::Unmap { range: next }) if range.end == next.start => {
                range.end = next.end;
            }
            (Some(Change::Unmap { range }), Change::Unmap { range: next }) if range.start == next.end => {
                range.start = next.start;
            }
            (Some(Change::Protect { range, protection }), Change::Protect { range: next, protection: same })
                if range.end == next.start && protection == same =>
            {
                range.end = next.end;
            }
            _ => self.changes.push(change),
        }
    }
}

/// A guest address space. Its stub is killed when the space and all tracees in it are dropped.
pub(crate) struct Space {
    stub: Arc<Stub>,
    queue: Mutex<Queue>,
    /// Number of the last change requested, and of the last one applied in the stub.
    requested: AtomicU64,
    applied: AtomicU64,
    /// Held while a thread of the stub applies changes.
    applying: Mutex<()>,
    /// Threads in [`synchronize`](AddressSpace::synchronize), and what they wait on.
    waiters: AtomicUsize,
    waiting: Mutex<()>,
    progress: Condvar,
    /// The host kernel memory of the stub.
    charge: KernelCharge,
}

impl Space {
    /// An empty space in a pristine stub.
    pub(crate) fn new(stub: Stub, memory: &Arc<GuestMemory>) -> Self {
        Self::with(stub, Mappings::default(), 0, memory.charge(KernelPart::PageTables, PROCESS_BYTES))
    }

    fn with(stub: Stub, mappings: Mappings, change: u64, charge: KernelCharge) -> Self {
        charge.set(PROCESS_BYTES + mappings.host_bytes());
        Space {
            stub: Arc::new(stub),
            queue: Mutex::new(Queue { mappings, ..Queue::default() }),
            requested: AtomicU64::new(change),
            applied: AtomicU64::new(change),
            applying: Mutex::new(()),
            waiters: AtomicUsize::new(0),
            waiting: Mutex::new(()),
            progress: Condvar::new(),
            charge,
        }
    }

    /// The process that holds the mappings.
    pub(crate) fn stub(&self) -> &Arc<Stub> {
        &self.stub
    }

    /// Number of the last change if it is applied; `None` if changes are pending.
    pub(crate) fn applied_change(&self) -> Option<u64> {
        let applied = self.applied.load(Ordering::SeqCst);
        (self.requested.load(Ordering::SeqCst) == applied).then_some(applied)
    }

    /// The mapping at `address`, pending changes included.
    pub(crate) fn extent_at(&self, address: u64) -> Option<Extent> {
        self.queue.lock().mappings.at(address)
    }

    /// Applies all pending changes with a stopped thread of the stub.
    pub(crate) fn apply(&self, tracee: &mut Tracee, commands: &GuestMemory) -> Result<(), PlatformError> {
        let _applying = self.applying.lock();
        self.drain(tracee, commands, |_| ()).map(drop)
    }

    /// Forks the stub, with all pending changes applied, by a stopped thread of it.
    pub(crate) fn fork(&self, tracee: &mut Tracee, commands: &Arc<GuestMemory>) -> Result<Space, PlatformError> {
        let _applying = self.applying.lock();
        let (mappings, change) = self.drain(tracee, commands, Mappings::clone)?;
        Ok(Self::with(tracee.clone_process(commands)?, mappings, change, self.charge.another(0)))
    }

    /// Applies the changes in the queue. Returns a snapshot of the mappings at that point and the number of the last
    /// change.
    fn drain<T>(
        &self,
        tracee: &mut Tracee,
        commands: &GuestMemory,
        snapshot: impl Fn(&Mappings) -> T,
    ) -> Result<(T, u64), PlatformError> {
        loop {
            let (changes, released, seen, change) = {
                let mut queue = self.queue.lock();
                let changes = std::mem::take(&mut queue.changes);
                let released = std::mem::take(&mut queue.released);
                (changes, released, snapshot(&queue.mappings), self.requested.load(Ordering::SeqCst))
            };
            let calls: Vec<Call> = changes.iter().map(call).collect();
            match tracee.calls(commands, &calls) {
                Ok(()) => {
                    // Before a thread in `synchronize` goes on, which may need their memory.
                    drop(released);
                    self.applied.store(change, Ordering::SeqCst);
                    self.notify_waiters();
                    return Ok((seen, change));
                }
                Err(error) => {
                    self.requeue(changes, released);
                    if error.source.raw_os_error() != Some(libc::ENOMEM) || !self.forget(&error) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Puts back changes of which an unknown number was applied; applying one twice is harmless. Until all are applied,
    /// other threads of the stub may still reach the released frames.
    fn requeue(&self, mut changes: Vec<Change>, mut released: Vec<Frames>) {
        let mut queue = self.queue.lock();
        changes.append(&mut queue.changes);
        queue.changes = changes;
        released.append(&mut queue.released);
        queue.released = released;
    }

    /// Unmaps everything after the host has refused further mappings: the guest then faults for what it still needs.
    /// Returns false, with nothing changed, if there are too few mappings for this to help.
    fn forget(&self, error: &PlatformError) -> bool {
        let mut queue = self.queue.lock();
        let worth = queue.mappings.len() >= FORGET_THRESHOLD;
        if worth {
            log::debug!("forgetting {} mappings: {error}", queue.mappings.len());
            queue.mappings = Mappings::default();
            self.update_charge(&queue);
            queue.changes = vec![Change::Unmap { range: 0..ADDRESS_LIMIT }];
            self.next_change();
        }
        worth
    }

    /// Lets the threads in `synchronize` check again, after changes were applied or a thread left the guest.
    pub(crate) fn notify_waiters(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let _waiting = self.waiting.lock();
            self.progress.notify_all();
        }
    }

    /// The released frames, if no thread of the stub runs guest code; otherwise one that does.
    ///
    /// The stub's mappings of these frames stay until one of its threads applies the changes, which it does before it
    /// runs guest code. A process that sleeps for long must not keep memory that was reclaimed from it.
    fn take_unreachable(&self) -> Result<Vec<Frames>, Arc<ContextHandle>> {
        // Changes come with their number under this lock: a thread that starts after the look finds them pending.
        let mut queue = self.queue.lock();
        match self.stub.handles().into_iter().find(|handle| handle.run_state.is_running()) {
            Some(running) => Err(running),
            None => Ok(std::mem::take(&mut queue.released)),
        }
    }

    /// Charges for the current mappings. Called with the queue locked.
    fn update_charge(&self, queue: &Queue) {
        self.charge.set(PROCESS_BYTES + queue.mappings.host_bytes());
    }

    /// Allocates the number of a change. Called with the queue locked.
    fn next_change(&self) -> u64 {
        self.requested.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl AddressSpace for Space {
    fn map(&self, at: u64, frames: FrameRange, protection: Protection) {
        let mut queue = self.queue.lock();
        let change = self.requested.load(Ordering::SeqCst) + 1;
        if queue.mappings.insert(at, frames, protection, change) {
            self.next_change();
            self.update_charge(&queue);
            queue.push(Change::Map { at, frames, protection });
        }
    }

    fn unmap(&self, range: Range<u64>, released: Vec<Frames>) {
        let mut queue = self.queue.lock();
        if queue.mappings.remove(range.clone()) {
            self.next_change();
            self.update_charge(&queue);
            queue.push(Change::Unmap { range });
        } else if self.applied_change().is_some() {
            // The frames were already unreachable. Free them without the lock.
            drop(queue);
            drop(released);
            return;
        } else {
            // A pending change may be the one that makes them unreachable.
            self.next_change();
        }
        queue.released.extend(released);
    }

    fn protect(&self, range: Range<u64>, protection: Protection) {
        let mut queue = self.queue.lock();
        let change = self.requested.load(Ordering::SeqCst) + 1;
        let changed = queue.mappings.protect(range, protection, change);
        if !changed.is_empty() {
            self.next_change();
        }
        for range in changed {
            queue.push(Change::Protect { range, protection });
        }
        self.update_charge(&queue);
    }

    fn synchronize(&self) {
        let target = self.requested.load(Ordering::SeqCst);
        let reached = || self.applied.load(Ordering::SeqCst) >= target;
        if reached() {
            return;
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut waiting = self.waiting.lock();
        let mut released = Vec::new();
        while !reached() {
            match self.take_unreachable() {
                Ok(frames) => {
                    released = frames;
                    break;
                }
                Err(running) => {
                    running.kick();
                    self.progress.wait(&mut waiting);
                }
            }
        }
        drop(waiting);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        drop(released);
    }

    fn host_bytes(&self) -> u64 {
        self.charge.bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The `PROT_*` bits. On x86, write and execute permission imply read permission.
fn bits(protection: Protection) -> u64 {
    let bit = |on: bool, bit: i32| if on { bit as u64 } else { 0 };
    let readable = protection.read || protection.write || protection.execute;
    bit(readable, libc::PROT_READ) | bit(protection.write, libc::PROT_WRITE) | bit(protection.execute, libc::PROT_EXEC)
}

/// The system call that makes a change.
fn call(change: &Change) -> Call {
    match change {
        Change::Map { at, frames, protection } => {
            let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
            let arguments = [*at, frames.len, bits(*protection), flags, MEMORY_FD as u64, frames.start];
            Call { number: libc::SYS_mmap, arguments }
        }
        Change::Unmap { range } => {
            Call { number: libc::SYS_munmap, arguments: [range.start, range.end - range.start, 0, 0, 0, 0] }
        }
        Change::Protect { range, protection } => Call {
            number: libc::SYS_mprotect,
            arguments: [range.start, range.end - range.start, bits(*protection), 0, 0, 0],
        },
    }
}
