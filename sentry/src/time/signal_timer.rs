//! Timers that send signals: setitimer(2) and timer_create(2).

use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::time::Itimerspec;
use amber_abi::{SigInfo, Signal};

use crate::clock::{Clock, monotonic};
use crate::signal::{OutgoingSignal, SignalSource};
use crate::sync::{Mutex, Rank};
use crate::task::{Task, ThreadGroup};
use crate::time::cpu::CpuClock;
use crate::time::{Alarm, Countdown, Expire, TimerService};
use crate::users::UserCharge;

/// Pause of a repeating timer whose signal is not taken, in nanoseconds.
const UNWANTED_PAUSE: u64 = 4_000_000;

/// The clock of a timer.
#[derive(Clone)]
pub(crate) enum TimerClock {
    /// A system-wide clock.
    System(Clock),
    /// A CPU time clock.
    Cpu(CpuClock),
}

impl TimerClock {
    /// The time.
    ///
    /// # Errors
    /// `ESRCH` if the process or thread of the clock has ended.
    pub(crate) fn now(&self) -> Result<u64, Errno> {
        match self {
            TimerClock::System(clock) => Ok(clock.now()),
            TimerClock::Cpu(clock) => clock.now().ok_or_else(|| Errno::ESRCH.here()),
        }
    }
}

/// The effect of an expiration.
pub(crate) enum Notice {
    /// None: the guest reads the timer (`SIGEV_NONE`).
    None,
    /// A kernel signal for the process (setitimer(2)).
    Kernel(Signal),
    /// A signal with `SI_TIMER` for the process or one of its threads.
    Posix {
        /// The signal.
        signal: Signal,
        /// The guest's `sigev_value`.
        value: u64,
        /// The receiving thread; none for any.
        task: Option<Weak<Task>>,
    },
}

struct State {
    countdown: Countdown,
    alarm: Option<Alarm>,
    /// The signal was sent and not taken yet. Until then no further one is sent, and expirations are counted.
    pending: bool,
    missed: u64,
    overrun: i32,
}

/// A timer of a process.
pub(crate) struct SignalTimer {
    me: Weak<SignalTimer>,
    service: Arc<TimerService>,
    group: Weak<ThreadGroup>,
    /// The program that created it. Signals of timer_create(2) do not reach later ones.
    program: u64,
    id: i32,
    clock: TimerClock,
    notice: Notice,
    state: Mutex<State>,
    /// The charge for RLIMIT_SIGPENDING.
    _charge: Option<UserCharge>,
}

impl State {
    /// Counts the expirations up to `now`.
    fn count_missed(&mut self, now: u64) {
        self.missed = self.missed.saturating_add(self.countdown.advance(now));
    }
}

impl SignalTimer {
    /// Makes a disarmed timer.
    pub(crate) fn new(
        service: &Arc<TimerService>,
        group: &Arc<ThreadGroup>,
        id: i32,
        clock: TimerClock,
        notice: Notice,
        charge: Option<UserCharge>,
    ) -> Arc<SignalTimer> {
        let state = State { countdown: Countdown::default(), alarm: None, pending: false, missed: 0, overrun: 0 };
        Arc::new_cyclic(|me| SignalTimer {
            me: me.clone(),
            service: service.clone(),
            group: Arc::downgrade(group),
            program: group.programs(),
            id,
            clock,
            notice,
            state: Mutex::new(Rank::Timers, state),
            _charge: charge,
        })
    }

    /// The overrun count of the last signal (timer_getoverrun(2)).
    pub(crate) fn overrun(&self) -> i32 {
        self.state.lock().overrun
    }

    /// Whether its clock is a CPU time clock.
    pub(crate) fn is_cpu(&self) -> bool {
        matches!(self.clock, TimerClock::Cpu(_))
    }

    /// The current setting.
    ///
    /// # Errors
    /// `ESRCH` if the process or thread of the clock has ended.
    pub(crate) fn setting(&self) -> Result<Itimerspec, Errno> {
        let now = self.clock.now()?;
        Ok(self.read(&mut self.state.lock(), now))
    }

    fn read(&self, state: &mut State, now: u64) -> Itimerspec {
        if state.pending || matches!(self.notice, Notice::None) {
            state.count_missed(now);
        }
        state.countdown.to_setting(now)
    }

