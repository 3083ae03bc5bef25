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
const MIN_INTERVAL: Duration = Duration::from_millis(2);
const MAX_INTERVAL: Duration = Duration::from_millis(32);
/// Watches without two busy contexts after which the balancer sleeps.
const QUIET_INTERVALS: u32 = 4;
/// A context that is busy for less than this share of the time does not count.
const NEGLIGIBLE: f64 = 0.01;
/// A processor whose contexts are busy for more than this, together, in each unit of time, has too many.
const OVERLOADED: f64 = 1.25;
/// By how much two processors must be nearer to each other after a move.
const MIN_GAIN: f64 = 0.2;
/// Contexts that wait often are brought to one processor if that is filled up to this at most.
const MAX_FILL: f64 = 0.9;
/// A context that waits again after less than this many seconds has nothing from a processor of its own: waking it from
/// another takes some 70 µs longer, and where the host has more to do than this, what we see of a context's work is
/// stretched.
const CROSS_CPU_WAKEUP: f64 = 200e-6;
/// A context that would lose this share of its time to wake-ups from another processor waits often.
const WAITS_OFTEN: f64 = 0.15;

/// Where a context runs.
pub struct Affinity {
    host: Pid,
    /// The stub thread, 0 if there is none.
    stub: AtomicI32,
    cpu: AtomicUsize,
    /// Nanoseconds it was busy before [`since`](Self::since).
    busy_time: AtomicU64,
    /// From when on it is busy, in nanoseconds of [`HostCpus`], if it is.
    since: AtomicU64,
    /// How often it has waited.
    waits: AtomicU64,
}

/// Nothing to do, in [`Affinity::since`].
const WAITING: u64 = u64::MAX;

impl Affinity {
    /// The processor.
    pub fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }

    /// Nanoseconds it was busy up to `now`, and how often it has waited.
    fn account(&self, now: u64) -> (u64, u64) {
        let running = match self.since.load(Ordering::Relaxed) {
            WAITING => 0,
            since => now.saturating_sub(since),
        };
        (self.busy_time.load(Ordering::Relaxed) + running, self.waits.load(Ordering::Relaxed))
    }

    fn bind(&self, cpu: usize) {
        self.cpu.store(cpu, Ordering::Relaxed);
        bind(self.host, cpu);
        match self.stub.load(Ordering::Relaxed) {
            0 => (),
            stub => bind(Pid::from_raw(stub), cpu),
        }
    }
}

/// The processors that contexts share.
pub struct HostCpus {
    allowed: Vec<usize>,
    epoch: Instant,
    affinities: Mutex<Vec<Arc<Affinity>>>,
    /// There is a balancer.
    balanced: AtomicBool,
    /// The balancer waits for a context to have something to do.
    asleep: AtomicBool,
    wake: Condvar,
    closed: AtomicBool,
}

