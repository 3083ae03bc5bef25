//! The vDSO as guests see it: its two pages, and the clock parameters that are kept true in the first.
//!
//! The parameters hold for a span of at most a second. A clock read after that makes a system call, which calibrates
//! anew: so idle guests cost nothing, and no guest strays from the host's clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_platform::{GuestMemory, OutOfMemory, PAGE_SIZE, Protection, processor};
use amber_vdso::data;

use crate::mm::{Backed, FixedPages, MapRequest, MemoryManager, Place, VmaFlags};
use crate::sync::{Mutex, Rank};
use crate::time::clock::Clock;

/// The longest span parameters are good for, in nanoseconds.
const LONGEST: u64 = 1_000_000_000;
/// A rate is not measured over less than this.
const SHORTEST: u64 = 5_000_000;
/// Being ahead of the host's clock by more than this is no measuring error.
const MOST_AHEAD: u64 = 1_000_000;
/// Two clocks that seem to have moved against each other by no more than this, in nanoseconds, have not.
const NOISE: u64 = 1_000;

/// The counter and CLOCK_MONOTONIC at one moment.
#[derive(Clone, Copy)]
struct Sample {
    counter: u64,
    monotonic: u64,
}

impl Sample {
    /// Reads both, of several tries the one that took the shortest.
    fn take() -> Sample {
        let tries = (0..5).map(|_| {
            let before = processor::time_stamp();
            let monotonic = Clock::Monotonic.now();
            let after = processor::time_stamp();
            let width = after.saturating_sub(before);
            (width, Sample { counter: before + width / 2, monotonic })
        });
        tries.min_by_key(|&(width, _)| width).map_or(Sample { counter: 0, monotonic: 0 }, |(_, sample)| sample)
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
    base: Sample,
    multiplier: u64,
    span: u64,
    realtime: Distance,
    boottime: Distance,
    tai: Distance,
}

impl Parameters {
    fn monotonic(&self, counter: u64) -> u64 {
        let ticks = u128::from(counter.saturating_sub(self.base.counter));
        self.base.monotonic.saturating_add(((ticks * u128::from(self.multiplier)) >> 32) as u64)
    }

    /// The latest CLOCK_MONOTONIC anybody can have read.
    fn latest(&self, counter: u64) -> u64 {
        self.monotonic(counter.min(self.base.counter.saturating_add(self.span)))
    }

    fn is_fresh(&self, counter: u64) -> bool {
        counter.checked_sub(self.base.counter).is_some_and(|ticks| ticks <= self.span / 2)
    }

    /// What guests read from a clock by themselves at this moment; none if they have to ask for it.
    fn shown(&self, clock: Clock, counter: u64) -> Option<u64> {
        let last_tick = |clock| Some(self.shown(clock, counter)? / data::TICK * data::TICK);
        let distance = match clock {
            Clock::MonotonicCoarse => return last_tick(Clock::Monotonic),
            Clock::RealtimeCoarse => return last_tick(Clock::Realtime),
            Clock::MonotonicRaw => return None,
            Clock::Monotonic => Distance(0),
            Clock::Realtime => self.realtime,
            Clock::Boottime => self.boottime,
            Clock::Tai => self.tai,
        };
        let is_good = counter.checked_sub(self.base.counter).is_some_and(|ticks| ticks <= self.span);
        is_good.then(|| self.monotonic(counter).wrapping_add(distance.0))
    }
}

struct Calibration {
    /// From where the rate is measured.
    anchor: Sample,
    published: Option<Parameters>,
}

/// The vDSO of a sandbox.
pub struct Vdso {
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
    pub fn new(memory: &Arc<GuestMemory>) -> Result<Vdso, OutOfMemory> {
        let data = memory.allocate(PAGE_SIZE, PAGE_SIZE)?;
        let image = memory.allocate(PAGE_SIZE, PAGE_SIZE)?;
        memory.write(image.range().start, &amber_vdso::image());
        memory.write(data.range().start + data::FIRST_PROCESSOR, &1u32.to_le_bytes());
        Ok(Vdso {
            memory: memory.clone(),
            data: FixedPages::new(data),
            image: FixedPages::new(image),
            calibration: Mutex::new(Rank::Leaf, Calibration { anchor: Sample::take(), published: None }),
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
    pub fn ask_for_processors(&self) {
        self.memory.atomic_u32(self.data.range().start + data::FIRST_PROCESSOR).store(0, Ordering::SeqCst);
    }

    /// What a clock shows to a guest that asks for it by a system call: just what the guest would read by itself, so that
    /// time never goes back from one way of asking to the other. Makes the parameters good for some time again, unless
    /// they are.
    pub fn now(&self, clock: Clock) -> u64 {
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
        let now = Sample::take();
        let elapsed = now.monotonic.saturating_sub(calibration.anchor.monotonic);
        let ticks = now.counter.saturating_sub(calibration.anchor.counter);
        if elapsed < SHORTEST || ticks == 0 {
            return;
        }
        let rate = ((u128::from(elapsed) << 32) / u128::from(ticks)) as u64;
        // The error of the rate shrinks with the time it was measured over, and so may the span grow.
        let valid = elapsed.saturating_mul(2).min(LONGEST);
        let span = ((u128::from(valid) << 32) / u128::from(rate.max(1))) as u64;
        // Guests were told times by the old parameters; time must not go back, so what we are ahead is lost slowly.
        let known = calibration.published;
        let shown = known.map_or(0, |parameters| parameters.latest(now.counter));
        let ahead = shown.checked_sub(now.monotonic).filter(|&ahead| ahead < MOST_AHEAD).unwrap_or(0);
        let parameters = Parameters {
            base: Sample { monotonic: now.monotonic + ahead, ..now },
            multiplier: rate - (u128::from(rate) * u128::from(ahead) / u128::from(valid)) as u64,
            span,
            realtime: Distance::measure(Clock::Realtime, known.map(|parameters| parameters.realtime)),
            boottime: Distance::measure(Clock::Boottime, known.map(|parameters| parameters.boottime)),
            tai: Distance::measure(Clock::Tai, known.map(|parameters| parameters.tai)),
        };
        if elapsed >= LONGEST {
            calibration.anchor = now;
        }
        calibration.published = Some(parameters);
        self.publish(&parameters);
    }

    fn publish(&self, parameters: &Parameters) {
        let page = self.data.range().start;
        let sequence = self.memory.atomic_u32(page + data::SEQUENCE);
        let base = parameters.base.monotonic;
        let count = sequence.load(Ordering::SeqCst);
        sequence.store(count | 1, Ordering::SeqCst);
        for (offset, value) in [
            (data::COUNTER_BASE, parameters.base.counter),
            (data::COUNTER_SPAN, parameters.span),
            (data::MULTIPLIER, parameters.multiplier),
            (data::MONOTONIC, base),
            (data::REALTIME, base.wrapping_add(parameters.realtime.0)),
            (data::BOOTTIME, base.wrapping_add(parameters.boottime.0)),
            (data::TAI, base.wrapping_add(parameters.tai.0)),
        ] {
            self.memory.atomic_u64(page + offset).store(value, Ordering::SeqCst);
        }
        // Zero means that nothing was ever written.
        let next = (count | 1).wrapping_add(1);
        sequence.store(if next == 0 { 2 } else { next }, Ordering::SeqCst);
    }
}
