//! The vDSO as guests see it: its two pages, and the clock parameters that are kept true in the first.
//!
//! The parameters hold for a span of at most a second. A clock read after that makes a system call, which calibrates
//! anew: so idle guests cost nothing, and no guest strays from the host's clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_platform::{GuestMemory, OutOfMemory, PAGE_SIZE, Protection, processor};
use amber_vdso::data;

use crate::clock::Clock;
use crate::mm::{Backed, FixedPages, MapRequest, MemoryManager, Place, VmaFlags};
use crate::sync::{Mutex, Rank};

/// The clocks that go by the counter alone; others keep a distance to the first.
const CLOCKS: [Clock; 2] = [Clock::Monotonic, Clock::MonotonicRaw];
/// The longest span parameters are good for, in nanoseconds.
const LONGEST: u64 = 1_000_000_000;
/// A rate is not measured over less than this.
const SHORTEST: u64 = 5_000_000;
/// Being ahead of the host's clock by more than this is no measuring error.
const MOST_AHEAD: u64 = 1_000_000;
/// Two clocks that seem to have moved against each other by no more than this, in nanoseconds, have not.
const NOISE: u64 = 1_000;

/// The counter and a clock at one moment.
#[derive(Clone, Copy, Default)]
struct Sample {
    counter: u64,
    time: u64,
}

impl Sample {
    /// Reads both, of several tries the one that took the shortest.
    fn take(clock: Clock) -> Sample {
        let tries = (0..5).map(|_| {
            let before = processor::time_stamp();
            let time = clock.now();
            let after = processor::time_stamp();
            let width = after.saturating_sub(before);
            (width, Sample { counter: before + width / 2, time })
        });
        tries.min_by_key(|&(width, _)| width).unwrap_or_default().1
    }

    /// Nanoseconds in a tick of the counter since an earlier sample, as a fraction of 2^32; none if that was too lately.
    fn rate_since(&self, earlier: &Sample) -> Option<u64> {
        let elapsed = self.time.checked_sub(earlier.time).filter(|&elapsed| elapsed >= SHORTEST)?;
        let ticks = self.counter.checked_sub(earlier.counter)?;
        (u128::from(elapsed) << 32).checked_div(u128::from(ticks)).map(|rate| rate as u64)
    }
}

/// How a clock goes on from the base of the counter.
#[derive(Clone, Copy)]
struct Course {
    /// Its time there.
    base: u64,
    /// Nanoseconds in a tick of the counter, as a fraction of 2^32.
    multiplier: u64,
}

impl Course {
    fn after(&self, ticks: u64) -> u64 {
        self.base.saturating_add(((u128::from(ticks) * u128::from(self.multiplier)) >> 32) as u64)
    }

    /// The course of a clock that was sampled `now` and has this rate, from where the counter is at `counter`. Guests may
    /// have been `shown` a later time by the old parameters; time must not go back, so what that is ahead is lost slowly, in
    /// the `valid` nanoseconds.
    fn onwards(now: Sample, rate: u64, counter: u64, shown: Option<u64>, valid: u64) -> Course {
        let between = now.counter as i64 - counter as i64;
        let since = ((i128::from(between) * i128::from(rate)) >> 32) as i64;
        let time = now.time.saturating_add_signed(-since);
        let ahead = shown.and_then(|shown| shown.checked_sub(time)).filter(|&ahead| ahead < MOST_AHEAD).unwrap_or(0);
        let multiplier = rate - (u128::from(rate) * u128::from(ahead) / u128::from(valid)) as u64;
        Course { base: time + ahead, multiplier }
    }
}

/// How far a clock is from CLOCK_MONOTONIC: what is to be added to that, modulo 2^64.
#[derive(Clone, Copy)]
struct Distance(u64);

