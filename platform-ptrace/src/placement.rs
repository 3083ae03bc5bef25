//! Keeps a tracer and its tracee on one processor: waking a thread on another one costs several times a whole trap.
//!
//! Each context has one processor, to which its host thread and its stub thread are bound. A new one starts where its
//! maker is, since most wait for each other. A *balancer* thread, started for the second context, sleeps while nothing runs
//! and spreads those that are busy at the same time. It brings those together again that wait often, since each of their wake-ups reaches across
//! processors, and keeps them together even if that leaves another processor idle.

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
/// Watches without two busy contexts after which the balancer sleeps.
const QUIET_WATCHES: u32 = 4;
/// A context that is busy for less than this share of the time does not count.
const IDLE: f64 = 0.01;
/// A processor whose contexts are busy for more than this, together, in each unit of time, has too many.
const CROWDED: f64 = 1.25;
/// By how much two processors must be nearer to each other after a move.
const GAIN: f64 = 0.2;
/// Contexts that wait often are brought to one processor if that is filled up to this at most.
const ROOMY: f64 = 0.9;
/// A context that waits again after less than this many seconds has nothing from a processor of its own: waking it from
/// another takes some 70 µs longer, and where the host has more to do than this, what we see of a context's work is
/// stretched.
const DISTANCE: f64 = 200e-6;
/// A context that would lose this share of its time to wake-ups from another processor waits often.
const OFTEN: f64 = 0.15;

/// Where a context runs.
pub struct Place {
    host: Pid,
    /// The stub thread, 0 if there is none.
    stub: AtomicI32,
    processor: AtomicUsize,
    /// Nanoseconds it was busy before [`since`](Self::since).
    spent: AtomicU64,
    /// From when on it is busy, in nanoseconds of [`Processors`], if it is.
    since: AtomicU64,
    /// How often it has waited.
    waits: AtomicU64,
}

/// Nothing to do, in [`Place::since`].
const WAITING: u64 = u64::MAX;

impl Place {
    /// The processor.
    pub fn processor(&self) -> usize {
        self.processor.load(Ordering::Relaxed)
    }

    /// Nanoseconds it was busy up to `now`, and how often it has waited.
    fn account(&self, now: u64) -> (u64, u64) {
        let running = match self.since.load(Ordering::Relaxed) {
            WAITING => 0,
            since => now.saturating_sub(since),
        };
        (self.spent.load(Ordering::Relaxed) + running, self.waits.load(Ordering::Relaxed))
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
    /// There is a balancer.
    balanced: AtomicBool,
    /// The balancer waits for a context to have something to do.
    asleep: AtomicBool,
    wake: Condvar,
    closed: AtomicBool,
}

impl Processors {
    /// Takes the processors this program is allowed.
    pub fn new() -> io::Result<Arc<Self>> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        Ok(Arc::new(Processors {
            allowed: (0..CpuSet::count()).filter(|&i| set.is_set(i).unwrap_or(false)).collect(),
            epoch: Instant::now(),
            places: Mutex::default(),
            balanced: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            wake: Condvar::new(),
            closed: AtomicBool::new(false),
        }))
    }

