//! The floating-point state as the host passes it.

use std::io;

use amber_platform::{FloatingPoint, HostFault};

use crate::{fault, trace};

/// Larger than any state known.
const MOST_BYTES: usize = 64 << 10;
/// Where the state says which MXCSR bits may be set, and MXCSR itself.
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// What the mask means when it is zero.
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;
/// Where the host says which components it keeps.
const COMPONENTS_KEPT: usize = 464;
/// The header: components present, compaction, zeros.
const HEADER: usize = 512;
/// The end of the header.
const HEADER_END: usize = 576;

/// What this processor's state looks like.
pub struct FloatingFormat {
    initial: Vec<u8>,
    mxcsr_mask: u32,
    components: u64,
}

fn word<const N: usize>(state: &[u8], at: usize) -> Option<[u8; N]> {
    state.get(at..at + N)?.try_into().ok()
}

impl FloatingFormat {
    /// Learns the format from a stopped thread that has just executed a program.
    pub fn of(tid: i32) -> Result<Self, HostFault> {
        let initial = read(tid, MOST_BYTES)?;
        let (Some(mask), Some(components)) = (word(&initial, MXCSR_MASK), word(&initial, COMPONENTS_KEPT)) else {
            return Err(fault("the host has no XSAVE state", io::ErrorKind::Unsupported));
        };
        let mxcsr_mask = match u32::from_le_bytes(mask) {
            0 => DEFAULT_MXCSR_MASK,
            mask => mask,
        };
        Ok(FloatingFormat { initial, mxcsr_mask, components: u64::from_le_bytes(components) })
    }

    /// The state of a program just executed.
    pub fn initial(&self) -> FloatingPoint {
        FloatingPoint(self.initial.clone())
    }

    /// The state of a stopped thread.
    pub fn read(&self, tid: i32) -> Result<FloatingPoint, HostFault> {
        Ok(FloatingPoint(read(tid, self.initial.len())?))
    }

    /// Whether a processor loads this state.
    pub fn accepts(&self, state: &FloatingPoint) -> bool {
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
}

fn read(tid: i32, len: usize) -> Result<Vec<u8>, HostFault> {
    let mut state = vec![0; len];
    let len = trace::floating_point(tid, &mut state).map_err(|e| fault("reading floating-point state", e))?;
    state.truncate(len);
    Ok(state)
}
