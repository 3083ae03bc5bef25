//! Kernel memory: what the sentry and the host's kernel keep for guests besides frames, such as heap objects, page
//! tables, stacks of host threads and stub processes. It counts towards a sandbox's limit like frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::GuestMemory;
use super::heap::heap_bytes;

/// A kind of kernel memory outside the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPart {
    /// Page tables and other memory per address space.
    PageTables,
    /// Stacks of host threads, and what else the host keeps per thread.
    Stacks,
    /// vCPUs.
    Vcpus,
    /// Host sockets, with their buffers and filters.
    Sockets,
    /// Open host files, with the inodes that they hold, descriptor watches, and long polls of host descriptors.
    Files,
}

/// Number of kinds.
const PARTS: usize = 5;

/// The bytes of one kind.
#[derive(Debug, Default)]
struct Part {
    all: AtomicU64,
    /// The part of `all` from before the guest started, which belongs to the sandbox.
    before: AtomicU64,
}

impl Part {
    fn of_guest(&self) -> u64 {
        self.all.load(Ordering::Relaxed).saturating_sub(self.before.load(Ordering::Relaxed))
    }
}

/// The account of kernel memory.
#[derive(Debug)]
pub(super) struct KernelAccount {
    /// Bytes of the heap that were in use before the guest began, less the slack that is charged: one sum, so that
    /// each look at what is claimed has one number less to add.
    heap_before: AtomicI64,
    /// What the allocator keeps beside the blocks in use, as far as it is charged.
    slack: AtomicU64,
    /// Page tables lie in this process's own memory.
    tables_inside: AtomicBool,
    parts: [Part; PARTS],
    /// Bytes passed to host sockets since the host was last asked what it keeps.
    unsettled: AtomicU64,
}

impl Default for KernelAccount {
    fn default() -> Self {
        let parts = Default::default();
        KernelAccount {
            heap_before: AtomicI64::new(i64::MAX),
            slack: AtomicU64::new(0),
            tables_inside: AtomicBool::new(false),
            parts,
            unsettled: AtomicU64::new(0),
        }
    }
}

impl KernelAccount {
    fn part(&self, part: KernelPart) -> &Part {
        &self.parts[part as usize]
    }

    /// The heap with its slack.
    fn heap(&self) -> u64 {
        let before = self.heap_before.load(Ordering::Relaxed);
        heap_bytes().cast_signed().saturating_sub(before).max(0).cast_unsigned()
    }

    fn objects(&self) -> u64 {
        self.heap().saturating_sub(self.slack.load(Ordering::Relaxed))
    }
}

/// Bytes of kernel memory by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelUsage {
    /// Heap objects of the sentry.
    pub objects: u64,
    /// Free memory that the allocator keeps between them, as far as it is charged.
    pub slack: u64,
    /// Page tables and other memory per address space.
    pub page_tables: u64,
    /// Stacks and other memory per host thread.
    pub stacks: u64,
    /// vCPUs.
    pub vcpus: u64,
    /// Host sockets.
    pub sockets: u64,
    /// Open host files, and descriptor watches.
    pub files: u64,
}

impl KernelUsage {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.objects + self.slack + self.page_tables + self.stacks + self.vcpus + self.sockets + self.files
    }
}

impl GuestMemory {
    /// Starts counting: what exists already belongs to the sandbox and not to the guest.
    pub fn count_from_now(&self) {
        self.kernel.slack.store(0, Ordering::Relaxed);
        self.kernel.heap_before.store(heap_bytes().cast_signed(), Ordering::Relaxed);
        for part in &self.kernel.parts {
            part.before.store(part.all.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Bytes of kernel memory.
    #[inline]
    pub fn kernel_bytes(&self) -> u64 {
        self.kernel.heap() + self.kernel.parts.iter().map(Part::of_guest).sum::<u64>()
    }

    /// The same by purpose.
    pub fn kernel_usage(&self) -> KernelUsage {
        let bytes = |part| self.kernel.part(part).of_guest();
        KernelUsage {
            objects: self.kernel.objects(),
            slack: self.kernel.slack.load(Ordering::Relaxed),
            page_tables: bytes(KernelPart::PageTables),
            stacks: bytes(KernelPart::Stacks),
            vcpus: bytes(KernelPart::Vcpus),
            sockets: bytes(KernelPart::Sockets),
            files: bytes(KernelPart::Files),
        }
    }

    /// Charges `bytes` in all for memory that the allocator keeps beside the blocks in use.
    pub fn set_slack(&self, bytes: u64) {
        let old = self.kernel.slack.swap(bytes, Ordering::Relaxed);
        self.kernel.heap_before.fetch_add(old.cast_signed().wrapping_sub(bytes.cast_signed()), Ordering::Relaxed);
    }

    /// Page tables are charged for this process's own memory, not for that of others.
    pub fn set_tables_inside(&self) {
        self.kernel.tables_inside.store(true, Ordering::Relaxed);
    }

    /// The charges for private memory of this process.
    pub fn private_bytes(&self) -> u64 {
        let tables = self.kernel.tables_inside.load(Ordering::Relaxed);
        let tables = if tables { self.kernel.part(KernelPart::PageTables).of_guest() } else { 0 };
        self.kernel.objects() + self.kernel.part(KernelPart::Stacks).of_guest() + tables
    }

    /// Records that `bytes` were passed to the host, which may keep them. They are claimed until
    /// [`settle`](Self::settle).
    #[inline]
    pub fn add_unsettled(&self, bytes: u64) {
        self.kernel.unsettled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes recorded since the last [`settle`](Self::settle).
    #[inline]
    pub fn unsettled_bytes(&self) -> u64 {
        self.kernel.unsettled.load(Ordering::Relaxed)
    }

    /// Forgets the recorded bytes, because what the host keeps of them is charged from now on.
    pub fn settle(&self) {
        self.kernel.unsettled.store(0, Ordering::Relaxed);
    }

    /// Charges `bytes` outside the heap until the charge is dropped.
    pub fn charge(self: &Arc<Self>, part: KernelPart, bytes: u64) -> KernelCharge {
        self.kernel.part(part).all.fetch_add(bytes, Ordering::Relaxed);
        KernelCharge { memory: self.clone(), part, bytes: AtomicU64::new(bytes) }
    }
}

/// A charge to kernel memory.
pub struct KernelCharge {
    memory: Arc<GuestMemory>,
    part: KernelPart,
    bytes: AtomicU64,
}

impl KernelCharge {
    /// The charge in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Another charge of the same kind to the same memory.
    pub fn another(&self, bytes: u64) -> KernelCharge {
        self.memory.charge(self.part, bytes)
    }

    /// Changes the charge to `bytes`.
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
        let _vcpu = memory.charge(KernelPart::Vcpus, 100);
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
    fn slack_is_charged_beside_the_objects() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory.count_from_now();
        let _stack = memory.charge(KernelPart::Stacks, 100);
        let _tables = memory.charge(KernelPart::PageTables, 10);
        memory.set_slack(4096);
        let expected = KernelUsage { slack: 4096, stacks: 100, page_tables: 10, ..Default::default() };
        assert_eq!(memory.kernel_usage(), expected);
        assert_eq!((memory.kernel_bytes(), memory.private_bytes()), (expected.total(), 100));
        memory.set_tables_inside();
        memory.set_slack(1024);
        assert_eq!((memory.kernel_bytes(), memory.private_bytes()), (1134, 110));
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
