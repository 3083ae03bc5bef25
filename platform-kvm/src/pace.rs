//! Whether it is worth handing calls over at the mailbox, from how fast they came lately.
//!
//! To hand over takes a second host processor for as long as the thread stays in the guest, and to get it, about as long as
//! four exits. It pays for a thread that calls often, and whose calls take little time.

use std::time::{Duration, Instant};

/// A call is quick if the sentry serves it in less than this; otherwise the guest leaves the mailbox before.
const SERVED: Duration = Duration::from_micros(40);
/// And if the guest makes it within this time, which includes that of an exit.
const MADE: Duration = Duration::from_micros(150);
/// So many quick calls in a row are followed by more,
const FEW: u32 = 6;
/// which are expected this many before,
const NEARLY: u32 = 4;
/// unless that was wrong before: then twice as many, up to this.
const MANY: u32 = 96;
/// So many calls handed over were worth it.
const WORTH: u32 = 8;

/// The calls of a context.
pub struct Pace {
    /// Hand over whatever is to be expected.
    always: bool,
    went_in: Instant,
    came_out: Instant,
    /// How many were quick in a row, of those that left the machine,
    quick: u32,
    /// and how many must be.
    needed: u32,
    /// How many were handed over in this stretch.
    handed_over: u32,
}

impl Pace {
    /// No calls yet. With `always`, each is taken for a quick one.
    pub fn new(always: bool) -> Pace {
        let now = Instant::now();
        Pace { always, went_in: now, came_out: now, quick: 0, needed: FEW, handed_over: 0 }
    }

    /// The guest goes on. Returns whether the sentry was quick.
    pub fn goes_in(&mut self) -> bool {
        self.went_in = Instant::now();
        self.went_in - self.came_out < SERVED
    }

    /// The guest left the machine, with a call or not, after the sentry was quick or not.
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

    /// Whether the next calls will be quick, as it seems.
    pub fn is_quick(&self) -> bool {
        self.always || self.quick >= self.needed
    }

    /// Whether that will be known soon.
    pub fn is_nearly_quick(&self) -> bool {
        self.quick + NEARLY == self.needed
    }

    /// Calls are handed over no more.
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
