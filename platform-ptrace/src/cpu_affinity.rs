//! Keeps a tracer and its tracee on one host CPU: a wake-up across CPUs costs several times as much as a whole trap.
//!
//! Each context has one CPU, to which its host thread and its stub thread are bound. A new context starts on the CPU of
//! its creator, since most of them wait for each other. A *balancer* thread, started with the second context, spreads
//! out the contexts that are busy at the same time. It brings contexts that wait often back together, since each of
//! their wake-ups would cross CPUs, and keeps them together even if that leaves another CPU idle. It sleeps while no
//! two contexts are busy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use parking_lot::{Condvar, Mutex};

/// The balancer's sampling interval, at first and after it has found nothing to do for long.
const MIN_INTERVAL: Duration = Duration::from_millis(2);
const MAX_INTERVAL: Duration = Duration::from_millis(32);
/// The balancer sleeps after this many samples without two busy contexts.
const QUIET_INTERVALS: u32 = 4;
/// A context whose share of busy time is lower than this is ignored.
const NEGLIGIBLE: f64 = 0.01;
/// A CPU is overloaded if the shares of its contexts sum to more than this.
const OVERLOADED: f64 = 1.25;
/// A move must narrow the gap between the two CPUs by at least this.
const MIN_GAIN: f64 = 0.2;
/// Contexts that wait often are brought to one CPU only if its load stays below this.
const MAX_FILL: f64 = 0.9;
/// Cost of a wake-up across CPUs, in seconds. A context that waits again sooner than this gains nothing from a CPU of
/// its own. The wake-up itself takes some 70 µs longer; the rest allows for other load on the host, which stretches the
/// busy times measured here.
const CROSS_CPU_WAKEUP: f64 = 200e-6;
/// A context waits often if it would lose this share of its time to wake-ups across CPUs.
const WAITS_OFTEN: f64 = 0.15;

/// The CPU of one context, and the measure of its load.
pub(crate) struct Affinity {
    host: Pid,
    /// Thread ID of the stub thread, or 0.
    stub: AtomicI32,
    cpu: AtomicUsize,
    /// Busy time before [`since`](Self::since), in nanoseconds.
    busy_time: AtomicU64,
    /// Start of the current busy period in nanoseconds since [`HostCpus::epoch`], or [`WAITING`].
    since: AtomicU64,
    /// Number of waits so far.
    waits: AtomicU64,
}

/// The context is waiting. A value of [`Affinity::since`].
const WAITING: u64 = u64::MAX;

impl Affinity {
    /// The number of the host CPU.
    pub(crate) fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }

    /// The busy time up to `now` in nanoseconds, and the number of waits.
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

/// The host CPUs that the contexts of a platform share.
pub(crate) struct HostCpus {
    allowed: Vec<usize>,
    epoch: Instant,
    affinities: Mutex<Vec<Arc<Affinity>>>,
    /// Whether there is a balancer thread.
    balanced: AtomicBool,
    /// Whether the balancer sleeps until a context becomes busy.
    asleep: AtomicBool,
    wake: Condvar,
    closed: AtomicBool,
}

