//! What guests make the sentry and the host's kernel keep beside frames: the heap, page tables, stacks of host threads,
//! processes that stand for address spaces. It counts for a sandbox's limit as frames do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::GuestMemory;
use super::heap::heap_bytes;

/// A kind of memory outside the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPart {
    /// Page tables and other things of an address space.
    PageTables,
    /// Stacks of host threads, and what else the host keeps for each.
    Stacks,
    /// Virtual processors.
    Processors,
    /// Sockets of the host, with their buffers and filters.
    Sockets,
    /// Files of the host that are open, with the inodes they hold, and watches of descriptors.
    Files,
}

/// How many kinds there are.
const PARTS: usize = 5;

/// Bytes of one kind.
#[derive(Debug, Default)]
struct Part {
    all: AtomicU64,
    /// What of them was there before the guest began, which is the sandbox's own.
    before: AtomicU64,
}

impl Part {
    fn of_guest(&self) -> u64 {
        self.all.load(Ordering::Relaxed).saturating_sub(self.before.load(Ordering::Relaxed))
    }
}

/// The account of memory that is no frames.
#[derive(Debug)]
pub(super) struct KernelAccount {
    /// Bytes of the heap that were in use before the guest began.
    heap_before: AtomicU64,
    parts: [Part; PARTS],
    /// Bytes that were handed to sockets of the host since it was last asked what it keeps.
    unsettled: AtomicU64,
}

impl Default for KernelAccount {
    fn default() -> Self {
        let parts = Default::default();
        KernelAccount { heap_before: AtomicU64::new(u64::MAX), parts, unsettled: AtomicU64::new(0) }
    }
}

impl KernelAccount {
    fn part(&self, part: KernelPart) -> &Part {
        &self.parts[part as usize]
    }

    fn heap(&self) -> u64 {
        heap_bytes().saturating_sub(self.heap_before.load(Ordering::Relaxed))
    }
}

/// Bytes of kernel memory by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelUsage {
    /// The sentry's objects.
    pub objects: u64,
    /// Page tables and other things of address spaces.
    pub page_tables: u64,
    /// Stacks.
    pub stacks: u64,
    /// Virtual processors.
    pub processors: u64,
    /// Sockets of the host.
    pub sockets: u64,
    /// Open files of the host, and watches.
    pub files: u64,
}

impl KernelUsage {
    /// All together.
    pub fn total(&self) -> u64 {
        self.objects + self.page_tables + self.stacks + self.processors + self.sockets + self.files
    }
}

impl GuestMemory {
    /// Counts from now on: what is there already is the sandbox's own.
    pub fn count_from_now(&self) {
        self.kernel.heap_before.store(heap_bytes(), Ordering::Relaxed);
        for part in &self.kernel.parts {
            part.before.store(part.all.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Bytes of kernel memory.
    #[inline]
    pub fn kernel_bytes(&self) -> u64 {
        self.kernel.heap() + self.kernel.parts.iter().map(Part::of_guest).sum::<u64>()
    }

    /// The same by parts.
    pub fn kernel_usage(&self) -> KernelUsage {
        let bytes = |part| self.kernel.part(part).of_guest();
        KernelUsage {
            objects: self.kernel.heap(),
            page_tables: bytes(KernelPart::PageTables),
            stacks: bytes(KernelPart::Stacks),
            processors: bytes(KernelPart::Processors),
            sockets: bytes(KernelPart::Sockets),
            files: bytes(KernelPart::Files),
        }
    }

    /// Notes that `bytes` went to the host, which may keep them: they are claimed until they are settled.
    #[inline]
    pub fn add_unsettled(&self, bytes: u64) {
        self.kernel.unsettled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes that were noted and not settled since.
    #[inline]
    pub fn unsettled_bytes(&self) -> u64 {
        self.kernel.unsettled.load(Ordering::Relaxed)
    }

    /// What was noted so far is charged from now on as far as the host keeps it.
    pub fn settle(&self) {
        self.kernel.unsettled.store(0, Ordering::Relaxed);
    }

    /// Counts `bytes` that lie outside the heap until the charge is dropped.
    pub fn charge(self: &Arc<Self>, part: KernelPart, bytes: u64) -> KernelCharge {
        self.kernel.part(part).all.fetch_add(bytes, Ordering::Relaxed);
        KernelCharge { memory: self.clone(), part, bytes: AtomicU64::new(bytes) }
    }
}

/// Bytes counted as kernel memory.
pub struct KernelCharge {
    memory: Arc<GuestMemory>,
    part: KernelPart,
    bytes: AtomicU64,
}

impl KernelCharge {
    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A charge of the same kind to the same memory.
    pub fn another(&self, bytes: u64) -> KernelCharge {
        self.memory.charge(self.part, bytes)
    }

    /// Makes it so many bytes.
    pub fn set(&self, bytes: u64) {
        let old = self.bytes.swap(bytes, Ordering::Relaxed);
        let part = self.memory.kernel.part(self.part);
        part.all.fetch_add(bytes.wrapping_sub(old), Ordering::Relaxed);
    }
}

impl Drop for KernelCharge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_come_and_go() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let stack = memory.charge(KernelPart::Stacks, 100);
        let tables = memory.charge(KernelPart::PageTables, 10);
        tables.set(4);
        assert_eq!(memory.kernel_usage(), KernelUsage { page_tables: 4, stacks: 100, ..Default::default() });
        drop(stack);
        assert_eq!(memory.kernel_bytes(), 4);
        drop(tables);
        assert_eq!(memory.kernel_bytes(), 0);
    }

    #[test]
    fn what_was_there_before_is_not_the_guests() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let tables = memory.charge(KernelPart::PageTables, 10);
        let _processor = memory.charge(KernelPart::Processors, 100);
        memory.count_from_now();
        assert_eq!(memory.kernel_bytes(), 0);
        tables.set(15);
        let another = tables.another(7);
        assert_eq!(memory.kernel_usage(), KernelUsage { page_tables: 12, ..Default::default() });
        drop(another);
        tables.set(3);
        assert_eq!(memory.kernel_bytes(), 0);
    }

    #[test]
    fn what_went_to_the_host_is_claimed_until_it_is_settled() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let socket = memory.charge(KernelPart::Sockets, 10);
        memory.add_unsettled(5);
        memory.add_unsettled(6);
        assert_eq!((memory.claimed_bytes(), memory.kernel_bytes()), (21, 10));
        memory.settle();
        socket.set(17);
        assert_eq!(memory.claimed_bytes(), 17);
        assert_eq!(memory.kernel_usage(), KernelUsage { sockets: 17, ..Default::default() });
    }

    #[test]
    fn kernel_memory_counts_for_the_caps() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory.set_caps(4096, 8192);
        assert!(memory.admit_lasting(4096).is_ok());
        let charge = memory.charge(KernelPart::PageTables, 4096);
        assert!(memory.admit_lasting(1).is_err());
        assert!(memory.admit(4096).is_ok());
        assert!(memory.admit(4097).is_err());
        drop(charge);
        assert!(memory.admit_lasting(1).is_ok());
    }
}
