//! The data page in front of the image: a sequence count, and the parameters to convert the time-stamp counter to time.
//!
//! `time = base of the clock + ((counter - counter base) * multiplier >> 32)`, while the difference is at most the
//! span. CLOCK_MONOTONIC_RAW, which is not adjusted by NTP, has its own multiplier.
//!
//! A writer makes the sequence count odd before it writes, and even again afterwards. If it is zero, the page was never
//! written, and the code makes the system call. All values are 64-bit words except the sequence count.

/// The sequence count, 32 bits.
pub const SEQUENCE: u64 = 0x00;
/// The counter value at which the bases are valid.
pub const COUNTER_BASE: u64 = 0x08;
/// Maximum distance of the counter from its base.
pub const COUNTER_SPAN: u64 = 0x10;
/// Nanoseconds per tick of the counter, multiplied by 2^32.
pub const MULTIPLIER: u64 = 0x18;
/// CLOCK_MONOTONIC at the base, in nanoseconds.
pub const MONOTONIC: u64 = 0x20;
/// CLOCK_REALTIME at the base, in nanoseconds.
pub const REALTIME: u64 = 0x28;
/// CLOCK_BOOTTIME at the base, in nanoseconds.
pub const BOOTTIME: u64 = 0x30;
/// CLOCK_TAI at the base, in nanoseconds.
pub const TAI: u64 = 0x38;
/// CLOCK_MONOTONIC_RAW at the base, in nanoseconds.
pub const RAW: u64 = 0x48;
/// Nanoseconds per tick of the counter for CLOCK_MONOTONIC_RAW, multiplied by 2^32.
pub const RAW_MULTIPLIER: u64 = 0x50;
/// Not zero if getcpu() may report CPU 0 for every thread; 32 bits. The sequence count does not cover it.
pub const FIRST_PROCESSOR: u64 = 0x40;

/// Nanoseconds per jiffy, at which the coarse clocks advance.
pub const TICK: u64 = 1_000_000_000 / 250;
