//! How often one place in the code may write to the log. A guest can bring some lines about as often as it likes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many lines, of each place …
const BURST: u32 = 10;
/// … within this time, as Linux's `printk_ratelimited` has it.
const INTERVAL: Duration = Duration::from_secs(5);

/// A place in the code: a file and a line.
pub type Place = (&'static str, u32);

/// Counts the lines of each place.
#[derive(Default)]
pub struct RateLimit {
    places: Mutex<HashMap<Place, Window>>,
}

struct Window {
    began: Instant,
    written: u32,
    suppressed: u64,
}

impl RateLimit {
    /// Whether a line may be written now; if so, how many of its place were not since the last one that was.
    pub fn admit(&self, place: Place, now: Instant) -> Option<u64> {
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
