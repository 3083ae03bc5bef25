//! Calls on clocks and timers.

pub mod timeout;
