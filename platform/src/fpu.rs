//! The format of the FPU state on this host, and which states the processor would load.

use std::ops::Range;

use amber_abi::sigframe::{XSAVE_HEADER, XSAVE_HEADER_END, XSAVE_SOFTWARE};

use crate::contract::FpuState;

/// Offsets of MXCSR and of the mask of MXCSR bits that may be set.
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// The components of the legacy area, and the bytes that belong to them.
const X87: u64 = 1;
const SSE: u64 = 2;
const LEGACY: [(u64, Range<usize>); 3] = [(X87, 0..MXCSR), (X87, 32..160), (SSE, 160..416)];
/// The mask that zero stands for (Intel SDM, volume 1, "Checking for the DAZ Flag").
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;
/// The components of AMX. Linux enables them on request only (`ARCH_REQ_XCOMP_PERM`); guests do not get them.
const ON_REQUEST: u64 = 3 << 17;

/// The format of a guest thread's FPU state.
#[derive(Clone, Debug)]
pub struct FpuFormat {
    initial: Vec<u8>,
    mxcsr_mask: u32,
    components: u64,
}

fn word<const N: usize>(state: &[u8], at: usize) -> Option<[u8; N]> {
    state.get(at..at + N)?.try_into().ok()
}

impl FpuFormat {
    /// Determines the format from the initial state of a program, as `PTRACE_GETREGSET` returns it, with XCR0 in the
    /// bytes for software. Returns `None` if that is not an XSAVE state.
    pub fn from_initial(mut initial: Vec<u8>) -> Option<Self> {
        let components = u64::from_le_bytes(word(&initial, XSAVE_SOFTWARE)?) & !ON_REQUEST;
        initial[XSAVE_SOFTWARE..XSAVE_SOFTWARE + 8].copy_from_slice(&components.to_le_bytes());
        let mxcsr_mask = match u32::from_le_bytes(word(&initial, MXCSR_MASK)?) {
            0 => DEFAULT_MXCSR_MASK,
            mask => mask,
        };
        (initial.len() >= XSAVE_HEADER_END).then_some(FpuFormat { initial, mxcsr_mask, components })
    }

    /// Size of a state in bytes.
    pub fn size(&self) -> usize {
        self.initial.len()
    }

    /// The initial state of a program.
    pub fn initial(&self) -> FpuState {
        FpuState(self.initial.clone())
    }

    /// Whether the processor would load this state.
    pub fn accepts(&self, state: &FpuState) -> bool {
        let state = state.0.as_slice();
        let (Some(mxcsr), Some(present), Some(compaction)) =
            (word(state, MXCSR), word(state, XSAVE_HEADER), word(state, XSAVE_HEADER + 8))
        else {
            return false;
        };
        state.len() == self.initial.len()
            && u32::from_le_bytes(mxcsr) & !self.mxcsr_mask == 0
            && u64::from_le_bytes(present) & !self.components == 0
            && u64::from_le_bytes(compaction) == 0
            && state[XSAVE_HEADER + 16..XSAVE_HEADER_END].iter().all(|byte| *byte == 0)
    }

    /// The state with explicit legacy components: those that it lacks get their initial bytes, as in a processor that loads
    /// it. MXCSR is not part of them; a processor loads it in any case (Intel SDM, volume 1, 13.8).
    pub fn with_legacy_components(&self, state: &FpuState) -> FpuState {
        let mut state = state.clone();
        let present = word(&state.0, XSAVE_HEADER).map_or(0, u64::from_le_bytes);
        for (component, range) in LEGACY {
            if present & component == 0 {
                state.0[range.clone()].copy_from_slice(&self.initial[range]);
            }
        }
        state.0[XSAVE_HEADER..XSAVE_HEADER + 8].copy_from_slice(&(present | X87 | SSE).to_le_bytes());
        state
    }

    /// Converts a state of the host to this format: sets its size and XCR0, and removes components that guests do not
    /// have.
    pub fn complete(&self, mut state: Vec<u8>) -> FpuState {
        state.resize(self.initial.len(), 0);
        state[XSAVE_SOFTWARE..XSAVE_SOFTWARE + 8].copy_from_slice(&self.components.to_le_bytes());
        let present = word(&state, XSAVE_HEADER).map_or(0, u64::from_le_bytes) & self.components;
        state[XSAVE_HEADER..XSAVE_HEADER_END].fill(0);
        state[XSAVE_HEADER..XSAVE_HEADER + 8].copy_from_slice(&present.to_le_bytes());
        FpuState(state)
    }
}
