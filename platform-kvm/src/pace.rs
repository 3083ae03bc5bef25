//! Estimates from the recent calls of a thread whether it is worth handing calls over at the mailbox.
//!
//! A hand-over occupies a second host CPU for as long as the thread stays in the guest, and starting one costs about
//! four exits. It pays off for a thread that calls often and whose calls are short.

use std::time::{Duration, Instant};

/// Longest service time of a fast call. A guest that waits at the mailbox for longer exits.
const SERVED: Duration = Duration::from_micros(40);
/// Longest time from entry to exit of a fast call, including the exit itself.
const MADE: Duration = Duration::from_micros(150);
/// Consecutive fast calls before hand-over starts.
const FEW: u32 = 6;
/// Wake an idle runner when this many calls short of that.
const NEARLY: u32 = 4;
/// Upper bound of the back-off after an unprofitable hand-over.
const MANY: u32 = 96;
/// Number of calls at which a hand-over was profitable.
const WORTH: u32 = 8;

/// The call rate of one context.
pub struct Pace {
    /// Hand over in any case.
    always: bool,
    went_in: Instant,
    came_out: Instant,
    /// Number of consecutive fast calls that exited.
    quick: u32,
    /// Number of them before hand-over starts.
    needed: u32,
    /// Number of calls in the current hand-over.
    handed_over: u32,
}

impl Pace {
    /// Without any calls yet. With `always`, hand-over starts at once.
    pub fn new(always: bool) -> Pace {
        let now = Instant::now();
        Pace { always, went_in: now, came_out: now, quick: 0, needed: FEW, handed_over: 0 }
    }

    /// The guest is entered. Returns whether the sentry was fast.
    pub fn goes_in(&mut self) -> bool {
        self.went_in = Instant::now();
        self.went_in - self.came_out < SERVED
    }

    /// The guest exited, by a `call` or not. `quick` is whether the sentry was fast before.
    pub fn left(&mut self, quick: bool, call: bool) {
        self.came_out = Instant::now();
        let quick = quick && call && self.came_out - self.went_in < MADE;
        self.quick = if quick { self.quick + 1 } else { 0 };
    }

    /// A call was handed over.
    pub fn handed_over(&mut self) {
        self.came_out = Instant::now();
        self.handed_over += 1;
    }

    /// Whether the next calls are expected to be fast.
    pub fn is_quick(&self) -> bool {
        self.always || self.quick >= self.needed
    }

    /// Whether hand-over may start soon.
    pub fn is_nearly_quick(&self) -> bool {
        self.quick + NEARLY == self.needed
    }

    /// A hand-over has ended.
    pub fn ended(&mut self) {
        self.needed = if self.handed_over < WORTH { (self.needed * 2).min(MANY) } else { FEW };
        (self.quick, self.handed_over) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick_calls(pace: &mut Pace) -> u32 {
        let mut calls = 0;
        while !pace.is_quick() {
            pace.went_in = Instant::now();
            pace.left(true, true);
            calls += 1;
        }
        calls
    }

    #[test]
    fn what_was_not_worth_it_is_put_off() {
        let mut pace = Pace::new(false);
        let mut needed: Vec<u32> = Vec::new();
        for handed_over in [0, WORTH - 1, 0, 0, 0, WORTH, 0] {
            needed.push(quick_calls(&mut pace));
            (0..handed_over).for_each(|_| pace.handed_over());
            pace.ended();
        }
        assert_eq!(needed, [FEW, 2 * FEW, 4 * FEW, 8 * FEW, MANY, MANY, FEW]);
    }

    #[test]
    fn a_slow_call_or_another_trap_begins_anew() {
        let mut pace = Pace::new(false);
        for (quick, call) in [(false, true), (true, false)] {
            quick_calls(&mut pace);
            pace.went_in = Instant::now();
            pace.left(quick, call);
            assert!(!pace.is_quick());
        }
        assert!(Pace::new(true).is_quick());
    }
}
