//! Rate limit of log messages by place in the code. A guest can cause some messages arbitrarily often.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Messages of a place …
const BURST: u32 = 10;
/// … in this time, as in Linux's `printk_ratelimited`.
const INTERVAL: Duration = Duration::from_secs(5);

/// A place in the code: file and line.
pub(crate) type Place = (&'static str, u32);

/// Counts the messages of each place.
#[derive(Default)]
pub(crate) struct RateLimit {
    places: Mutex<HashMap<Place, Window>>,
}

struct Window {
    began: Instant,
    written: u32,
    suppressed: u64,
}

impl RateLimit {
    /// Whether a message may be written now; if so, how many of this place were suppressed since the last one.
    pub(crate) fn admit(&self, place: Place, now: Instant) -> Option<u64> {
        let mut places = self.places.lock();
        let window = places.entry(place).or_insert(Window { began: now, written: 0, suppressed: 0 });
        if now.saturating_duration_since(window.began) >= INTERVAL {
            (window.began, window.written) = (now, 0);
        }
        if window.written == BURST {
            window.suppressed += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_its_burst_in_each_interval() {
        let (limit, start) = (RateLimit::default(), Instant::now());
        let admitted = |place, at| (0..100).filter(|_| limit.admit(place, at).is_some()).count() as u32;
        assert_eq!(admitted(("a", 1), start), BURST);
        assert_eq!(admitted(("a", 2), start), BURST);
        assert_eq!(admitted(("a", 1), start + INTERVAL / 2), 0);
        assert_eq!(limit.admit(("a", 1), start + INTERVAL), Some(100 - u64::from(BURST) + 100));
        assert_eq!(limit.admit(("a", 1), start + INTERVAL), Some(0));
    }
}
