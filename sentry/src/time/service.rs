//! The host thread that waits for all timers of a sandbox. It runs only while there are timers.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::{deadline_of, monotonic};

/// Without timers, the thread ends after this time.
const IDLE: Duration = Duration::from_secs(5);

/// A target of alarms.
pub(crate) trait Expire: Send + Sync {
    /// Called without locks at the time of an alarm. The alarm may have been set again meanwhile, so the target reads
    /// the clock.
    fn expire(&self);
}

/// The alarms of a sandbox, in CLOCK_MONOTONIC time.
#[derive(Default)]
pub(crate) struct TimerService {
    /// Outside of the lock order: no lock is taken while it is held.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    alarms: BTreeMap<(u64, u64), Weak<dyn Expire>>,
    next_id: u64,
    running: bool,
    /// The sandbox has ended.
    ended: bool,
}

/// A pending alarm; cancelled when dropped.
pub(crate) struct Alarm {
    service: Weak<TimerService>,
    key: (u64, u64),
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(service) = self.service.upgrade() {
            service.state.lock().alarms.remove(&self.key);
        }
    }
}

impl TimerService {
    /// Calls `target` once when CLOCK_MONOTONIC reaches `at` nanoseconds.
    pub(crate) fn set(self: &Arc<Self>, at: u64, target: Weak<dyn Expire>) -> Alarm {
        let mut state = self.state.lock();
        state.next_id += 1;
        let key = (at, state.next_id);
        state.alarms.insert(key, target);
        if !state.running {
            state.running = true;
            let service = self.clone();
            let thread = std::thread::Builder::new().name("timers".to_owned());
            if let Err(error) = thread.spawn(move || service.run()) {
                state.running = false;
                log::error!("timers do not run out: the host gives no thread ({error}); raise its limit of processes");
            }
        } else if state.alarms.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.changed.notify_one();
        }
        Alarm { service: Arc::downgrade(self), key }
    }

    /// Ends the host thread.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
    }

    fn run(self: Arc<Self>) {
        let mut state = self.state.lock();
        while !state.ended {
            match state.alarms.first_key_value().map(|((at, _), _)| *at) {
                Some(at) if at <= monotonic() => {
                    let target = state.alarms.pop_first();
                    drop(state);
                    if let Some(target) = target.and_then(|(_, target)| target.upgrade()) {
                        target.expire();
                    }
                    state = self.state.lock();
                }
                Some(at) => match deadline_of(at) {
                    Some(deadline) => {
                        self.changed.wait_until(&mut state, deadline);
                    }
                    None => self.changed.wait(&mut state),
                },
                None => {
                    let idle = self.changed.wait_for(&mut state, IDLE).timed_out();
                    if idle && state.alarms.is_empty() {
                        state.running = false;
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    struct Report(&'static str, Mutex<Sender<&'static str>>);

    impl Expire for Report {
        fn expire(&self) {
            self.1.lock().send(self.0).unwrap();
        }
    }

    #[test]
    fn alarms_come_in_order_and_can_be_called_off() {
        let (sender, receiver) = channel();
        let target = |name| -> Arc<dyn Expire> { Arc::new(Report(name, Mutex::new(sender.clone()))) };
        let (late, early, never) = (target("late"), target("early"), target("never"));
        let service = Arc::new(TimerService::default());
        let now = monotonic();
        let _late = service.set(now + 40_000_000, Arc::downgrade(&late));
        let _early = service.set(now + 20_000_000, Arc::downgrade(&early));
        drop(service.set(now + 30_000_000, Arc::downgrade(&never)));
        assert_eq!(receiver.recv(), Ok("early"));
        assert_eq!(receiver.recv(), Ok("late"));
        assert!(monotonic() >= now + 40_000_000);
    }
}
