//! Timers that send signals: those of setitimer(2) and of timer_create(2).

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

/// How long a repeating timer whose signal nobody wants rests, in nanoseconds.
const UNWANTED_PAUSE: u64 = 4_000_000;

/// What a timer runs by.
#[derive(Clone)]
pub enum TimerClock {
    /// A clock of the system.
    System(Clock),
    /// Processor time.
    Cpu(CpuClock),
}

impl TimerClock {
    /// What it shows.
    ///
    /// # Errors
    /// `ESRCH` if the process or thread it belongs to is gone.
    pub fn now(&self) -> Result<u64, Errno> {
        match self {
            TimerClock::System(clock) => Ok(clock.now()),
            TimerClock::Cpu(clock) => clock.now().ok_or_else(|| Errno::ESRCH.here()),
        }
    }
}

/// What happens when a timer runs out.
pub enum Notice {
    /// Nothing: the guest looks at it (`SIGEV_NONE`).
    None,
    /// The process gets a signal from the kernel (setitimer).
    Kernel(Signal),
    /// The process, or one thread of it, gets a signal that tells of the timer.
    Posix {
        /// The signal.
        signal: Signal,
        /// What the guest wants to be told with it.
        value: u64,
        /// The thread that gets it; none for any.
        task: Option<Weak<Task>>,
    },
}

struct State {
    countdown: Countdown,
    alarm: Option<Alarm>,
    /// The signal was sent and not taken; the timer rests until it is, and counts what it misses.
    pending: bool,
    missed: u64,
    overrun: i32,
}

/// A timer of a process.
pub struct SignalTimer {
    me: Weak<SignalTimer>,
    service: Arc<TimerService>,
    group: Weak<ThreadGroup>,
    /// The program that made it, beyond which no signal of timer_create(2) comes.
    program: u64,
    id: i32,
    clock: TimerClock,
    notice: Notice,
    state: Mutex<State>,
    /// Counts against RLIMIT_SIGPENDING.
    _charge: Option<UserCharge>,
}

impl State {
    /// Counts what the timer missed while its signal waits.
    fn count_missed(&mut self, now: u64) {
        self.missed = self.missed.saturating_add(self.countdown.advance(now));
    }
}

impl SignalTimer {
    /// Makes a timer that is disarmed.
    pub fn new(
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

    /// How often it ran out beyond the one time that the last signal told of.
    pub fn overrun(&self) -> i32 {
        self.state.lock().overrun
    }

    /// Whether it runs by processor time.
    pub fn is_cpu(&self) -> bool {
        matches!(self.clock, TimerClock::Cpu(_))
    }

    /// What it is set to.
    ///
    /// # Errors
    /// `ESRCH` if what its clock belongs to is gone.
    pub fn setting(&self) -> Result<Itimerspec, Errno> {
        let now = self.clock.now()?;
        Ok(self.read(&mut self.state.lock(), now))
    }

    fn read(&self, state: &mut State, now: u64) -> Itimerspec {
        if state.pending || matches!(self.notice, Notice::None) {
            state.count_missed(now);
        }
        state.countdown.to_setting(now)
    }

    /// Sets it, and returns what it was set to.
    ///
    /// # Errors
    /// `EINVAL` for times that are none; `ESRCH` if what its clock belongs to is gone.
    pub fn set(&self, setting: &Itimerspec, absolute: bool) -> Result<Itimerspec, Errno> {
        let now = self.clock.now()?;
        let countdown = Countdown::from_setting(setting, absolute, now)?;
        let mut state = self.state.lock();
        let old = self.read(&mut state, now);
        *state = State { countdown, alarm: None, pending: false, missed: 0, overrun: 0 };
        drop(state);
        self.arm(0);
        Ok(old)
    }

    /// Stops it for good; a signal it sent already says nothing of an overrun.
    pub fn disarm(&self) {
        *self.state.lock() =
            State { countdown: Countdown::default(), alarm: None, pending: false, missed: 0, overrun: 0 };
    }

    /// Waits for the next expiration, but not before `earliest` on CLOCK_MONOTONIC.
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
                let delay = clock.look_after(remaining).or_else(|| {
                    // Nothing runs: look again when something does. If it began just now, it may not have seen that.
                    self.group.upgrade()?.timers().rest();
                    clock.look_after(remaining)
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
                        .to_program(self.program);
                match task.as_ref().map(Weak::upgrade) {
                    None => group.send(outgoing),
                    Some(Some(task)) => task.send(outgoing),
                    // The thread is gone; the timer goes on for nobody.
                    Some(None) => Ok(()),
                }
            }
        };
        // It may be ignored, or one like it may wait already: then nobody will take it.
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
        // If it was set anew since the signal was sent, that signal tells of no overrun and changes nothing.
        if !std::mem::take(&mut state.pending) {
            return;
        }
        let at = match &self.clock {
            TimerClock::System(clock) => {
                state.count_missed(clock.now());
                state.countdown.next.map(|next| clock.to_monotonic(next))
            }
            // Processor time cannot be read under the locks held here; the service looks at once.
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
