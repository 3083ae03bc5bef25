//! Wait queues, and the one way in which a task sleeps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use amber_abi::poll::PollEvents;
use parking_lot::Condvar;

use crate::fs::sigio::{Happening, SignalList};
use crate::sync::{Mutex, Rank};

/// Somebody who wants to know about events of an object.
pub trait Waiter: Send + Sync {
    /// The events happened on the object this waiter was registered with under `key`. Called with no lock held; must
    /// not sleep. Spurious calls are allowed.
    fn notify(&self, events: PollEvents, key: u64);

    /// Like [`notify`](Self::notify) for a waiter registered as exclusive: whether that reached somebody who acts on the
    /// events, so that the next exclusive waiter need not be told.
    fn notify_exclusive(&self, events: PollEvents, key: u64) -> bool {
        self.notify(events, key);
        true
    }
}

/// One registration; dropping it takes it back.
pub struct Registration {
    queue: Weak<Queue>,
    id: u64,
}

struct Entry {
    id: u64,
    events: PollEvents,
    key: u64,
    exclusive: bool,
    waiter: Weak<dyn Waiter>,
}

struct Queue {
    entries: Mutex<Vec<Entry>>,
}

/// The waiters of one object: a pipe's end, a socket, a child list, a timer.
///
/// An object notifies its queue after its state changed and after its own lock was released.
pub struct WaitQueue {
    queue: Arc<Queue>,
    signals: SignalList,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// Makes an empty queue.
    pub fn new() -> Self {
        let queue = Arc::new(Queue { entries: Mutex::new(Rank::Wait, Vec::new()) });
        WaitQueue { queue, signals: SignalList::default() }
    }

    /// Registers a waiter for `events` (POLLERR and POLLHUP are always included), until the registration is dropped.
    pub fn register(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64) -> Registration {
        self.insert(waiter, events, key, false)
    }

    /// Like [`register`](Self::register), for a waiter of which one is enough to wake for an event (EPOLLEXCLUSIVE).
    pub fn register_exclusive(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64) -> Registration {
        self.insert(waiter, events, key, true)
    }

    fn insert(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64, exclusive: bool) -> Registration {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let events = events | PollEvents::POLLERR | PollEvents::POLLHUP;
        self.queue.entries.lock().push(Entry { id, events, key, exclusive, waiter });
        Registration { queue: Arc::downgrade(&self.queue), id }
    }

    /// Tells every waiter that asked for one of `events`, and one of the exclusive ones.
    pub fn notify(&self, events: PollEvents) {
        let told: Vec<(Weak<dyn Waiter>, u64, bool)> = {
            let entries = self.queue.entries.lock();
            if entries.is_empty() {
                return;
            }
            let wanted = entries.iter().filter(|e| e.events.intersects(events));
            wanted.map(|e| (e.waiter.clone(), e.key, e.exclusive)).collect()
        };
        let mut exclusive_told = false;
        for (waiter, key, exclusive) in told {
            let Some(waiter) = waiter.upgrade() else { continue };
            if !exclusive {
                waiter.notify(events, key);
            } else if !exclusive_told {
                exclusive_told = waiter.notify_exclusive(events, key);
            }
        }
    }

    /// Like [`notify`](Self::notify), and sends SIGIO to the owners of files with `O_ASYNC`. No lock may be held.
    pub fn notify_and_signal(&self, events: PollEvents, happening: Happening) {
        self.notify(events);
        self.signals.tell(happening);
    }

    /// The owners who are sent signals when something happens.
    pub fn signals(&self) -> &SignalList {
        &self.signals
    }

    /// Tells every waiter, whatever it asked for.
    pub fn notify_all(&self) {
        self.notify(PollEvents::all());
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.entries.lock().is_empty()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.entries.lock().retain(|e| e.id != self.id);
        }
    }
}

/// Where a host thread sleeps until it is woken or a moment has come.
#[derive(Default)]
pub struct Parker {
    woken: parking_lot::Mutex<bool>,
    condition: Condvar,
}

impl Parker {
    /// Wakes the sleeper; if there is none, the next [`park`](Self::park) returns at once.
    pub fn unpark(&self) {
        *self.woken.lock() = true;
        self.condition.notify_one();
    }

    /// Sleeps until woken or until the deadline; returns false on the deadline.
    pub fn park(&self, deadline: Option<Instant>) -> bool {
        let mut woken = self.woken.lock();
        while !*woken {
            match deadline {
                None => self.condition.wait(&mut woken),
                Some(deadline) => {
                    if self.condition.wait_until(&mut woken, deadline).timed_out() && !*woken {
                        return false;
                    }
                }
            }
        }
        *woken = false;
        true
    }
}

impl Waiter for Parker {
    fn notify(&self, _: PollEvents, _: u64) {
        self.unpark();
    }
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// A signal, a stop or the task's end is pending.
    Interrupted,
    /// The deadline has come.
    TimedOut,
}

/// A moment `after` from now, or none if that is beyond what the host's clock can say (then it never comes).
pub fn deadline_in(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}
