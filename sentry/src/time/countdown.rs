//! The arithmetic of timers: the next expiration and the number of missed ones.

use amber_abi::errno::Errno;
use amber_abi::time::Itimerspec;

use crate::clock::to_timespec;

/// The setting of a timer in nanoseconds of its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Countdown {
    /// The next expiration; none while disarmed.
    pub next: Option<u64>,
    /// The interval of further expirations; 0 for none.
    pub interval: u64,
}

impl Countdown {
    /// Converts a guest's setting at the time `now`.
    ///
    /// # Errors
    /// `EINVAL` for negative times and for 10⁹ nanoseconds or more.
    pub(crate) fn from_setting(setting: &Itimerspec, absolute: bool, now: u64) -> Result<Countdown, Errno> {
        if !setting.it_value.is_valid() || !setting.it_interval.is_valid() {
            return Err(Errno::EINVAL.here());
        }
        let value = setting.it_value.to_nanos().unsigned_abs();
        let interval = setting.it_interval.to_nanos().unsigned_abs();
        let next = if absolute { value } else { now.saturating_add(value) };
        Ok(Countdown { next: (value > 0).then_some(next), interval })
    }

    /// Converts to a guest's structure with the remaining time, which is at least one nanosecond while armed.
    pub(crate) fn to_setting(self, now: u64) -> Itimerspec {
        let remaining = self.next.map_or(0, |next| next.saturating_sub(now).max(1));
        Itimerspec { it_interval: to_timespec(self.interval), it_value: to_timespec(remaining) }
    }

    /// Advances beyond `now`, and returns the number of expirations.
    pub(crate) fn advance(&mut self, now: u64) -> u64 {
        let Some(next) = self.next.filter(|&next| next <= now) else { return 0 };
        let Some(more) = (now - next).checked_div(self.interval) else {
            self.next = None;
            return 1;
        };
        let count = more.saturating_add(1);
        self.next = Some(next.saturating_add(count.saturating_mul(self.interval)));
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amber_abi::time::Timespec;

    fn setting(value: i64, interval: i64) -> Itimerspec {
        Itimerspec { it_value: Timespec::from_nanos(value), it_interval: Timespec::from_nanos(interval) }
    }

    #[test]
    fn a_single_timer_runs_out_once() {
        let mut countdown = Countdown::from_setting(&setting(50, 0), false, 100).unwrap();
        assert_eq!(countdown.advance(149), 0);
        assert_eq!(countdown.to_setting(149), setting(1, 0));
        assert_eq!(countdown.advance(150), 1);
        assert_eq!(countdown.next, None);
        assert_eq!(countdown.advance(u64::MAX), 0);
    }

    #[test]
    fn missed_expirations_are_counted() {
        let mut countdown = Countdown::from_setting(&setting(50, 10), true, 100).unwrap();
        assert_eq!(countdown.advance(100), 6);
        assert_eq!(countdown.next, Some(110));
        assert_eq!(countdown.to_setting(105), setting(5, 10));
        assert_eq!(Countdown { next: Some(0), interval: 1 }.advance(u64::MAX), u64::MAX);
    }

    #[test]
    fn hostile_settings() {
        let far = Itimerspec { it_value: Timespec { tv_sec: i64::MAX, tv_nsec: 0 }, ..Itimerspec::default() };
        let countdown = Countdown::from_setting(&far, false, u64::MAX - 5).unwrap();
        assert_eq!(countdown.next, Some(u64::MAX));
        let bad = Itimerspec { it_value: Timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, ..Itimerspec::default() };
        assert_eq!(Countdown::from_setting(&bad, false, 0), Err(Errno::EINVAL));
        assert_eq!(Countdown::from_setting(&setting(0, 5), false, 9).unwrap().next, None);
    }
}