impl Distance {
    /// Measures it, of several tries by the one that took the shortest. The `known` one stays if it may still be true,
    /// since what guests were told of the clock hangs on it.
    fn measure(clock: Clock, known: Option<Distance>) -> Distance {
        let tries = (0..5).map(|_| {
            let before = Clock::Monotonic.now();
            let time = clock.now();
            let width = Clock::Monotonic.now().saturating_sub(before);
            (width, time.wrapping_sub(before + width / 2))
        });
        let (width, distance) = tries.min_by_key(|&(width, _)| width).unwrap_or_default();
        let moved = |known: &Distance| (distance.wrapping_sub(known.0) as i64).unsigned_abs();
        known.filter(|known| moved(known) <= width.max(NOISE)).unwrap_or(Distance(distance))
    }
}

/// What stands in the page of data.
#[derive(Clone, Copy)]
struct Parameters {
    counter: u64,
    span: u64,
    monotonic: Course,
    raw: Course,
    realtime: Distance,
    boottime: Distance,
    tai: Distance,
}

impl Parameters {
    /// The latest that anybody can have read of a clock.
    fn latest(&self, course: &Course, counter: u64) -> u64 {
        course.after(counter.saturating_sub(self.counter).min(self.span))
    }

    fn is_fresh(&self, counter: u64) -> bool {
        counter.checked_sub(self.counter).is_some_and(|ticks| ticks <= self.span / 2)
    }

    /// What guests read from a clock by themselves at this moment; none if they have to ask for it.
    fn shown(&self, clock: Clock, counter: u64) -> Option<u64> {
        let last_tick = |clock| Some(self.shown(clock, counter)? / data::TICK * data::TICK);
        let ticks = counter.checked_sub(self.counter).filter(|&ticks| ticks <= self.span)?;
        let distance = match clock {
            Clock::MonotonicCoarse => return last_tick(Clock::Monotonic),
            Clock::RealtimeCoarse => return last_tick(Clock::Realtime),
            Clock::MonotonicRaw => return Some(self.raw.after(ticks)),
            Clock::Monotonic => Distance(0),
            Clock::Realtime => self.realtime,
            Clock::Boottime => self.boottime,
            Clock::Tai => self.tai,
        };
        Some(self.monotonic.after(ticks).wrapping_add(distance.0))
    }
}

struct Calibration {
    /// From where the rates are measured, of CLOCK_MONOTONIC and CLOCK_MONOTONIC_RAW.
    anchors: [Sample; 2],
    published: Option<Parameters>,
}

/// The vDSO of a sandbox.
pub(crate) struct Vdso {
    memory: Arc<GuestMemory>,
    data: Arc<FixedPages>,
    image: Arc<FixedPages>,
    calibration: Mutex<Calibration>,
    /// Whether the host itself reads its clocks from the counter.
    counts: bool,
}

impl Vdso {
    /// Makes the pages.
    ///
    /// # Errors
    /// Guest memory has not even two pages.
    pub(crate) fn new(memory: &Arc<GuestMemory>) -> Result<Vdso, OutOfMemory> {
        let data = memory.allocate(PAGE_SIZE, PAGE_SIZE)?;
        let image = memory.allocate(PAGE_SIZE, PAGE_SIZE)?;
        memory.write(image.range().start, &amber_vdso::image());
        memory.write(data.range().start + data::FIRST_PROCESSOR, &1u32.to_le_bytes());
        Ok(Vdso {
            memory: memory.clone(),
            data: FixedPages::new(data),
            image: FixedPages::new(image),
            calibration: Mutex::new(Rank::Leaf, Calibration { anchors: CLOCKS.map(Sample::take), published: None }),
            counts: amber_host::clock::counts_time_stamps(),
        })
    }

    /// Maps it into a new address space; returns the address of the image.
    pub(super) fn map(&self, mm: &MemoryManager) -> Result<u64, Errno> {
        let start = mm.free_room(2 * PAGE_SIZE)?;
        let read = Protection { read: true, write: false, execute: false };
        let run = Protection { execute: true, ..read };
        let parts = [
            (start, &self.data, "[vvar]", read, VmaFlags::MAY_READ | VmaFlags::DONT_DUMP),
            (start + PAGE_SIZE, &self.image, "[vdso]", run, VmaFlags::MAY_ALL),
        ];
        for (at, pages, label, protection, flags) in parts {
            mm.map(MapRequest {
                place: Place::FixedFree(at),
                len: PAGE_SIZE,
                protection,
                flags: flags | VmaFlags::SPECIAL,
                backed: Backed::Object(pages.clone(), 0, None, label),
                populate: false,
                may_lock_any: true,
            })?;
        }
        mm.with_layout(|layout| layout.vdso = start + PAGE_SIZE);
        Ok(start + PAGE_SIZE)
    }

