//! The time of clocks, in nanoseconds since the epoch of each: see time(7) and clock_gettime(2).

use std::time::{Duration, Instant};

use amber_abi::time::Timespec;
use amber_host::clock::{ClockId as HostClock, read};
use amber_vdso::data::TICK;

/// CLOCK_REALTIME, as file systems use it for timestamps.
pub(crate) fn realtime() -> Timespec {
    to_timespec(Clock::Realtime.now())
}

/// CLOCK_MONOTONIC.
pub(crate) fn monotonic() -> u64 {
    Clock::Monotonic.now()
}

/// The host time at which CLOCK_MONOTONIC reaches `until` nanoseconds; none if the host's type cannot represent it, and
/// the deadline never comes.
pub(crate) fn deadline_of(until: u64) -> Option<Instant> {
    let remaining = until.saturating_sub(monotonic());
    Instant::now().checked_add(Duration::from_nanos(remaining))
}

/// Converts nanoseconds to the guest's structure.
pub(crate) fn to_timespec(nanos: u64) -> Timespec {
    Timespec::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// A system-wide clock. Guests see the host's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// `CLOCK_REALTIME`.
    Realtime,
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_MONOTONIC_RAW`.
    MonotonicRaw,
    /// `CLOCK_REALTIME_COARSE`.
    RealtimeCoarse,
    /// `CLOCK_MONOTONIC_COARSE`.
    MonotonicCoarse,
    /// `CLOCK_BOOTTIME`.
    Boottime,
    /// `CLOCK_TAI`.
    Tai,
}

impl Clock {
    /// The current time.
    pub(crate) fn now(self) -> u64 {
        read(match self {
            // The time of the last tick, as in the vDSO.
            Clock::RealtimeCoarse => return Clock::Realtime.now() / TICK * TICK,
            Clock::MonotonicCoarse => return Clock::Monotonic.now() / TICK * TICK,
            Clock::Realtime => HostClock::CLOCK_REALTIME,
            Clock::Monotonic => HostClock::CLOCK_MONOTONIC,
            Clock::MonotonicRaw => HostClock::CLOCK_MONOTONIC_RAW,
            Clock::Boottime => HostClock::CLOCK_BOOTTIME,
            Clock::Tai => HostClock::CLOCK_TAI,
        })
    }

    /// The CLOCK_MONOTONIC time at which this clock reaches `at`, by their present difference.
    pub(crate) fn to_monotonic(self, at: u64) -> u64 {
        match self {
            Clock::Monotonic => at,
            clock => {
                // The other clock is read first, so that the result is never too early.
                let remaining = at.saturating_sub(clock.now());
                monotonic().saturating_add(remaining)
            }
        }
    }
}
