//! Keeps a tracer and its tracee on one processor: waking a thread on another one costs several times a whole trap.
//!
//! Each context has one processor, to which its host thread and its stub thread are bound. A new one starts where its
//! maker is, since most wait for each other. Those that turn out to run at the same time are spread by a *balancer*
//! thread, which sleeps while nothing runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use parking_lot::{Condvar, Mutex};

/// How long the balancer watches before it decides: at first, and when there was nothing to do for long.
const SHORTEST_WATCH: Duration = Duration::from_millis(2);
const LONGEST_WATCH: Duration = Duration::from_millis(32);
/// Watches without any guest running after which the balancer sleeps.
const QUIET_WATCHES: u32 = 4;
/// A processor whose contexts run longer than this, together, in each unit of time, has too many.
const CROWDED: f64 = 1.25;
/// By how much two processors must be nearer to each other after a move.
const GAIN: f64 = 0.2;

/// Where a context runs.
pub struct Place {
    host: Pid,
    /// The stub thread, 0 if there is none.
    stub: AtomicI32,
    processor: AtomicUsize,
    /// Nanoseconds in the guest so far.
    spent: AtomicU64,
    /// When it went there, in nanoseconds of [`Processors`], if it is there.
    since: AtomicU64,
}

/// Outside the guest, in [`Place::since`].
const OUTSIDE: u64 = u64::MAX;

impl Place {
    /// Nanoseconds in the guest up to `now`.
    fn spent(&self, now: u64) -> u64 {
        let running = match self.since.load(Ordering::Relaxed) {
            OUTSIDE => 0,
            since => now.saturating_sub(since),
        };
        self.spent.load(Ordering::Relaxed) + running
    }

    fn bind(&self, processor: usize) {
        self.processor.store(processor, Ordering::Relaxed);
        bind(self.host, processor);
        match self.stub.load(Ordering::Relaxed) {
            0 => (),
            stub => bind(Pid::from_raw(stub), processor),
        }
    }
}

/// The processors that contexts share.
pub struct Processors {
    allowed: Vec<usize>,
    epoch: Instant,
    places: Mutex<Vec<Arc<Place>>>,
    /// The balancer waits for a context to run.
    asleep: AtomicBool,
    wake: Condvar,
    closed: AtomicBool,
}

