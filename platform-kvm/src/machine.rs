//! The virtual machine of a sandbox: its memory, the stub, and the descriptor tables.

use std::io::{Cursor, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use amber_platform::{Counters, FrameRange, GuestMemory, PAGE_SIZE, PlatformError};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VmFd};
use linux_loader::loader::{Elf, KernelLoader};
use parking_lot::Mutex;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::guest_phys_window::GuestPhysWindow;
use crate::layout::{AREA_BYTES, AREAS, COMMON, GDT, GUEST_BASE, IDT, TABLES_BASE, TABLES_BYTES, code, selector};
use crate::platform_error;
use crate::quirks::{Detected, HostQuirks};
use crate::table_allocator::{Table, TableAllocator};
use crate::tables::{self, Kernel};

/// The ring-0 stub, linked by the build script.
const STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub.elf"));
/// The version of the KVM interface. It has been 12 since Linux 2.6.22 (KVM_GET_API_VERSION).
const API_VERSION: i32 = 12;
/// Capabilities that the platform needs.
const NEEDED: [(Cap, &str); 4] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::Xsave, "KVM_CAP_XSAVE"),
];
/// Where older Intel processors keep three pages for emulating real mode (KVM_SET_TSS_ADDR).
const TSS_ADDRESS: usize = 0xfffb_d000;
/// Memory slots reserved for everything but guest memory.
const OWN_SLOTS: u64 = 80;

/// A virtual machine.
pub(crate) struct Machine {
    kvm: Kvm,
    vm: VmFd,
    /// The CPU features that KVM supports in guests.
    supported: CpuId,
    tables: TableAllocator,
    guest: GuestPhysWindow,
    memory: Arc<GuestMemory>,
    next_slot: AtomicU32,
    kernel: Mutex<Kernel>,
    /// Counts of exits by reason.
    pub counters: Counters,
    /// The quirks detected so far.
    pub detected: Detected,
}

impl Machine {
    /// Makes a machine for guests whose memory is `memory`.
    ///
    /// # Errors
    /// `/dev/kvm` is missing, access is denied, or it lacks something that the platform needs.
    pub(crate) fn new(memory: Arc<GuestMemory>) -> Result<Machine, PlatformError> {
        let kvm = open()?;
        let vm = kvm.create_vm().map_err(|error| {
            let advice = match error.errno() {
                libc::EBUSY => " (does another hypervisor use the processor?)",
                libc::ENOMEM => " (is the host out of memory?)",
                _ => "",
            };
            platform_error(format_args!("making a virtual machine{advice}"), error)
        })?;
        if kvm.check_extension(Cap::SetTssAddr) {
            vm.set_tss_address(TSS_ADDRESS).map_err(|e| platform_error("placing the machine's TSS", e))?;
        }
        let supported =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(|e| platform_error("KVM_GET_SUPPORTED_CPUID", e))?;
        let slots = (kvm.get_nr_memslots() as u64).saturating_sub(OWN_SLOTS);
        if slots == 0 {
            let text = format!("only {} memory slots; use --platform ptrace", kvm.get_nr_memslots());
            return Err(platform_error(text, ErrorKind::Unsupported));
        }
        let region = MmapRegion::<()>::new(TABLES_BYTES as usize)
            .map_err(|e| platform_error("reserving table memory", std::io::Error::other(e.to_string())))?;
        load_stub(&region)?;
        let tables = TableAllocator::new(GuestPhysWindow::new(TABLES_BASE, region, OWN_SLOTS - 8), &memory)?;
        let guest = GuestPhysWindow::new(GUEST_BASE, map_guest(&memory)?, slots);
        let next_slot = AtomicU32::new(1);
        let kernel = Mutex::new(Kernel::default());
        let machine = Machine {
            kvm,
            vm,
            supported,
            tables,
            guest,
            memory,
            next_slot,
            kernel,
            counters: Counters::default(),
            detected: Detected::default(),
        };
        machine.provide_tables(0)?;
        machine.make_kernel()?;
        Ok(machine)
    }

    /// The open `/dev/kvm`.
    pub(crate) fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// The KVM virtual machine.
    pub(crate) fn vm(&self) -> &VmFd {
        &self.vm
    }

    /// The CPU features that KVM supports in guests.
    pub(crate) fn supported(&self) -> &CpuId {
        &self.supported
    }

    /// The memory for page tables.
    pub(crate) fn tables(&self) -> &TableAllocator {
        &self.tables
    }

