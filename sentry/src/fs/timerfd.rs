//! timerfd_create(2): a timer as a file.

use std::any::Any;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::ioctl::IoctlRequest;
use amber_abi::poll::PollEvents;
use amber_abi::time::{ClockId, Itimerspec, TimerfdSetFlags};

use crate::clock::Clock;
use crate::error::SysResult;
use crate::sync::{Mutex, Rank};
use crate::time::{Alarm, Countdown, Expire, TimerService};
use crate::vfs::{Caller, File, Inode, Vfs};
use crate::wait::WaitQueue;

struct State {
    countdown: Countdown,
    /// Expirations that were not read yet.
    ticks: u64,
    /// The flags of the last timerfd_settime(2), for `/proc/PID/fdinfo`.
    flags: TimerfdSetFlags,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC when the timer was set with `TFD_TIMER_CANCEL_ON_SET`.
    ahead: Option<u64>,
    alarm: Option<Alarm>,
}

/// A timerfd.
pub(crate) struct TimerFd {
    me: Weak<TimerFd>,
    inode: Arc<dyn Inode>,
    service: Arc<TimerService>,
    id: ClockId,
    clock: Clock,
    state: Mutex<State>,
    queue: WaitQueue,
}

/// The tolerance of this difference, in nanoseconds. The clocks are not read at the same moment, so it varies although
/// neither was set.
const SLACK: u64 = 50_000_000;

fn realtime_ahead() -> u64 {
    let monotonic = Clock::Monotonic.now();
    Clock::Realtime.now().saturating_sub(monotonic)
}

impl TimerFd {
    /// Makes a disarmed timer of the clock with ID `id`.
    pub(crate) fn new(vfs: &Vfs, service: &Arc<TimerService>, id: ClockId, clock: Clock) -> Arc<TimerFd> {
        let countdown = Countdown::default();
        let state = State { countdown, ticks: 0, flags: TimerfdSetFlags::empty(), ahead: None, alarm: None };
        Arc::new_cyclic(|me| TimerFd {
            me: me.clone(),
            inode: vfs.anonymous.inode(),
            service: service.clone(),
            id,
            clock,
            state: Mutex::new(Rank::Timers, state),
            queue: WaitQueue::new(),
        })
    }

    /// Counts expirations until now, and sets an alarm for the next one unless some are unread.
    fn settle(&self, state: &mut State) {
        let now = self.clock.now();
        state.ticks = state.ticks.saturating_add(state.countdown.advance(now));
        if state.ticks > 0 {
            state.alarm = None;
        } else if state.alarm.is_none() {
            let target: Weak<dyn Expire> = self.me.clone();
            state.alarm = state.countdown.next.map(|at| self.service.set(self.clock.to_monotonic(at), target));
        }
    }

    fn setting(&self, state: &State) -> Itimerspec {
        let mut setting = state.countdown.to_setting(self.clock.now());
        if state.countdown.next.is_none() && state.ticks > 0 {
            setting.it_value = Default::default();
        }
        setting
    }

    /// The present setting.
    pub(crate) fn get(&self) -> Itimerspec {
        let mut state = self.state.lock();
        self.settle(&mut state);
        self.setting(&state)
    }

    /// Sets the timer and returns the old setting.
    ///
    /// # Errors
    /// `EINVAL` for invalid times.
    pub(crate) fn set(&self, setting: &Itimerspec, flags: TimerfdSetFlags) -> Result<Itimerspec, Errno> {
        let absolute = flags.contains(TimerfdSetFlags::TFD_TIMER_ABSTIME);
        let cancels = absolute && flags.contains(TimerfdSetFlags::TFD_TIMER_CANCEL_ON_SET);
        let countdown = Countdown::from_setting(setting, absolute, self.clock.now())?;
        let mut state = self.state.lock();
        self.settle(&mut state);
        let old = self.setting(&state);
        let ahead = (cancels && self.clock == Clock::Realtime).then(realtime_ahead);
        *state = State { countdown, ticks: 0, flags, ahead, alarm: None };
        self.settle(&mut state);
        let ready = state.ticks > 0;
        drop(state);
        if ready {
            self.queue.notify(PollEvents::POLLIN);
        }
        Ok(old)
    }

