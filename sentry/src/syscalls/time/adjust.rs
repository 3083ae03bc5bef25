//! adjtimex(2), read only: the host adjusts the clock.

use amber_abi::errno::Errno;
use amber_abi::time::{AdjustModes, ClockId, STA_UNSYNC, TIME_ERROR, Timeval, Timex};

use crate::clock::Clock;
use crate::error::SysResult;
use crate::syscalls::args::Out;
use crate::task::TaskContext;

/// The assumed error of an unsynchronized clock, in microseconds.
const UNKNOWN_ERROR: i64 = 16_000_000;
/// Maximum frequency adjustment, in parts per million with 16 fractional bits.
const TOLERANCE: i64 = 500 << 16;

/// adjtimex(2).
pub(crate) fn adjtimex(ctx: &mut TaskContext, state: Out<Timex>) -> SysResult {
    let requested: Timex = ctx.read_object(state.0)?;
    let modes = AdjustModes::from_bits_retain(requested.modes);
    if !modes.is_empty() && modes != AdjustModes::ADJ_OFFSET_SS_READ {
        return Err(Errno::EPERM.here().into());
    }
    let now = i64::try_from(Clock::Realtime.now()).unwrap_or(i64::MAX);
    let answer = Timex {
        modes: requested.modes,
        maxerror: UNKNOWN_ERROR,
        esterror: UNKNOWN_ERROR,
        status: STA_UNSYNC,
        constant: 2,
        precision: 1,
        tolerance: TOLERANCE,
        tick: 10_000,
        time: Timeval::from_nanos(now),
        ..Timex::default()
    };
    state.write(ctx, &answer)?;
    Ok(TIME_ERROR as u64)
}

/// clock_adjtime(2).
pub(crate) fn clock_adjtime(ctx: &mut TaskContext, id: ClockId, state: Out<Timex>) -> SysResult {
    if id != ClockId::CLOCK_REALTIME {
        super::clock::named(ctx, id, true)?;
        return Err(Errno::EOPNOTSUPP.here().into());
    }
    adjtimex(ctx, state)
}