impl HostCpus {
    /// Takes the CPUs that the calling thread may use (sched_getaffinity(2)).
    pub(crate) fn new() -> io::Result<Arc<Self>> {
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
    pub(crate) fn close(&self) {
        let _affinities = self.affinities.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Registers a context of the calling thread, on the CPU `home` or else on the current one, and binds the thread to
    /// it.
    pub(crate) fn register(self: &Arc<Self>, home: Option<usize>) -> Arc<Affinity> {
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
            log::debug!("starting the thread that balances contexts over host CPUs: {error}");
            self.balanced.store(false, Ordering::Relaxed);
        }
    }

    /// Removes a context that ends.
    pub(crate) fn unregister(&self, affinity: &Arc<Affinity>) {
        self.affinities.lock().retain(|other| !Arc::ptr_eq(other, affinity));
    }

    /// Marks a recycled context as busy, on the CPU `home` if there is one.
    pub(crate) fn reactivate(&self, affinity: &Affinity, home: Option<usize>) {
        if let Some(home) = home.filter(|&home| home != affinity.cpu()) {
            let _affinities = self.affinities.lock();
            affinity.bind(home);
        }
        self.set_waiting(affinity, false);
    }

    /// Binds a stub thread to the CPU of its context.
    pub(crate) fn bind_stub(&self, affinity: &Affinity, stub: i32) {
        let _affinities = self.affinities.lock();
        affinity.stub.store(stub, Ordering::Relaxed);
        bind(Pid::from_raw(stub), affinity.cpu());
    }

    /// Records whether the context of the calling thread waits or is busy.
    pub(crate) fn set_waiting(&self, affinity: &Affinity, waiting: bool) {
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

    /// Main function of the balancer thread.
    fn balance(&self) {
        // The thread inherits the binding of its creator, which is to one CPU.
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

/// The load that a context puts on its CPU.
#[derive(Clone, Copy, Debug)]
struct Load {
    cpu: usize,
    /// The share of time in which the context is busy, from 0 to 1.
    busy: f64,
    /// The part of `busy` that wake-ups across CPUs would cost.
    bound: f64,
}

impl Load {
    fn new(cpu: usize, busy: f64, waits_per_second: f64) -> Self {
        let busy = busy.min(1.0);
        Load { cpu, busy, bound: (waits_per_second * CROSS_CPU_WAKEUP).min(busy) }
    }

    /// The share of time that another CPU would add.
    fn free(&self) -> f64 {
        self.busy - self.bound
    }
}

/// The load of a CPU. The bound parts of its contexts run in turns, so together they count as 1 at most.
fn fill(loads: &[Load], cpu: usize) -> f64 {
    let there = loads.iter().filter(|load| load.cpu == cpu);
    let (free, bound) =
        there.fold((0.0, 0.0), |(free, bound): (f64, f64), load| (free + load.free(), bound + load.bound));
    free + bound.min(1.0)
}

/// Chooses a context to move off an overloaded CPU; returns its index and the new CPU.
fn spread_out(loads: &[Load], allowed: &[usize]) -> Option<(usize, usize)> {
    let fills = || allowed.iter().map(|&cpu| (cpu, fill(loads, cpu)));
    let (from, most) = fills().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (to, least) = fills().min_by(|a, b| a.1.total_cmp(&b.1))?;
    if most < OVERLOADED {
        return None;
    }
    // The context with most to gain, unless the move would only swap the roles of the two CPUs.
    loads
        .iter()
        .enumerate()
        .filter(|(_, load)| load.cpu == from && load.free() > NEGLIGIBLE && most - least >= load.busy + MIN_GAIN)
        .max_by(|(_, a), (_, b)| a.free().total_cmp(&b.free()))
        .map(|(i, _)| (i, to))
}

/// Chooses a context to move next to another that waits as often, most likely for this one; returns its index and the
/// new CPU.
fn bring_together(loads: &[Load]) -> Option<(usize, usize)> {
    let often = || loads.iter().enumerate().filter(|(_, load)| load.bound >= WAITS_OFTEN);
    let (i, first) = often().max_by(|(_, a), (_, b)| a.bound.total_cmp(&b.bound))?;
    let apart = often().filter(|(_, other)| other.cpu != first.cpu);
    let (_, second) = apart.max_by(|(_, a), (_, b)| a.bound.total_cmp(&b.bound))?;
    let mut after = loads.to_vec();
    after[i].cpu = second.cpu;
    (fill(&after, second.cpu) <= MAX_FILL).then_some((i, second.cpu))
}

/// Binds a thread to a CPU. This is an optimisation only, so errors (the CPU was taken away, the thread was killed) are
/// ignored.
fn bind(thread: Pid, cpu: usize) {
    let mut set = CpuSet::new();
    if set.set(cpu).is_ok() {
        let _ = sched_setaffinity(thread, &set);
    }
}

/// The CPUs that the calling thread may use; `None` if the host does not report them.
pub(crate) fn allowed() -> Option<CpuSet> {
    sched_getaffinity(Pid::from_raw(0)).ok()
}

/// Runs `action` with the calling thread and its tracee on one CPU. Afterwards the calling thread may again use the
/// CPUs in `allowed`.
pub(crate) fn with_tracee<T>(allowed: Option<&CpuSet>, tid: i32, action: impl FnOnce() -> T) -> T {
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

    /// Busy, and woken too often to gain from another CPU.
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
