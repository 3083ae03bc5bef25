//! Time: clocks and timers of guests.

mod countdown;
pub mod cpu;
mod service;
mod signal_timer;
mod state;
mod table;

pub use countdown::Countdown;
pub use service::{Alarm, Expire, TimerService};
pub use signal_timer::{Notice, SignalTimer, TimerClock};
pub use state::Timekeeping;
pub use table::GroupTimers;