    /// Says that some thread is not on processor 0: from now on all ask by a system call on which one they are.
    pub(crate) fn ask_for_processors(&self) {
        self.memory.atomic_u32(self.data.range().start + data::FIRST_PROCESSOR).store(0, Ordering::SeqCst);
    }

    /// What a clock shows to a guest that asks for it by a system call: just what the guest would read by itself, so that
    /// time never goes back from one way of asking to the other. Makes the parameters good for some time again, unless
    /// they are.
    pub(crate) fn now(&self, clock: Clock) -> u64 {
        if !self.counts {
            return clock.now();
        }
        let mut calibration = self.calibration.lock();
        if !calibration.published.is_some_and(|parameters| parameters.is_fresh(processor::time_stamp())) {
            self.calibrate(&mut calibration);
        }
        let shown = calibration.published.and_then(|parameters| parameters.shown(clock, processor::time_stamp()));
        shown.unwrap_or_else(|| clock.now())
    }

    fn calibrate(&self, calibration: &mut Calibration) {
        let [now, raw] = CLOCKS.map(Sample::take);
        let [anchor, raw_anchor] = &calibration.anchors;
        let (Some(rate), Some(raw_rate)) = (now.rate_since(anchor), raw.rate_since(raw_anchor)) else { return };
        let elapsed = now.time - anchor.time;
        // The error of the rate shrinks with the time it was measured over, and so may the span grow.
        let valid = elapsed.saturating_mul(2).min(LONGEST);
        let span = ((u128::from(valid) << 32) / u128::from(rate.max(1))) as u64;
        let counter = now.counter;
        let known = calibration.published;
        let shown = |course: fn(&Parameters) -> &Course| known.map(|known| known.latest(course(&known), counter));
        let parameters = Parameters {
            counter,
            span,
            monotonic: Course::onwards(now, rate, counter, shown(|known| &known.monotonic), valid),
            raw: Course::onwards(raw, raw_rate, counter, shown(|known| &known.raw), valid),
            realtime: Distance::measure(Clock::Realtime, known.map(|parameters| parameters.realtime)),
            boottime: Distance::measure(Clock::Boottime, known.map(|parameters| parameters.boottime)),
            tai: Distance::measure(Clock::Tai, known.map(|parameters| parameters.tai)),
        };
        if elapsed >= LONGEST {
            calibration.anchors = [now, raw];
        }
        calibration.published = Some(parameters);
        self.publish(&parameters);
    }

    fn publish(&self, parameters: &Parameters) {
        let page = self.data.range().start;
        let sequence = self.memory.atomic_u32(page + data::SEQUENCE);
        let Course { base, multiplier } = parameters.monotonic;
        let count = sequence.load(Ordering::SeqCst);
        sequence.store(count | 1, Ordering::SeqCst);
        for (offset, value) in [
            (data::COUNTER_BASE, parameters.counter),
            (data::COUNTER_SPAN, parameters.span),
            (data::MULTIPLIER, multiplier),
            (data::MONOTONIC, base),
            (data::REALTIME, base.wrapping_add(parameters.realtime.0)),
            (data::BOOTTIME, base.wrapping_add(parameters.boottime.0)),
            (data::TAI, base.wrapping_add(parameters.tai.0)),
            (data::RAW, parameters.raw.base),
            (data::RAW_MULTIPLIER, parameters.raw.multiplier),
        ] {
            self.memory.atomic_u64(page + offset).store(value, Ordering::SeqCst);
        }
        // Zero means that nothing was ever written.
        let next = (count | 1).wrapping_add(1);
        sequence.store(if next == 0 { 2 } else { next }, Ordering::SeqCst);
    }
}
