//! The floating-point state as the host passes it for virtual processors.

use std::io::ErrorKind;

use amber_platform::{FpuFormat, FpuState, PlatformError, processor};
use kvm_bindings::kvm_xsave;
use kvm_ioctls::VcpuFd;

use crate::cpuid::{Features, KEYS};
use crate::platform_error;

/// Where MXCSR's mask is.
const MXCSR_MASK: usize = 28;
/// Where Linux says which components it keeps.
const COMPONENTS_KEPT: usize = 464;

/// Where the header says which components are there.
const PRESENT: usize = 512;
/// The components of the legacy area.
const X87_AND_SSE: u32 = 3;
/// Bytes of the component that has PKRU.
const KEYS_BYTES: usize = 8;
/// PKRU of a program just executed, as Linux sets it: no key but the first gives access.
const INITIAL_PKRU: u32 = 0x5555_5554;

/// Learns the format from a processor that has run nothing yet: with PKRU, if that is kept at `keys`.
pub fn format_of(vcpu: &VcpuFd, features: &Features, keys: Option<usize>) -> Result<FpuFormat, PlatformError> {
    let mut state = read(vcpu)?;
    state.truncate(features.state_bytes.max(keys.map_or(0, |at| at + KEYS_BYTES)));
    let mut states = features.states;
    if let Some(at) = keys {
        states |= 1 << KEYS;
        state[PRESENT + KEYS as usize / 8] |= 1 << (KEYS % 8);
        state[at..at + 4].copy_from_slice(&INITIAL_PKRU.to_le_bytes());
    }
    state[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&processor::mxcsr_mask().to_le_bytes());
    state[COMPONENTS_KEPT..COMPONENTS_KEPT + 8].copy_from_slice(&states.to_le_bytes());
    let format = FpuFormat::learn(state.clone());
    // What is learned from must be acceptable itself.
    format
        .and_then(|format| FpuFormat::learn(format.complete(state).0))
        .ok_or_else(|| platform_error("the host has no XSAVE state", ErrorKind::Unsupported))
}

/// The state of a processor.
pub fn state_of(vcpu: &VcpuFd, format: &FpuFormat) -> Result<FpuState, PlatformError> {
    let mut state = read(vcpu)?;
    state[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&processor::mxcsr_mask().to_le_bytes());
    Ok(format.complete(state))
}

fn read(vcpu: &VcpuFd) -> Result<Vec<u8>, PlatformError> {
    let state = vcpu.get_xsave().map_err(|e| platform_error("reading the FPU state", e))?;
    Ok(state.region.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// Gives a processor a state that the format accepts, with PKRU if that is kept at `keys`.
pub fn write(vcpu: &VcpuFd, state: &FpuState, keys: Option<usize>) -> Result<(), PlatformError> {
    let mut area = kvm_xsave::default();
    for (word, bytes) in area.region.iter_mut().zip(state.0.chunks_exact(4)) {
        *word = u32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"));
    }
    // The host leaves MXCSR as the last guest had it where both components it belongs to are said to be initial. What a
    // state does not have is filled with initial values anyway.
    area.region[PRESENT / 4] |= X87_AND_SSE;
    // The bytes for software are not the processor's.
    for word in &mut area.region[COMPONENTS_KEPT / 4..512 / 4] {
        *word = 0;
    }
    if let Some(at) = keys {
        // A component that is not there is in its initial state; but the host leaves PKRU as it was then.
        let present = &mut area.region[PRESENT / 4];
        if *present & 1 << KEYS == 0 {
            *present |= 1 << KEYS;
            area.region[at / 4] = 0;
        }
    }
    // SAFETY: the machine asks for no state that would make the host read beyond the fixed area.
    unsafe { vcpu.set_xsave(&area) }.map_err(|e| platform_error("writing the FPU state", e))
}
