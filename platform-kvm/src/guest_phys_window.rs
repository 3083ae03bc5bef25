//! A range of guest-physical memory that is added to the machine in memory slots, on first use.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use amber_platform::PlatformError;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use parking_lot::Mutex;
use vm_memory::MmapRegion;

use crate::platform_error;

/// A memory slot costs the host some memory per page, used or not. Slots are this small unless there would be too many.
const SLOT_BYTES: u64 = 64 << 20;

/// Host memory that appears in the machine at `base`. The mapping belongs to the machine alone: when the host drops
/// pages of it, KVM drops its mappings of them as well and must fault them in again.
pub(crate) struct GuestPhysWindow {
    base: u64,
    mapping: MmapRegion,
    slot_bytes: u64,
    present: Vec<AtomicBool>,
    /// Held while a slot is added.
    adding: Mutex<()>,
}

impl GuestPhysWindow {
    /// A window on `mapping` with at most `slots` memory slots.
    pub(crate) fn new(base: u64, mapping: MmapRegion, slots: u64) -> Self {
        let bytes = mapping.size() as u64;
        let slot_bytes = bytes.div_ceil(slots.max(1)).next_power_of_two().max(SLOT_BYTES);
        let present = (0..bytes.div_ceil(slot_bytes)).map(|_| AtomicBool::new(false)).collect();
        GuestPhysWindow { base, mapping, slot_bytes, present, adding: Mutex::new(()) }
    }

    /// The host's mapping of it.
    pub(crate) fn mapping(&self) -> &MmapRegion {
        &self.mapping
    }

    /// Guest-physical address of the byte at `offset`.
    pub(crate) fn address(&self, offset: u64) -> u64 {
        self.base + offset
    }

    /// Offset of a guest-physical address, if it is in the window.
    pub(crate) fn offset(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.base).filter(|offset| *offset < self.mapping.size() as u64)
    }

    /// Adds the memory slots of a range, numbered from `next_slot`, unless they exist.
    ///
    /// # Errors
    /// The host refuses the memory slot.
    pub(crate) fn provide(&self, vm: &VmFd, next_slot: &AtomicU32, offset: u64, len: u64) -> Result<(), PlatformError> {
        for index in offset / self.slot_bytes..(offset + len).div_ceil(self.slot_bytes) {
            let Some(present) = self.present.get(index as usize) else { continue };
            if present.load(Ordering::Acquire) {
                continue;
            }
            let _adding = self.adding.lock();
            if present.load(Ordering::Acquire) {
                continue;
            }
            let start = index * self.slot_bytes;
            let region = kvm_userspace_memory_region {
                slot: next_slot.fetch_add(1, Ordering::Relaxed),
                flags: 0,
                guest_phys_addr: self.base + start,
                memory_size: self.slot_bytes.min(self.mapping.size() as u64 - start),
                userspace_addr: self.mapping.as_ptr() as u64 + start,
            };
            // SAFETY: the mapping lives as long as the machine, and only guests and volatile accesses use its bytes.
            unsafe { vm.set_user_memory_region(region) }.map_err(|e| {
                platform_error(format_args!("memory slot {} of {} bytes", region.slot, region.memory_size), e)
            })?;
            present.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Populates the host's page tables for a range, so that KVM need not fault page by page.
    pub(crate) fn populate(&self, offset: u64, len: u64) {
        let start = self.mapping.as_ptr().wrapping_add(offset as usize);
        // Read faults suffice, since stores to shared memory mappings are not tracked. Before Linux 5.14 the call
        // fails, and each page is faulted in on access.
        // SAFETY: a range of a shared mapping of a file, whose bytes stay as they are.
        unsafe { libc::madvise(start.cast(), len as usize, libc::MADV_POPULATE_READ) };
    }

    /// Drops the host's mappings of a range, and with them KVM's, on all vCPUs. The contents of a file stay; anonymous
    /// memory is zero afterwards.
    pub(crate) fn invalidate(&self, offset: u64, len: u64) {
        let start = self.mapping.as_ptr().wrapping_add(offset as usize);
        // SAFETY: a range of the mapping, of whose bytes the sentry uses none, or only by atomic words that may change.
        let done = unsafe { libc::madvise(start.cast(), len as usize, libc::MADV_DONTNEED) };
        debug_assert_eq!(done, 0, "a range of the mapping");
    }
}
