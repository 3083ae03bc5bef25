//! The CPU features of guests: those of the host CPU for user programs, without those for kernels and hypervisors.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Bits of CR4.
mod cr4 {
    pub(super) const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    pub(super) const FXSR: u64 = 1 << 9;
    pub(super) const SIMD_EXCEPTIONS: u64 = 1 << 10;
    pub(super) const USER_MODE_INSTRUCTION_PREVENTION: u64 = 1 << 11;
    pub(super) const FSGSBASE: u64 = 1 << 16;
    pub(super) const XSAVE: u64 = 1 << 18;
    pub(super) const NO_EXECUTION_OF_USER_PAGES: u64 = 1 << 20;
    pub(super) const NO_ACCESS_OF_USER_PAGES: u64 = 1 << 21;
}

/// The XSAVE components x87, SSE, AVX, and the three of AVX-512.
const STATES: u64 = 0b1110_0111;

/// The XSAVE component PKRU.
pub(crate) const KEYS: u32 = 9;

/// The configuration of a vCPU.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    /// The leaves of `cpuid`.
    pub cpuid: CpuId,
    /// CR4.
    pub cr4: u64,
    /// XCR0, if the CPU has XSAVE.
    pub xcr0: Option<u64>,
    /// The XSAVE components in use. The host may save them even without XCR0.
    pub states: u64,
    /// Size of the XSAVE area in bytes.
    pub state_bytes: usize,
    /// Offset of PKRU in the host's XSAVE area. Guests do not see the feature.
    pub keys_at: Option<usize>,
}

fn leaf(cpuid: &CpuId, function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
    cpuid.as_slice().iter().find(|entry| entry.function == function && entry.index == index).copied()
}

impl Features {
    /// Chooses from the features that KVM supports.
    pub(crate) fn of(supported: &CpuId) -> Features {
        let mut cpuid = supported.clone();
        let basic = leaf(supported, 1, 0).unwrap_or_default();
        let extended = leaf(supported, 7, 0).unwrap_or_default();
        let has_xsave = basic.ecx & 1 << 26 != 0;
        let has = |bit: bool, flag: u64| if bit { flag } else { 0 };
        let cr4 = cr4::PHYSICAL_ADDRESS_EXTENSION
            | cr4::FXSR
            | cr4::SIMD_EXCEPTIONS
            | has(extended.ebx & 1 != 0, cr4::FSGSBASE)
            | has(extended.ebx & 1 << 7 != 0, cr4::NO_EXECUTION_OF_USER_PAGES)
            | has(extended.ebx & 1 << 20 != 0, cr4::NO_ACCESS_OF_USER_PAGES)
            | has(extended.ecx & 1 << 2 != 0, cr4::USER_MODE_INSTRUCTION_PREVENTION)
            | has(has_xsave, cr4::XSAVE);
        let states =
            leaf(supported, 0xd, 0).map_or(3, |entry| u64::from(entry.edx) << 32 | u64::from(entry.eax)) & STATES;
        let state_bytes = (2..64)
            .filter(|component| states & 1 << component != 0)
            .filter_map(|component| leaf(supported, 0xd, component))
            .map(|entry| (entry.ebx + entry.eax) as usize)
            .fold(576, usize::max);
        let keys_at = leaf(supported, 0xd, KEYS).filter(|entry| entry.eax >= 4).map(|entry| entry.ebx as usize);
        for entry in cpuid.as_mut_slice() {
            match (entry.function, entry.index) {
                // No MONITOR, VMX, x2APIC or TSC deadline timer. No hypervisor bit, since there is no interface for the
                // guest.
                (1, _) => {
                    entry.ecx &= !(1 << 3 | 1 << 5 | 1 << 21 | 1 << 24 | 1 << 31);
                    entry.ecx |= u32::from(has_xsave) << 27;
                }
                // No protection keys.
                (7, 0) => entry.ecx &= !(1 << 3 | 1 << 4),
                (0xd, 0) => {
                    entry.eax &= states as u32;
                    entry.edx &= (states >> 32) as u32;
                    entry.ebx = state_bytes as u32;
                    entry.ecx = state_bytes as u32;
                }
                // No SVM.
                (0x8000_0001, _) => entry.ecx &= !(1 << 2),
                _ => {}
            }
        }
        Features { cpuid, cr4, xcr0: has_xsave.then_some(states), states, state_bytes, keys_at }
    }

    /// The number of guest-physical address bits.
    pub(crate) fn physical_bits(&self) -> u32 {
        leaf(&self.cpuid, 0x8000_0008, 0).map_or(36, |entry| entry.eax & 0xff)
    }
}
