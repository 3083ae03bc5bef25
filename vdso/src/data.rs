//! The page of data in front of the image: a sequence count, then how to turn the time-stamp counter into time.
//!
//! `time = base of the clock + ((counter - counter base) * multiplier >> 32)`, while the difference is at most the span.
//! CLOCK_MONOTONIC_RAW, which nobody steers, has a multiplier of its own.
//! A writer makes the sequence odd first and even again at the end; where it is zero nothing was ever written, and the
//! code makes the system call. All are 64-bit words but the sequence.

/// The sequence count, 32 bits.
pub const SEQUENCE: u64 = 0x00;
/// The counter's value at which the bases hold.
pub const COUNTER_BASE: u64 = 0x08;
/// How far the counter may be from its base.
pub const COUNTER_SPAN: u64 = 0x10;
/// Nanoseconds in a tick of the counter, as a fraction of 2^32.
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
/// Its nanoseconds in a tick of the counter, as a fraction of 2^32.
pub const RAW_MULTIPLIER: u64 = 0x50;
/// Not zero as long as every thread is on processor 0 for all it may know, 32 bits. No sequence guards it.
pub const FIRST_PROCESSOR: u64 = 0x40;

/// Nanoseconds in a tick, at which the coarse clocks advance.
pub const TICK: u64 = 1_000_000_000 / 250;
