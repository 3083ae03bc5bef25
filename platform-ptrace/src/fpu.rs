//! Reads the FPU state of stopped threads (`NT_X86_XSTATE`).

use std::io;

use amber_platform::{FpuFormat, FpuState, PlatformError};

use crate::{platform_error, trace};

/// Larger than the XSAVE area of any known processor.
const MAX_BYTES: usize = 64 << 10;

/// Determines the host's XSAVE format from a stopped thread that has just executed a program.
pub(crate) fn format_of(tid: i32) -> Result<FpuFormat, PlatformError> {
    FpuFormat::from_initial(read(tid, MAX_BYTES)?)
        .ok_or_else(|| platform_error("the host has no XSAVE state", io::ErrorKind::Unsupported))
}

/// Reads the FPU state of a stopped thread.
pub(crate) fn state_of(tid: i32, format: &FpuFormat) -> Result<FpuState, PlatformError> {
    Ok(FpuState(read(tid, format.size())?))
}

fn read(tid: i32, len: usize) -> Result<Vec<u8>, PlatformError> {
    let mut state = vec![0; len];
    let len = trace::fpu_state(tid, &mut state).map_err(|e| platform_error("reading the FPU state", e))?;
    state.truncate(len);
    Ok(state)
}