    /// Changes the setting and returns the old one.
    ///
    /// # Errors
    /// `EINVAL` for invalid times; `ESRCH` if the process or thread of the clock has ended.
    pub(crate) fn set(&self, setting: &Itimerspec, absolute: bool) -> Result<Itimerspec, Errno> {
        let now = self.clock.now()?;
        let countdown = Countdown::from_setting(setting, absolute, now)?;
        let mut state = self.state.lock();
        let old = self.read(&mut state, now);
        *state = State { countdown, alarm: None, pending: false, missed: 0, overrun: 0 };
        drop(state);
        self.arm(0);
        Ok(old)
    }

    /// Disarms it for good. A signal sent already reports no overrun.
    pub(crate) fn disarm(&self) {
        *self.state.lock() =
            State { countdown: Countdown::default(), alarm: None, pending: false, missed: 0, overrun: 0 };
    }

    /// Sets the alarm for the next expiration, but not before `earliest` on CLOCK_MONOTONIC.
    fn arm(&self, earliest: u64) {
        if matches!(self.notice, Notice::None) {
            return;
        }
        let target: Weak<dyn Expire> = self.me.clone();
        match &self.clock {
            TimerClock::System(clock) => {
                let mut state = self.state.lock();
                let next = state.countdown.next.map(|next| clock.to_monotonic(next).max(earliest));
                state.alarm = next.map(|at| self.service.set(at, target));
            }
            TimerClock::Cpu(clock) => {
                let (Some(now), Some(next)) = (clock.now(), self.state.lock().countdown.next) else { return };
                let remaining = next.saturating_sub(now);
                let delay = clock.check_delay(remaining).or_else(|| {
                    // No thread runs: rest until one does. Check again, since a thread that has just started may have
                    // missed the mark.
                    self.group.upgrade()?.timers().rest();
                    clock.check_delay(remaining)
                });
                let at = delay.map(|delay| monotonic().saturating_add(delay).max(earliest));
                self.state.lock().alarm = at.map(|at| self.service.set(at, target));
            }
        }
    }

    fn send(&self) {
        let (Some(group), Some(me)) = (self.group.upgrade(), self.me.upgrade()) else { return };
        let source: Arc<dyn SignalSource> = me;
        let sent = match &self.notice {
            Notice::None => return,
            Notice::Kernel(signal) => {
                group.send(OutgoingSignal::from_source(*signal, SigInfo::kernel(*signal), source.clone()))
            }
            Notice::Posix { signal, value, task } => {
                let outgoing =
                    OutgoingSignal::from_source(*signal, SigInfo::timer(*signal, self.id, 0, *value), source.clone())
                        .for_program(self.program);
                match task.as_ref().map(Weak::upgrade) {
                    None => group.send(outgoing),
                    Some(Some(task)) => task.send(outgoing),
                    // The thread has ended; the timer continues without effect.
                    Some(None) => Ok(()),
                }
            }
        };
        // The signal is ignored, or another instance is pending, so this one will not be taken.
        if sent.is_err() || !group.has_source(&source) {
            let lost = std::mem::take(&mut self.state.lock().pending);
            if lost {
                self.arm(monotonic().saturating_add(UNWANTED_PAUSE));
            }
        }
    }
}

impl Expire for SignalTimer {
    fn expire(&self) {
        let Ok(now) = self.clock.now() else { return };
        let mut state = self.state.lock();
        if state.pending {
            return;
        }
        let count = state.countdown.advance(now);
        state.alarm = None;
        state.pending = count > 0;
        state.missed = count.saturating_sub(1);
        drop(state);
        if count > 0 {
            self.send();
        } else {
            self.arm(0);
        }
    }
}

impl SignalSource for SignalTimer {
    fn taken(&self, info: &mut SigInfo) {
        let mut state = self.state.lock();
        // A setting changed after the signal was sent: no overrun, and no new alarm.
        if !std::mem::take(&mut state.pending) {
            return;
        }
        let at = match &self.clock {
            TimerClock::System(clock) => {
                state.count_missed(clock.now());
                state.countdown.next.map(|next| clock.to_monotonic(next))
            }
            // CPU time cannot be read under the locks held here; the service reads it at once.
            TimerClock::Cpu(_) => state.countdown.next.map(|_| monotonic()),
        };
        let overrun = i32::try_from(std::mem::take(&mut state.missed)).unwrap_or(i32::MAX);
        state.overrun = overrun;
        if let Notice::Posix { signal, value, .. } = &self.notice {
            *info = SigInfo::timer(*signal, self.id, overrun, *value);
        }
        let target: Weak<dyn Expire> = self.me.clone();
        state.alarm = at.map(|at| self.service.set(at, target));
    }
}