impl HostCpus {
    /// Takes the processors this program is allowed.
    pub fn new() -> io::Result<Arc<Self>> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        Ok(Arc::new(HostCpus {
            allowed: (0..CpuSet::count()).filter(|&i| set.is_set(i).unwrap_or(false)).collect(),
            epoch: Instant::now(),
            affinities: Mutex::default(),
            balanced: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            wake: Condvar::new(),
            closed: AtomicBool::new(false),
        }))
    }

    /// Ends the balancer.
    pub fn close(&self) {
        let _affinities = self.affinities.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// A place for a context of this host thread, on the processor `home` or, without one, where the thread is.
    pub fn register(self: &Arc<Self>, home: Option<usize>) -> Arc<Affinity> {
        let cpu = home.or_else(|| sched_getcpu().ok()).unwrap_or(0);
        let affinity = Arc::new(Affinity {
            host: gettid(),
            stub: AtomicI32::new(0),
            cpu: AtomicUsize::new(cpu),
            busy_time: AtomicU64::new(0),
            since: AtomicU64::new(self.now()),
            waits: AtomicU64::new(0),
        });
        bind(affinity.host, cpu);
        let count = {
            let mut affinities = self.affinities.lock();
            affinities.push(affinity.clone());
            affinities.len()
        };
        if count > 1 && self.allowed.len() > 1 && !self.balanced.swap(true, Ordering::Relaxed) {
            self.start_balancer();
        } else {
            self.wake_balancer();
        }
        affinity
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
    pub fn unregister(&self, affinity: &Arc<Affinity>) {
        self.affinities.lock().retain(|other| !Arc::ptr_eq(other, affinity));
    }

    /// Gives a context that has rested something to do again, on the processor `home` if there is one.
    pub fn reactivate(&self, affinity: &Affinity, home: Option<usize>) {
        if let Some(home) = home.filter(|&home| home != affinity.cpu()) {
            let _affinities = self.affinities.lock();
            affinity.bind(home);
        }
        self.set_waiting(affinity, false);
    }

    /// Brings a stub thread to the place.
    pub fn bind_stub(&self, affinity: &Affinity, stub: i32) {
        let _affinities = self.affinities.lock();
        affinity.stub.store(stub, Ordering::Relaxed);
        bind(Pid::from_raw(stub), affinity.cpu());
    }

    /// Notes that the context at a place, this thread's own, has nothing to do, or that it has.
    pub fn set_waiting(&self, affinity: &Affinity, waiting: bool) {
        let now = self.now();
        match (affinity.since.load(Ordering::Relaxed), waiting) {
            (WAITING, false) => {
                affinity.since.store(now, Ordering::Relaxed);
                self.wake_balancer();
            }
            (WAITING, true) | (_, false) => (),
            (since, true) => {
                affinity.since.store(WAITING, Ordering::Relaxed);
                affinity.busy_time.fetch_add(now.saturating_sub(since), Ordering::Relaxed);
                affinity.waits.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Wakes the balancer if it sleeps.
    fn wake_balancer(&self) {
        if self.asleep.load(Ordering::Relaxed) {
            let _affinities = self.affinities.lock();
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
        if self.allowed.iter().all(|&cpu| all.set(cpu).is_ok()) {
            let _ = sched_setaffinity(Pid::from_raw(0), &all);
        }
        let mut affinities = self.affinities.lock();
        let (mut interval, mut quiet) = (MIN_INTERVAL, 0);
        while !self.closed.load(Ordering::Relaxed) {
            if quiet >= QUIET_INTERVALS || affinities.len() < 2 {
                self.asleep.store(true, Ordering::Relaxed);
                self.wake.wait(&mut affinities);
                self.asleep.store(false, Ordering::Relaxed);
                quiet = 0;
                interval = MIN_INTERVAL;
            }
            let before = self.now();
            let accounts: Vec<(Arc<Affinity>, (u64, u64))> =
                affinities.iter().map(|affinity| (affinity.clone(), affinity.account(before))).collect();
            self.wake.wait_for(&mut affinities, interval);
            let now = self.now();
            let passed = now.saturating_sub(before).max(1) as f64;
            let loads: Vec<Load> = accounts
                .iter()
                .map(|(affinity, (busy_before, waits_before))| {
                    let (busy_now, waits_now) = affinity.account(now);
                    let busy = busy_now.saturating_sub(*busy_before) as f64 / passed;
                    let waits = waits_now.saturating_sub(*waits_before) as f64 / (passed / 1e9);
                    Load::new(affinity.cpu(), busy, waits)
                })
                .collect();
            quiet = if loads.iter().filter(|load| load.busy > NEGLIGIBLE).count() < 2 { quiet + 1 } else { 0 };
            let moved = spread_out(&loads, &self.allowed).or_else(|| bring_together(&loads));
            if let Some((i, cpu)) = moved {
                let (affinity, _) = &accounts[i];
                if affinities.iter().any(|other| Arc::ptr_eq(other, affinity)) {
                    affinity.bind(cpu);
                }
            }
            interval = if moved.is_some() { MIN_INTERVAL } else { (interval * 2).min(MAX_INTERVAL) };
        }
    }
}

/// What a context does to its processor.
#[derive(Clone, Copy, Debug)]
struct Load {
    cpu: usize,
    /// The share of the time for which it is busy.
    busy: f64,
    /// The part of that which it would lose to wake-ups from another processor.
    bound: f64,
}

impl Load {
    fn new(cpu: usize, busy: f64, waits_per_second: f64) -> Self {
        let busy = busy.min(1.0);
        Load { cpu, busy, bound: (waits_per_second * CROSS_CPU_WAKEUP).min(busy) }
    }

    /// What would be gained on another processor.
    fn free(&self) -> f64 {
        self.busy - self.bound
    }
}

/// How full a processor is. What is bound to others there takes turns with them.
fn fill(loads: &[Load], cpu: usize) -> f64 {
    let there = loads.iter().filter(|load| load.cpu == cpu);
    let (free, bound) =
        there.fold((0.0, 0.0), |(free, bound): (f64, f64), load| (free + load.free(), bound + load.bound));
    free + bound.min(1.0)
}

/// Which context should go to which processor, because there is more to do on its own than one can.
fn spread_out(loads: &[Load], allowed: &[usize]) -> Option<(usize, usize)> {
    let fills = || allowed.iter().map(|&cpu| (cpu, fill(loads, cpu)));
    let (from, most) = fills().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (to, least) = fills().min_by(|a, b| a.1.total_cmp(&b.1))?;
    if most < OVERLOADED {
        return None;
    }
    // The one with most to gain that does not just change the roles of the two.
    loads
        .iter()
        .enumerate()
        .filter(|(_, load)| load.cpu == from && load.free() > NEGLIGIBLE && most - least >= load.busy + MIN_GAIN)
        .max_by(|(_, a), (_, b)| a.free().total_cmp(&b.free()))
        .map(|(i, _)| (i, to))
}

/// Which context should go to which processor, because it and one there wait often, most likely for each other.
fn bring_together(loads: &[Load]) -> Option<(usize, usize)> {
    let often = || loads.iter().enumerate().filter(|(_, load)| load.bound >= WAITS_OFTEN);
    let (i, first) = often().max_by(|(_, a), (_, b)| a.bound.total_cmp(&b.bound))?;
    let apart = often().filter(|(_, other)| other.cpu != first.cpu);
    let (_, second) = apart.max_by(|(_, a), (_, b)| a.bound.total_cmp(&b.bound))?;
    let mut after = loads.to_vec();
    after[i].cpu = second.cpu;
    (fill(&after, second.cpu) <= MAX_FILL).then_some((i, second.cpu))
}

/// Binds a thread to a processor. It only makes things faster, so failures (a processor just taken away, a thread just
/// killed) are left alone.
fn bind(thread: Pid, cpu: usize) {
    let mut set = CpuSet::new();
    if set.set(cpu).is_ok() {
        let _ = sched_setaffinity(thread, &set);
    }
}

/// The processors this thread may use; none if the host does not say.
pub fn allowed() -> Option<CpuSet> {
    sched_getaffinity(Pid::from_raw(0)).ok()
}

/// Does something with a tracee while both are on one processor; afterwards this thread may use those of `allowed` again.
pub fn with_tracee<T>(allowed: Option<&CpuSet>, tid: i32, action: impl FnOnce() -> T) -> T {
    if let Ok(cpu) = sched_getcpu() {
        bind(Pid::from_raw(0), cpu);
        bind(Pid::from_raw(tid), cpu);
    }
    let result = action();
    if let Some(allowed) = allowed {
        let _ = sched_setaffinity(Pid::from_raw(0), allowed);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::{Load, bring_together, spread_out};

    fn busy(cpu: usize, busy: f64) -> Load {
        Load::new(cpu, busy, 0.0)
    }

    /// Busy, and woken so often that another processor would be no help.
    fn bound(cpu: usize, busy: f64) -> Load {
        Load::new(cpu, busy, 20_000.0)
    }

    #[test]
    fn two_busy_contexts_part() {
        assert_eq!(spread_out(&[busy(0, 1.0), busy(0, 1.0)], &[0, 1]).map(|(_, to)| to), Some(1));
        let moved = spread_out(&[busy(3, 0.9), busy(3, 0.2), busy(3, 0.9)], &[2, 3]);
        assert_eq!(moved.map(|(i, to)| (i != 1, to)), Some((true, 2)));
    }

    #[test]
    fn contexts_that_take_turns_stay_together() {
        assert_eq!(spread_out(&[busy(0, 0.5), busy(0, 0.6)], &[0, 1]), None);
        assert_eq!(spread_out(&[bound(0, 0.9), bound(0, 0.9)], &[0, 1]), None);
    }

    #[test]
    fn a_third_one_leaves_those_that_take_turns() {
        assert_eq!(spread_out(&[bound(0, 0.9), busy(0, 1.0), bound(0, 0.9)], &[0, 1]), Some((1, 1)));
    }

    #[test]
    fn a_move_that_helps_nobody_is_not_made() {
        assert_eq!(spread_out(&[busy(0, 1.0), busy(0, 1.0), busy(1, 1.0)], &[0, 1]), None);
        assert_eq!(spread_out(&[busy(0, 1.0), busy(0, 1.0)], &[0]), None);
        assert_eq!(spread_out(&[], &[0, 1]), None);
    }

    #[test]
    fn contexts_that_wait_for_each_other_come_together() {
        let far = |cpu| Load::new(cpu, 0.3, 3_000.0);
        assert_eq!(bring_together(&[far(0), busy(1, 0.1), far(1)]).map(|(i, _)| i != 1), Some(true));
        assert_eq!(bring_together(&[far(0), far(0)]), None);
        assert_eq!(bring_together(&[far(0), busy(1, 0.9), busy(0, 0.9), far(1)]), None);
        assert_eq!(bring_together(&[busy(0, 0.3), busy(1, 0.3)]), None);
    }
}
