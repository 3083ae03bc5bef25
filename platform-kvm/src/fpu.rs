//! Reads and writes the FPU state of vCPUs (`KVM_GET_XSAVE`, `KVM_SET_XSAVE`).

use std::io::ErrorKind;

use amber_abi::sigframe::{XSAVE_HEADER, XSAVE_SOFTWARE};
use amber_platform::{FpuFormat, FpuState, PlatformError, processor};
use kvm_bindings::kvm_xsave;
use kvm_ioctls::VcpuFd;

use crate::cpuid::{Features, KEYS};
use crate::platform_error;

/// Offset of MXCSR_MASK.
const MXCSR_MASK: usize = 28;

/// Offset of XSTATE_BV, the mask of components that are not in their initial state.
const PRESENT: usize = XSAVE_HEADER;
/// The components of the legacy area.
const X87_AND_SSE: u32 = 3;
/// Size of the PKRU component.
const KEYS_BYTES: usize = 8;
/// Linux's PKRU after execve(2): only key 0 gives access.
const INITIAL_PKRU: u32 = 0x5555_5554;

/// Determines the FPU format from a new vCPU; with PKRU if that is at offset `keys`.
pub(crate) fn format_of(vcpu: &VcpuFd, features: &Features, keys: Option<usize>) -> Result<FpuFormat, PlatformError> {
    let mut state = read(vcpu)?;
    state.truncate(features.state_bytes.max(keys.map_or(0, |at| at + KEYS_BYTES)));
    let mut states = features.states;
    if let Some(at) = keys {
        states |= 1 << KEYS;
        state[PRESENT + KEYS as usize / 8] |= 1 << (KEYS % 8);
        state[at..at + 4].copy_from_slice(&INITIAL_PKRU.to_le_bytes());
    }
    state[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&processor::mxcsr_mask().to_le_bytes());
    state[XSAVE_SOFTWARE..XSAVE_SOFTWARE + 8].copy_from_slice(&states.to_le_bytes());
    let format = FpuFormat::from_initial(state.clone());
    // The format must accept the state that it was determined from.
    format
        .and_then(|format| FpuFormat::from_initial(format.complete(state).0))
        .ok_or_else(|| platform_error("the host has no XSAVE state", ErrorKind::Unsupported))
}

/// Reads the FPU state of a vCPU.
pub(crate) fn state_of(vcpu: &VcpuFd, format: &FpuFormat) -> Result<FpuState, PlatformError> {
    let mut state = read(vcpu)?;
    state[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&processor::mxcsr_mask().to_le_bytes());
    Ok(format.complete(state))
}

fn read(vcpu: &VcpuFd) -> Result<Vec<u8>, PlatformError> {
    let state = vcpu.get_xsave().map_err(|e| platform_error("reading the FPU state", e))?;
    Ok(state.region.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// Writes an FPU state that the format accepts; with PKRU if that is at offset `keys`.
pub(crate) fn write(vcpu: &VcpuFd, state: &FpuState, keys: Option<usize>) -> Result<(), PlatformError> {
    let mut area = kvm_xsave::default();
    for (word, bytes) in area.region.iter_mut().zip(state.0.chunks_exact(4)) {
        *word = u32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"));
    }
    // If both components that use MXCSR are marked as initial, the host leaves the previous guest's MXCSR. Their
    // bytes are initial values: `set_fpu_state` sees to that, and the host in a state that it returned.
    area.region[PRESENT / 4] |= X87_AND_SSE;
    // The bytes for software are not part of the hardware format.
    for word in &mut area.region[XSAVE_SOFTWARE / 4..XSAVE_HEADER / 4] {
        *word = 0;
    }
    if let Some(at) = keys {
        // A component that is not present is in its initial state, but then the host would leave the previous PKRU.
        let present = &mut area.region[PRESENT / 4];
        if *present & 1 << KEYS == 0 {
            *present |= 1 << KEYS;
            area.region[at / 4] = 0;
        }
    }
    // SAFETY: the machine asks for no state that would make the host read beyond the fixed area.
    unsafe { vcpu.set_xsave(&area) }.map_err(|e| platform_error("writing the FPU state", e))
}
