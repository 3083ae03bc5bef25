//! Time: the clocks a guest reads and the timers it sets.

pub mod clock;