impl Processors {
    /// Takes the processors this program is allowed, and starts the balancer if there are several.
    pub fn start() -> io::Result<Arc<Self>> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        let processors = Arc::new(Processors {
            allowed: (0..CpuSet::count()).filter(|&i| set.is_set(i).unwrap_or(false)).collect(),
            epoch: Instant::now(),
            places: Mutex::default(),
            asleep: AtomicBool::new(false),
            wake: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        if processors.allowed.len() > 1 {
            let balancer = processors.clone();
            std::thread::Builder::new().name("amber-balancer".into()).spawn(move || balancer.balance())?;
        }
        Ok(processors)
    }

    /// Ends the balancer.
    pub fn close(&self) {
        let _places = self.places.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// A place for a context of this host thread, on the processor the thread is on.
    pub fn enrol(&self) -> Arc<Place> {
        let place = Arc::new(Place {
            host: gettid(),
            stub: AtomicI32::new(0),
            processor: AtomicUsize::new(sched_getcpu().unwrap_or(0)),
            spent: AtomicU64::new(0),
            since: AtomicU64::new(OUTSIDE),
        });
        let mut places = self.places.lock();
        place.bind(place.processor.load(Ordering::Relaxed));
        places.push(place.clone());
        if places.len() == 2 {
            self.wake.notify_one();
        }
        place
    }

    /// Forgets a place.
    pub fn leave(&self, place: &Arc<Place>) {
        self.places.lock().retain(|other| !Arc::ptr_eq(other, place));
    }

    /// Brings a stub thread to the place.
    pub fn bring(&self, place: &Place, stub: i32) {
        let _places = self.places.lock();
        place.stub.store(stub, Ordering::Relaxed);
        bind(Pid::from_raw(stub), place.processor.load(Ordering::Relaxed));
    }

    /// Does what runs the guest, and counts its time.
    pub fn count<T>(&self, place: &Place, run: impl FnOnce() -> T) -> T {
        if self.asleep.load(Ordering::Relaxed) {
            let _places = self.places.lock();
            self.wake.notify_one();
        }
        let start = self.now();
        place.since.store(start, Ordering::Relaxed);
        let result = run();
        place.since.store(OUTSIDE, Ordering::Relaxed);
        place.spent.fetch_add(self.now().saturating_sub(start), Ordering::Relaxed);
        result
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The balancer thread.
    fn balance(&self) {
        let mut places = self.places.lock();
        let (mut watch, mut quiet) = (SHORTEST_WATCH, 0);
        let mut known = 0;
        while !self.closed.load(Ordering::Relaxed) {
            if quiet >= QUIET_WATCHES || places.len() < 2 {
                // With one context there is nothing to balance, and its runs need not tell.
                self.asleep.store(places.len() >= 2, Ordering::Relaxed);
                self.wake.wait(&mut places);
                self.asleep.store(false, Ordering::Relaxed);
                quiet = 0;
                watch = SHORTEST_WATCH;
            }
            let before = self.now();
            let spent: Vec<(Arc<Place>, u64)> =
                places.iter().map(|place| (place.clone(), place.spent(before))).collect();
            self.wake.wait_for(&mut places, watch);
            let now = self.now();
            let passed = now.saturating_sub(before).max(1) as f64;
            let shares: Vec<(usize, f64)> = spent
                .iter()
                .map(|(place, spent)| {
                    let share = place.spent(now).saturating_sub(*spent) as f64 / passed;
                    (place.processor.load(Ordering::Relaxed), share.min(1.0))
                })
                .collect();
            let busy: f64 = shares.iter().map(|(_, share)| share).sum();
            quiet = if busy < 0.01 { quiet + 1 } else { 0 };
            let moved = better(&shares, &self.allowed);
            if let Some((i, processor)) = moved {
                let (place, _) = &spent[i];
                if places.iter().any(|other| Arc::ptr_eq(other, place)) {
                    place.bind(processor);
                }
            }
            let restless = moved.is_some() || places.len() != known;
            known = places.len();
            watch = if restless { SHORTEST_WATCH } else { (watch * 2).min(LONGEST_WATCH) };
        }
    }
}

/// Which context should go to which processor, given where each is and for what share of the time it runs.
fn better(shares: &[(usize, f64)], allowed: &[usize]) -> Option<(usize, usize)> {
    let load = |processor: usize| shares.iter().filter(|(at, _)| *at == processor).map(|(_, share)| share).sum::<f64>();
    let loads = || allowed.iter().map(|&processor| (processor, load(processor)));
    let (from, most) = loads().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (to, least) = loads().min_by(|a, b| a.1.total_cmp(&b.1))?;
    if most < CROWDED {
        return None;
    }
    // The busiest that does not just change the roles of the two.
    shares
        .iter()
        .enumerate()
        .filter(|(_, (at, share))| *at == from && most - least >= share + GAIN)
        .max_by(|(_, a), (_, b)| a.1.total_cmp(&b.1))
        .map(|(i, _)| (i, to))
}

/// Binds a thread to a processor. It only makes things faster, so failures (a processor just taken away, a thread just
/// killed) are left alone.
fn bind(thread: Pid, processor: usize) {
    let mut set = CpuSet::new();
    if set.set(processor).is_ok() {
        let _ = sched_setaffinity(thread, &set);
    }
}

/// Does something with a tracee while both are on one processor; afterwards this thread may be anywhere again.
pub fn with_tracee<T>(tid: i32, action: impl FnOnce() -> T) -> T {
    let allowed = sched_getaffinity(Pid::from_raw(0));
    if let Ok(processor) = sched_getcpu() {
        bind(Pid::from_raw(0), processor);
        bind(Pid::from_raw(tid), processor);
    }
    let result = action();
    if let Ok(allowed) = allowed {
        let _ = sched_setaffinity(Pid::from_raw(0), &allowed);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::better;

    #[test]
    fn two_busy_contexts_part() {
        assert_eq!(better(&[(0, 1.0), (0, 1.0)], &[0, 1]).map(|(_, to)| to), Some(1));
        assert_eq!(better(&[(3, 0.9), (3, 0.2), (3, 0.9)], &[2, 3]).map(|(i, to)| (i != 1, to)), Some((true, 2)));
    }

    #[test]
    fn contexts_that_take_turns_stay_together() {
        assert_eq!(better(&[(0, 0.5), (0, 0.6)], &[0, 1]), None);
    }

    #[test]
    fn a_move_that_helps_nobody_is_not_made() {
        assert_eq!(better(&[(0, 1.0), (0, 1.0), (1, 1.0)], &[0, 1]), None);
        assert_eq!(better(&[(0, 1.0), (0, 1.0)], &[0]), None);
        assert_eq!(better(&[], &[0, 1]), None);
    }
}