    /// Ends the balancer.
    pub fn close(&self) {
        let _places = self.places.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// A place for a context of this host thread, on the processor `home` or, without one, where the thread is.
    pub fn enrol(self: &Arc<Self>, home: Option<usize>) -> Arc<Place> {
        let processor = home.or_else(|| sched_getcpu().ok()).unwrap_or(0);
        let place = Arc::new(Place {
            host: gettid(),
            stub: AtomicI32::new(0),
            processor: AtomicUsize::new(processor),
            spent: AtomicU64::new(0),
            since: AtomicU64::new(self.now()),
            waits: AtomicU64::new(0),
        });
        bind(place.host, processor);
        let count = {
            let mut places = self.places.lock();
            places.push(place.clone());
            places.len()
        };
        if count > 1 && self.allowed.len() > 1 && !self.balanced.swap(true, Ordering::Relaxed) {
            self.start_balancer();
        } else {
            self.stir();
        }
        place
    }

    fn start_balancer(self: &Arc<Self>) {
        let balancer = self.clone();
        let thread = std::thread::Builder::new().name("amber-balancer".into());
        if let Err(error) = thread.spawn(move || balancer.balance()) {
            // The next context tries again.
            log::debug!("no thread to spread contexts over processors: {error}");
            self.balanced.store(false, Ordering::Relaxed);
        }
    }

    /// Forgets a place.
    pub fn leave(&self, place: &Arc<Place>) {
        self.places.lock().retain(|other| !Arc::ptr_eq(other, place));
    }

    /// Gives a context that has rested something to do again, on the processor `home` if there is one.
    pub fn settle(&self, place: &Place, home: Option<usize>) {
        if let Some(home) = home.filter(|&home| home != place.processor()) {
            let _places = self.places.lock();
            place.bind(home);
        }
        self.set_waiting(place, false);
    }

    /// Brings a stub thread to the place.
    pub fn bring(&self, place: &Place, stub: i32) {
        let _places = self.places.lock();
        place.stub.store(stub, Ordering::Relaxed);
        bind(Pid::from_raw(stub), place.processor());
    }

    /// Notes that the context at a place, this thread's own, has nothing to do, or that it has.
    pub fn set_waiting(&self, place: &Place, waiting: bool) {
        let now = self.now();
        match (place.since.load(Ordering::Relaxed), waiting) {
            (WAITING, false) => {
                place.since.store(now, Ordering::Relaxed);
                self.stir();
            }
            (WAITING, true) | (_, false) => (),
            (since, true) => {
                place.since.store(WAITING, Ordering::Relaxed);
                place.spent.fetch_add(now.saturating_sub(since), Ordering::Relaxed);
                place.waits.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Wakes the balancer if it sleeps.
    fn stir(&self) {
        if self.asleep.load(Ordering::Relaxed) {
            let _places = self.places.lock();
            self.wake.notify_one();
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The balancer thread.
    fn balance(&self) {
        // The thread that started it is bound to one.
        let mut all = CpuSet::new();
        if self.allowed.iter().all(|&processor| all.set(processor).is_ok()) {
            let _ = sched_setaffinity(Pid::from_raw(0), &all);
        }
        let mut places = self.places.lock();
        let (mut watch, mut quiet) = (SHORTEST_WATCH, 0);
        while !self.closed.load(Ordering::Relaxed) {
            if quiet >= QUIET_WATCHES || places.len() < 2 {
                self.asleep.store(true, Ordering::Relaxed);
                self.wake.wait(&mut places);
                self.asleep.store(false, Ordering::Relaxed);
                quiet = 0;
                watch = SHORTEST_WATCH;
            }
            let before = self.now();
            let accounts: Vec<(Arc<Place>, (u64, u64))> =
                places.iter().map(|place| (place.clone(), place.account(before))).collect();
            self.wake.wait_for(&mut places, watch);
            let now = self.now();
            let passed = now.saturating_sub(before).max(1) as f64;
            let loads: Vec<Load> = accounts
                .iter()
                .map(|(place, (spent, waits))| {
                    let (spent_now, waits_now) = place.account(now);
                    let busy = spent_now.saturating_sub(*spent) as f64 / passed;
                    let waits = waits_now.saturating_sub(*waits) as f64 / (passed / 1e9);
                    Load::new(place.processor(), busy, waits)
                })
                .collect();
            quiet = if loads.iter().filter(|load| load.busy > IDLE).count() < 2 { quiet + 1 } else { 0 };
            let moved = parted(&loads, &self.allowed).or_else(|| joined(&loads));
            if let Some((i, processor)) = moved {
                let (place, _) = &accounts[i];
                if places.iter().any(|other| Arc::ptr_eq(other, place)) {
                    place.bind(processor);
                }
            }
            watch = if moved.is_some() { SHORTEST_WATCH } else { (watch * 2).min(LONGEST_WATCH) };
        }
    }
}

/// What a context does to its processor.
#[derive(Clone, Copy, Debug)]
struct Load {
    processor: usize,
    /// The share of the time for which it is busy.
    busy: f64,
    /// The part of that which it would lose to wake-ups from another processor.
    bound: f64,
}

impl Load {
    fn new(processor: usize, busy: f64, waits_per_second: f64) -> Self {
        let busy = busy.min(1.0);
        Load { processor, busy, bound: (waits_per_second * DISTANCE).min(busy) }
    }

    /// What would be gained on another processor.
    fn free(&self) -> f64 {
        self.busy - self.bound
    }
}

/// How full a processor is. What is bound to others there takes turns with them.
fn fill(loads: &[Load], processor: usize) -> f64 {
    let there = loads.iter().filter(|load| load.processor == processor);
    let (free, bound) =
        there.fold((0.0, 0.0), |(free, bound): (f64, f64), load| (free + load.free(), bound + load.bound));
    free + bound.min(1.0)
}

/// Which context should go to which processor, because there is more to do on its own than one can.
fn parted(loads: &[Load], allowed: &[usize]) -> Option<(usize, usize)> {
    let fills = || allowed.iter().map(|&processor| (processor, fill(loads, processor)));
    let (from, most) = fills().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (to, least) = fills().min_by(|a, b| a.1.total_cmp(&b.1))?;
    if most < CROWDED {
        return None;
    }
    // The one with most to gain that does not just change the roles of the two.
    loads
        .iter()
        .enumerate()
        .filter(|(_, load)| load.processor == from && load.free() > IDLE && most - least >= load.busy + GAIN)
        .max_by(|(_, a), (_, b)| a.free().total_cmp(&b.free()))
        .map(|(i, _)| (i, to))
}

/// Which context should go to which processor, because it and one there wait often, most likely for each other.
fn joined(loads: &[Load]) -> Option<(usize, usize)> {
    let often = || loads.iter().enumerate().filter(|(_, load)| load.bound >= OFTEN);
    let (i, first) = often().max_by(|(_, a), (_, b)| a.bound.total_cmp(&b.bound))?;
    let apart = often().filter(|(_, other)| other.processor != first.processor);
    let (_, second) = apart.max_by(|(_, a), (_, b)| a.bound.total_cmp(&b.bound))?;
    let mut after = loads.to_vec();
    after[i].processor = second.processor;
    (fill(&after, second.processor) <= ROOMY).then_some((i, second.processor))
}

/// Binds a thread to a processor. It only makes things faster, so failures (a processor just taken away, a thread just
/// killed) are left alone.
fn bind(thread: Pid, processor: usize) {
    let mut set = CpuSet::new();
    if set.set(processor).is_ok() {
        let _ = sched_setaffinity(thread, &set);
    }
}

/// The processors this thread may use; none if the host does not say.
pub fn allowed() -> Option<CpuSet> {
    sched_getaffinity(Pid::from_raw(0)).ok()
}

/// Does something with a tracee while both are on one processor; afterwards this thread may use those of `allowed` again.
pub fn with_tracee<T>(allowed: Option<&CpuSet>, tid: i32, action: impl FnOnce() -> T) -> T {
    if let Ok(processor) = sched_getcpu() {
        bind(Pid::from_raw(0), processor);
        bind(Pid::from_raw(tid), processor);
    }
    let result = action();
    if let Some(allowed) = allowed {
        let _ = sched_setaffinity(Pid::from_raw(0), allowed);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::{Load, joined, parted};

    fn busy(processor: usize, busy: f64) -> Load {
        Load::new(processor, busy, 0.0)
    }

    /// Busy, and woken so often that another processor would be no help.
    fn bound(processor: usize, busy: f64) -> Load {
        Load::new(processor, busy, 20_000.0)
    }

    #[test]
    fn two_busy_contexts_part() {
        assert_eq!(parted(&[busy(0, 1.0), busy(0, 1.0)], &[0, 1]).map(|(_, to)| to), Some(1));
        let moved = parted(&[busy(3, 0.9), busy(3, 0.2), busy(3, 0.9)], &[2, 3]);
        assert_eq!(moved.map(|(i, to)| (i != 1, to)), Some((true, 2)));
    }

    #[test]
    fn contexts_that_take_turns_stay_together() {
        assert_eq!(parted(&[busy(0, 0.5), busy(0, 0.6)], &[0, 1]), None);
        assert_eq!(parted(&[bound(0, 0.9), bound(0, 0.9)], &[0, 1]), None);
    }

    #[test]
    fn a_third_one_leaves_those_that_take_turns() {
        assert_eq!(parted(&[bound(0, 0.9), busy(0, 1.0), bound(0, 0.9)], &[0, 1]), Some((1, 1)));
    }

    #[test]
    fn a_move_that_helps_nobody_is_not_made() {
        assert_eq!(parted(&[busy(0, 1.0), busy(0, 1.0), busy(1, 1.0)], &[0, 1]), None);
        assert_eq!(parted(&[busy(0, 1.0), busy(0, 1.0)], &[0]), None);
        assert_eq!(parted(&[], &[0, 1]), None);
    }

    #[test]
    fn contexts_that_wait_for_each_other_come_together() {
        let far = |processor| Load::new(processor, 0.3, 3_000.0);
        assert_eq!(joined(&[far(0), busy(1, 0.1), far(1)]).map(|(i, _)| i != 1), Some(true));
        assert_eq!(joined(&[far(0), far(0)]), None);
        assert_eq!(joined(&[far(0), busy(1, 0.9), busy(0, 0.9), far(1)]), None);
        assert_eq!(joined(&[busy(0, 0.3), busy(1, 0.3)]), None);
    }
}
