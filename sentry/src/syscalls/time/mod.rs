//! Clocks and timers.

pub mod adjust;
pub mod clock;
pub mod interval;
pub mod posix;
pub mod sleep;
pub mod timeout;
