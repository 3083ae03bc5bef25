//! The host's clocks.

pub use nix::time::ClockId;

/// The value of a clock in nanoseconds (clock_gettime(2)), for clocks that every Linux has.
pub fn read(clock: ClockId) -> u64 {
    // The call fails only for unknown clocks. Times before the clock's epoch are 0.
    let Ok(time) = nix::time::clock_gettime(clock) else { return 0 };
    let nanos = time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec());
    u64::try_from(nanos).unwrap_or_default()
}

/// Whether the host's kernel uses the TSC as its clock source, which means that it is stable and synchronised between
/// CPUs. False if that cannot be determined.
pub fn counts_time_stamps() -> bool {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    source.is_ok_and(|name| name.trim() == "tsc")
}
