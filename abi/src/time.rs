//! Time: its structures, clocks and timers.

/// Ticks in a second wherever the interface counts in ticks (`times`, `/proc/PID/stat`, `si_utime`).
pub const USER_HZ: u64 = 100;
/// Nanoseconds in a second.
pub const NSEC_PER_SEC: i64 = 1_000_000_000;

layout! {
    /// Seconds and nanoseconds.
    pub struct Timespec: 16 {
        tv_sec: i64,
        tv_nsec: i64,
    }

    /// Seconds and microseconds.
    pub struct Timeval: 16 {
        tv_sec: i64,
        tv_usec: i64,
    }

    /// The setting of a POSIX timer or a timerfd.
    pub struct Itimerspec: 32 {
        it_interval: Timespec,
        it_value: Timespec,
    }

    /// The setting of an interval timer.
    pub struct Itimerval: 32 {
        it_interval: Timeval,
        it_value: Timeval,
    }

    /// What `gettimeofday` says of the time zone.
    pub struct Timezone: 8 {
        tz_minuteswest: i32,
        tz_dsttime: i32,
    }

    /// What `utime` takes.
    pub struct Utimbuf: 16 {
        actime: i64,
        modtime: i64,
    }

    /// What `adjtimex` reads and writes.
    pub struct Timex: 208 {
        /// The `ADJ_` bits.
        modes: u32,
        _pad0: u32,
        offset: i64,
        freq: i64,
        maxerror: i64,
        esterror: i64,
        /// The `STA_` bits.
        status: i32,
        _pad1: u32,
        constant: i64,
        precision: i64,
        tolerance: i64,
        time: Timeval,
        tick: i64,
        ppsfreq: i64,
        jitter: i64,
        shift: i32,
        _pad2: u32,
        stabil: i64,
        jitcnt: i64,
        calcnt: i64,
        errcnt: i64,
        stbcnt: i64,
        tai: i32,
        _pad3: [i32; 11],
    }
}

impl Timespec {
    /// Whether the nanoseconds are a fraction of a second and the seconds not negative, as the calls that sleep demand.
    pub const fn is_valid(&self) -> bool {
        self.tv_sec >= 0 && self.tv_nsec >= 0 && self.tv_nsec < NSEC_PER_SEC
    }

    /// From a count of nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { tv_sec: nanos.div_euclid(NSEC_PER_SEC), tv_nsec: nanos.rem_euclid(NSEC_PER_SEC) }
    }

    /// As a count of nanoseconds; what is further than 292 years away saturates.
    pub const fn to_nanos(&self) -> i64 {
        self.tv_sec.saturating_mul(NSEC_PER_SEC).saturating_add(self.tv_nsec)
    }
}

impl Timeval {
    /// Whether the microseconds are a fraction of a second and the seconds not negative.
    pub const fn is_valid(&self) -> bool {
        self.tv_sec >= 0 && self.tv_usec >= 0 && self.tv_usec < 1_000_000
    }

    /// From a count of nanoseconds, rounded down.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { tv_sec: nanos.div_euclid(NSEC_PER_SEC), tv_usec: nanos.rem_euclid(NSEC_PER_SEC) / 1000 }
    }

    /// As a count of nanoseconds; what is further than 292 years away saturates.
    pub const fn to_nanos(&self) -> i64 {
        self.tv_sec.saturating_mul(NSEC_PER_SEC).saturating_add(self.tv_usec.saturating_mul(1000))
    }
}

consts! { i64:
    /// In place of nanoseconds for `utimensat`: the present time.
    UTIME_NOW = 0x3fff_ffff,
    /// In place of nanoseconds for `utimensat`: leave it as it is.
    UTIME_OMIT = 0x3fff_fffe,
}

named! {
    /// A clock. Negative numbers are clocks of processes, threads and devices.
    pub struct ClockId(i32) {
        CLOCK_REALTIME = 0,
        CLOCK_MONOTONIC = 1,
        CLOCK_PROCESS_CPUTIME_ID = 2,
        CLOCK_THREAD_CPUTIME_ID = 3,
        CLOCK_MONOTONIC_RAW = 4,
        CLOCK_REALTIME_COARSE = 5,
        CLOCK_MONOTONIC_COARSE = 6,
        CLOCK_BOOTTIME = 7,
        CLOCK_REALTIME_ALARM = 8,
        CLOCK_BOOTTIME_ALARM = 9,
        CLOCK_TAI = 11,
    }
}

named! {
    /// An interval timer.
    pub struct ItimerWhich(i32) {
        ITIMER_REAL = 0,
        ITIMER_VIRTUAL = 1,
        ITIMER_PROF = 2,
    }
}

flags! {
    /// The flags of `timer_settime` and `clock_nanosleep`.
    pub struct TimerFlags: u32 {
        TIMER_ABSTIME = 0x1,
    }
}

flags! {
    /// The flags of `timerfd_create`.
    pub struct TimerfdFlags: u32 {
        TFD_CLOEXEC = 0o2000000,
        TFD_NONBLOCK = 0o4000,
    }
}

flags! {
    /// The flags of `timerfd_settime`.
    pub struct TimerfdSetFlags: u32 {
        TFD_TIMER_ABSTIME = 0x1,
        TFD_TIMER_CANCEL_ON_SET = 0x2,
    }
}

flags! {
    /// `modes` of [`Timex`]: what to set.
    pub struct AdjustModes: u32 {
        ADJ_OFFSET_SS_READ = 0xa001,
        ADJ_OFFSET_SINGLESHOT = 0x8001,
        ADJ_OFFSET = 0x1,
        ADJ_FREQUENCY = 0x2,
        ADJ_MAXERROR = 0x4,
        ADJ_ESTERROR = 0x8,
        ADJ_STATUS = 0x10,
        ADJ_TIMECONST = 0x20,
        ADJ_TAI = 0x80,
        ADJ_SETOFFSET = 0x100,
        ADJ_MICRO = 0x1000,
        ADJ_NANO = 0x2000,
        ADJ_TICK = 0x4000,
    }
}

consts! { i32:
    STA_PLL = 0x1,
    STA_PPSFREQ = 0x2,
    STA_PPSTIME = 0x4,
    STA_FLL = 0x8,
    STA_INS = 0x10,
    STA_DEL = 0x20,
    STA_UNSYNC = 0x40,
    STA_FREQHOLD = 0x80,
    STA_NANO = 0x2000,
    TIME_OK = 0,
    TIME_INS = 1,
    TIME_DEL = 2,
    TIME_OOP = 3,
    TIME_WAIT = 4,
    TIME_ERROR = 5,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts_and_arithmetic() {
        assert_eq!(size_of::<Timex>(), size_of::<libc::timex>());
        assert_eq!(offset_of!(Timex, tai), offset_of!(libc::timex, tai));
        assert_eq!(size_of::<Itimerspec>(), size_of::<libc::itimerspec>());
        assert_eq!(Timespec::from_nanos(-1), Timespec { tv_sec: -1, tv_nsec: 999_999_999 });
        assert_eq!(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }.to_nanos(), i64::MAX);
        assert_eq!(Timeval::from_nanos(1_500_000_000).to_nanos(), 1_500_000_000);
        assert_eq!(ClockId::CLOCK_TAI.raw(), libc::CLOCK_TAI);
    }
}
