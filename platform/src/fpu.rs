//! The format of floating-point state on this machine: what a processor would load and what it would not.

use crate::contract::FpuState;

/// Where the state says which MXCSR bits may be set, and MXCSR itself.
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// What the mask means when it is zero.
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;
/// Where Linux says which components it keeps.
const COMPONENTS_KEPT: usize = 464;
/// The header: components present, compaction, zeros.
const HEADER: usize = 512;
/// The end of the header.
const HEADER_END: usize = 576;
/// Components that Linux gives to programs that ask for them (`ARCH_REQ_XCOMP_PERM`), which guests are not offered: the
/// tiles of AMX.
const ON_REQUEST: u64 = 3 << 17;

/// What the state of a guest thread looks like.
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
    /// Learns the format from the state of a program just executed, in the form Linux gives to `PTRACE_GETREGSET`: the
    /// components that are kept stand among the bytes for software. None if it is no `XSAVE` state.
    pub fn learn(mut initial: Vec<u8>) -> Option<Self> {
        let components = u64::from_le_bytes(word(&initial, COMPONENTS_KEPT)?) & !ON_REQUEST;
        initial[COMPONENTS_KEPT..COMPONENTS_KEPT + 8].copy_from_slice(&components.to_le_bytes());
        let mxcsr_mask = match u32::from_le_bytes(word(&initial, MXCSR_MASK)?) {
            0 => DEFAULT_MXCSR_MASK,
            mask => mask,
        };
        (initial.len() >= HEADER_END).then_some(FpuFormat { initial, mxcsr_mask, components })
    }

    /// Bytes of a state.
    pub fn size(&self) -> usize {
        self.initial.len()
    }

    /// The state of a program just executed.
    pub fn initial(&self) -> FpuState {
        FpuState(self.initial.clone())
    }

    /// Whether a processor loads this state.
    pub fn accepts(&self, state: &FpuState) -> bool {
        let state = state.0.as_slice();
        let (Some(mxcsr), Some(present), Some(compaction)) =
            (word(state, MXCSR), word(state, HEADER), word(state, HEADER + 8))
        else {
            return false;
        };
        state.len() == self.initial.len()
            && u32::from_le_bytes(mxcsr) & !self.mxcsr_mask == 0
            && u64::from_le_bytes(present) & !self.components == 0
            && u64::from_le_bytes(compaction) == 0
            && state[HEADER + 16..HEADER_END].iter().all(|byte| *byte == 0)
    }

    /// Makes a host's own state one of this format: cut to size, with the mark of what is kept, and without components
    /// that the guest does not know of.
    pub fn complete(&self, mut state: Vec<u8>) -> FpuState {
        state.resize(self.initial.len(), 0);
        state[COMPONENTS_KEPT..COMPONENTS_KEPT + 8].copy_from_slice(&self.components.to_le_bytes());
        let present = word(&state, HEADER).map_or(0, u64::from_le_bytes) & self.components;
        state[HEADER..HEADER_END].fill(0);
        state[HEADER..HEADER + 8].copy_from_slice(&present.to_le_bytes());
        FpuState(state)
    }
}
