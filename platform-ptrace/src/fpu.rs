//! The floating-point state as the host passes it.

use std::io;

use amber_platform::{FpuFormat, FpuState, PlatformError};

use crate::{platform_error, trace};

/// Larger than any state known.
const MAX_BYTES: usize = 64 << 10;

/// Learns the format from a stopped thread that has just executed a program.
pub fn format_of(tid: i32) -> Result<FpuFormat, PlatformError> {
    FpuFormat::learn(read(tid, MAX_BYTES)?)
        .ok_or_else(|| platform_error("the host has no XSAVE state", io::ErrorKind::Unsupported))
}

/// The state of a stopped thread.
pub fn state_of(tid: i32, format: &FpuFormat) -> Result<FpuState, PlatformError> {
    Ok(FpuState(read(tid, format.size())?))
}

fn read(tid: i32, len: usize) -> Result<Vec<u8>, PlatformError> {
    let mut state = vec![0; len];
    let len = trace::fpu_state(tid, &mut state).map_err(|e| platform_error("reading floating-point state", e))?;
    state.truncate(len);
    Ok(state)
}