    /// The memory of the guests.
    pub(crate) fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// The quirks of this host, as far as they are detected.
    pub(crate) fn quirks(&self) -> HostQuirks {
        self.detected.get()
    }

    /// The page with the stub.
    pub(crate) fn stub(&self) -> Table {
        self.tables.at(TABLES_BASE)
    }

    /// Checks that vCPUs can address all memory.
    ///
    /// # Errors
    /// They have too few physical address bits.
    pub(crate) fn check_physical_bits(&self, bits: u32) -> Result<(), PlatformError> {
        let needed = self.guest.address(self.memory.limit());
        if bits < 64 && needed > 1 << bits {
            let text = format!("vCPUs have {bits} bits of physical address, too few for {needed:#x} bytes of memory");
            return Err(platform_error(text, ErrorKind::Unsupported));
        }
        Ok(())
    }

    /// Guest-physical address of frames, whose memory slots are added if necessary.
    pub(crate) fn guest_address(&self, frames: FrameRange) -> Result<u64, PlatformError> {
        self.guest.provide(&self.vm, &self.next_slot, frames.start, frames.len)?;
        Ok(self.guest.address(frames.start))
    }

    /// Offset in guest memory of a guest-physical address.
    pub(crate) fn guest_offset(&self, address: u64) -> Option<u64> {
        self.guest.offset(address)
    }

    /// Drops KVM's mappings of a guest-physical range, and the host's copies of page table entries that refer to it.
    pub(crate) fn invalidate(&self, address: u64, len: u64) {
        if let Some(offset) = self.guest.offset(address) {
            self.guest.invalidate(offset, len);
        }
    }

    /// See [`AddressSpace::prefault_hint`](amber_platform::AddressSpace::prefault_hint).
    pub(crate) fn prefault_hint(&self, frames: FrameRange) {
        self.guest.populate(frames.start, frames.len);
    }

    /// Drops the host's copies of all page tables, as KVM does when a memory slot is deleted.
    pub(crate) fn invalidate_all_tables(&self) -> Result<(), PlatformError> {
        let slot = self.next_slot.fetch_add(1, Ordering::Relaxed);
        for memory_size in [PAGE_SIZE, 0] {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: PAGE_SIZE,
                memory_size,
                userspace_addr: self.tables.window().mapping().as_ptr() as u64,
            };
            // SAFETY: as for the window's slots; the page holds the stub's code, and no page table names this address.
            unsafe { self.vm.set_user_memory_region(region) }
                .map_err(|e| platform_error("a temporary memory slot", e))?;
        }
        Ok(())
    }

    /// Allocates a zeroed table.
    pub(crate) fn new_table(&self) -> Result<Table, PlatformError> {
        let table = self.tables.take(|| self.invalidate_all_tables())?;
        self.provide_tables(table.offset())?;
        Ok(table)
    }

    /// Returns the memory of unused tables to the host if memory is scarce.
    pub(crate) fn tidy_tables(&self) {
        self.tables.tidy(|| self.invalidate_all_tables());
    }

    fn provide_tables(&self, offset: u64) -> Result<(), PlatformError> {
        self.tables.window().provide(&self.vm, &self.next_slot, offset, PAGE_SIZE)
    }

    /// Allocates a top-level table that contains the kernel half.
    pub(crate) fn new_root(&self) -> Result<Table, PlatformError> {
        let root = self.new_table()?;
        let kernel = self.kernel.lock();
        self.tables.entries(root)[tables::KERNEL_ENTRY].store(kernel.entry(self), Ordering::SeqCst);
        Ok(root)
    }

    /// Maps the area of vCPU `index`, with a new data page.
    pub(crate) fn new_area(&self, index: u64) -> Result<Table, PlatformError> {
        let data = self.new_table()?;
        let at = AREAS + index * AREA_BYTES;
        let mut kernel = self.kernel.lock();
        kernel.map(self, at, TABLES_BASE, tables::kernel_code())?;
        kernel.map(self, at + PAGE_SIZE, self.tables.address(data), tables::kernel_data())?;
        Ok(data)
    }

    /// Makes the part of the kernel half that all vCPUs share.
    fn make_kernel(&self) -> Result<(), PlatformError> {
        let gdt = self.new_table()?;
        let idt = self.new_table()?;
        let flat = |kind: u64| 0x00cf_0000_0000_ffff | kind << 40;
        const LONG: u64 = 0x0020_0000_0000_0000;
        const SIZE32: u64 = 0x0040_0000_0000_0000;
        for (selector, descriptor) in [
            (selector::KERNEL_CODE, flat(0x9b) & !SIZE32 | LONG),
            (selector::KERNEL_DATA, flat(0x93)),
            (selector::USER_CODE32, flat(0xfb)),
            (selector::USER_DATA, flat(0xf3)),
            (selector::USER_CODE, flat(0xfb) & !SIZE32 | LONG),
        ] {
            self.tables.entries(gdt)[usize::from(selector) / 8].store(descriptor, Ordering::SeqCst);
        }
        let gates = self.tables.entries(idt);
        for vector in 0..32 {
            // Debug exceptions, NMIs and double faults can occur while the stack pointer is the guest's, so they use
            // the IST.
            let stack = if matches!(vector, 1 | 2 | 8) { 1 } else { 0 };
            // User code may raise #BP and #OF (`int3`, `into`).
            let privilege = if matches!(vector, 3 | 4) { 3 } else { 0 };
            gate(gates, vector, code::EXCEPTIONS + vector as u64 * 16, stack, privilege);
        }
        gate(gates, 0x80, code::INT80, 0, 3);
        let mut kernel = self.kernel.lock();
        kernel.map(self, COMMON, TABLES_BASE, tables::kernel_code())?;
        kernel.map(self, GDT, self.tables.address(gdt), tables::kernel_data())?;
        kernel.map(self, IDT, self.tables.address(idt), tables::kernel_data())
    }
}

