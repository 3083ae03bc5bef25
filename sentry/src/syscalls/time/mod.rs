//! Clocks and timers.

pub(crate) mod adjust;
pub(crate) mod clock;
pub(crate) mod interval;
pub(crate) mod posix;
pub(crate) mod sleep;
pub(crate) mod timeout;
