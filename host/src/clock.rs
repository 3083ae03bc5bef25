//! The host's clocks.

pub use nix::time::ClockId;

/// What a clock shows, in nanoseconds since its beginning. Only for clocks that every Linux has.
pub fn read(clock: ClockId) -> u64 {
    // The calls fail only for clocks that do not exist; a time before the beginning of the clock counts as zero.
    let Ok(time) = nix::time::clock_gettime(clock) else { return 0 };
    let nanos = time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec());
    u64::try_from(nanos).unwrap_or_default()
}

/// Whether the host's kernel itself reads its clocks from the processor's time-stamp counter, and so trusts it to be the
/// same on every processor and steady. No if it cannot be told.
pub fn counts_time_stamps() -> bool {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    source.is_ok_and(|name| name.trim() == "tsc")
}