/// Writes an interrupt gate: Intel SDM, volume 3, "64-Bit Mode IDT".
fn gate(gates: &[std::sync::atomic::AtomicU64], vector: usize, offset: u64, stack: u64, privilege: u64) {
    let target = COMMON + offset;
    let kind = 0x8e | privilege << 5;
    let low = target & 0xffff
        | u64::from(selector::KERNEL_CODE) << 16
        | stack << 32
        | kind << 40
        | (target >> 16 & 0xffff) << 48;
    gates[2 * vector].store(low, Ordering::SeqCst);
    gates[2 * vector + 1].store(target >> 32, Ordering::SeqCst);
}

fn open() -> Result<Kvm, PlatformError> {
    let kvm = Kvm::new().map_err(|error| {
        let advice = match error.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => {
                " (no KVM here: load kvm_amd or kvm_intel, or use --platform ptrace)"
            }
            libc::EACCES | libc::EPERM => {
                " (join the group that owns the device, often `kvm`, or use --platform ptrace)"
            }
            _ => "",
        };
        platform_error(format_args!("opening /dev/kvm{advice}"), error)
    })?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        let text = format!("/dev/kvm has interface {version}, not {API_VERSION}; use --platform ptrace");
        return Err(platform_error(text, ErrorKind::Unsupported));
    }
    for (capability, name) in NEEDED {
        if !kvm.check_extension(capability) {
            return Err(platform_error(
                format_args!("/dev/kvm lacks {name}; use --platform ptrace"),
                ErrorKind::Unsupported,
            ));
        }
    }
    Ok(kvm)
}

fn load_stub(region: &MmapRegion) -> Result<(), PlatformError> {
    let refused =
        |e: &dyn std::fmt::Display| platform_error(format_args!("placing the stub: {e}"), ErrorKind::InvalidData);
    // The loader takes ownership of the memory it loads into, so it gets a second view of the same bytes.
    // SAFETY: the view is dropped before the region, and does not unmap it.
    let view =
        unsafe { MmapRegion::<()>::build_raw(region.as_ptr(), region.size(), libc::PROT_READ | libc::PROT_WRITE, 0) };
    let view = view.map_err(|e| refused(&e))?;
    let view = GuestRegionMmap::new(view, GuestAddress(TABLES_BASE)).ok_or_else(|| refused(&"overflow"))?;
    let memory = GuestMemoryMmap::from_regions(vec![view]).map_err(|e| refused(&e))?;
    Elf::load(&memory, None, &mut Cursor::new(STUB), None).map_err(|e| refused(&e))?;
    Ok(())
}

/// Maps guest memory for the machine alone.
fn map_guest(memory: &GuestMemory) -> Result<MmapRegion, PlatformError> {
    let file = memory.file().try_clone_to_owned().map_err(|e| platform_error("duplicating guest memory", e))?;
    log::trace!("guest memory of {} bytes as fd {}", memory.limit(), file.as_fd().as_raw_fd());
    MmapRegionBuilder::new(memory.limit() as usize)
        .with_file_offset(FileOffset::new(file.into(), 0))
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
        .build()
        .map_err(|e| platform_error("mapping guest memory (see `ulimit -v`)", std::io::Error::other(e.to_string())))
}
