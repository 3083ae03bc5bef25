//! Time: clocks and timers of guests.

mod countdown;
pub(crate) mod cpu;
mod service;
mod signal_timer;
mod state;
mod table;

pub(crate) use countdown::Countdown;
pub(crate) use service::{Alarm, Expire, TimerService};
pub(crate) use signal_timer::{Notice, SignalTimer, TimerClock};
pub(crate) use state::Timekeeping;
pub(crate) use table::GroupTimers;