    /// Whether CLOCK_REALTIME was set since the timer was set or since this last returned true.
    fn was_cancelled(state: &mut State) -> bool {
        let Some(then) = state.ahead else { return false };
        let now = realtime_ahead();
        let cancelled = now.abs_diff(then) > SLACK;
        if cancelled {
            state.ahead = Some(now);
        }
        cancelled
    }
}

impl Expire for TimerFd {
    fn expire(&self) {
        let mut state = self.state.lock();
        state.alarm = None;
        self.settle(&mut state);
        let ready = state.ticks > 0;
        drop(state);
        if ready {
            self.queue.notify(PollEvents::POLLIN);
        }
    }
}

impl File for TimerFd {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        let out = buf.first_chunk_mut::<8>().ok_or_else(|| Errno::EINVAL.here())?;
        let mut state = self.state.lock();
        if Self::was_cancelled(&mut state) {
            state.ticks = 0;
            return Err(Errno::ECANCELED.here());
        }
        self.settle(&mut state);
        let ticks = std::mem::take(&mut state.ticks);
        if ticks == 0 {
            return Err(Errno::EAGAIN.here());
        }
        self.settle(&mut state);
        *out = ticks.to_ne_bytes();
        Ok(8)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let mut state = self.state.lock();
        self.settle(&mut state);
        if state.ticks > 0 { PollEvents::POLLIN } else { PollEvents::empty() }
    }

    fn is_read_in_turn(&self) -> bool {
        true
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        if IoctlRequest::from_raw(command) != IoctlRequest::TFD_IOC_SET_TICKS {
            return Err(Errno::ENOTTY.here().into());
        }
        let ticks: u64 = caller.read_object(argument)?;
        if ticks == 0 {
            return Err(Errno::EINVAL.here().into());
        }
        let mut state = self.state.lock();
        if Self::was_cancelled(&mut state) {
            return Err(Errno::ECANCELED.here().into());
        }
        state.ticks = ticks;
        drop(state);
        self.queue.notify(PollEvents::POLLIN);
        Ok(0)
    }

    fn fdinfo(&self) -> String {
        let mut state = self.state.lock();
        self.settle(&mut state);
        let Itimerspec { it_interval, it_value } = self.setting(&state);
        format!(
            "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: ({}, {})\nit_interval: ({}, {})\n",
            self.id.raw(),
            state.ticks,
            state.flags.bits(),
            it_value.tv_sec,
            it_value.tv_nsec,
            it_interval.tv_sec,
            it_interval.tv_nsec,
        )
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[timerfd]".to_owned())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amber_abi::time::Timespec;

    #[test]
    fn expirations_are_counted_and_read_once() {
        let timer = TimerFd::new(&Vfs::new(), &Arc::default(), ClockId::CLOCK_MONOTONIC, Clock::Monotonic);
        let mut buf = [0; 8];
        assert_eq!(timer.read_at(&mut buf, 0), Err(Errno::EAGAIN));
        let past =
            Itimerspec { it_value: Timespec::from_nanos(1), it_interval: Timespec::from_nanos(3_600_000_000_000) };
        timer.set(&past, TimerfdSetFlags::TFD_TIMER_ABSTIME).unwrap();
        assert_eq!(timer.poll(), PollEvents::POLLIN);
        assert_eq!(timer.read_at(&mut buf, 0), Ok(8));
        assert_eq!(u64::from_ne_bytes(buf), Clock::Monotonic.now() / 3_600_000_000_000 + 1);
        assert_eq!(timer.read_at(&mut buf, 0), Err(Errno::EAGAIN));
        assert_eq!(timer.get().it_interval, past.it_interval);
        let bad = Itimerspec { it_value: Timespec { tv_sec: -1, tv_nsec: 0 }, ..Itimerspec::default() };
        assert_eq!(timer.set(&bad, TimerfdSetFlags::empty()), Err(Errno::EINVAL));
    }
}
