//! Wait queues, and the one way in which a task sleeps.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use amber_abi::poll::PollEvents;
use amber_host::poller::{self, Bell, Ready, Watch};
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
    signals: SignalList,
    /// Urgent data of the host's descriptor was told of, and is there still.
    urgent: AtomicBool,
}

/// A host descriptor whose events are events of a queue's object.
struct HostSource {
    file: Arc<OwnedFd>,
    /// The object has no other events.
    alone: bool,
    /// Made once somebody wants to be told who is no task that sleeps; none if the host cannot watch it.
    watch: OnceLock<Option<Watch>>,
}

/// The waiters of one object: a pipe's end, a socket, a child list, a timer.
///
/// An object notifies its queue after its state changed and after its own lock was released.
///
/// An object may stand for a host descriptor. Tasks that wait for it poll that themselves while they sleep; for others,
/// the host's poller tells the queue.
pub struct WaitQueue {
    queue: Arc<Queue>,
    source: OnceLock<HostSource>,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// Makes an empty queue.
    pub fn new() -> Self {
        let entries = Mutex::new(Rank::Wait, Vec::new());
        let queue = Arc::new(Queue { entries, signals: SignalList::default(), urgent: AtomicBool::new(false) });
        WaitQueue { queue, source: OnceLock::new() }
    }

    /// Makes an empty queue of an object whose events are those of a host descriptor.
    pub fn of_host(file: Arc<OwnedFd>) -> Self {
        let queue = Self::new();
        let _ = queue.source.set(HostSource { file, alone: true, watch: OnceLock::new() });
        queue
    }

    /// From now on the host descriptor's events are among the object's. The first descriptor stays.
    pub fn add_host(&self, file: Arc<OwnedFd>) {
        if self.source.set(HostSource { file, alone: false, watch: OnceLock::new() }).is_ok() && !self.is_empty() {
            // Who sleeps shall sleep on the descriptor as well.
            self.follow_host();
            self.notify_all();
        }
    }

    /// The host descriptor whose events are the object's.
    pub fn host_file(&self) -> Option<&Arc<OwnedFd>> {
        self.source.get().map(|source| &source.file)
    }

    /// The same, if the object has no other events.
    pub fn sole_host_file(&self) -> Option<&Arc<OwnedFd>> {
        self.source.get().filter(|source| source.alone).map(|source| &source.file)
    }

    /// Has the host's poller tell this queue of the host descriptor's events, if there is one.
    pub fn follow_host(&self) {
        let Some(source) = self.source.get() else { return };
        source.watch.get_or_init(|| {
            let queue: Arc<dyn Ready> = self.queue.clone();
            let listener = Arc::downgrade(&queue);
            Watch::edges(source.file.clone(), listener).unwrap_or_else(|error| {
                log::error!("watching a host descriptor: {error}");
                None
            })
        });
    }

    /// Registers a waiter for `events` (POLLERR and POLLHUP are always included), until the registration is dropped.
    pub fn register(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64) -> Registration {
        let registration = self.insert(waiter, events, key, false);
        self.follow_host();
        registration
    }

    /// Like [`register`](Self::register), for a task that looks after the host descriptor itself.
    pub fn register_sleeper(&self, waiter: Weak<dyn Waiter>, events: PollEvents) -> Registration {
        self.insert(waiter, events, 0, false)
    }

    /// Like [`register`](Self::register), for a waiter of which one is enough to wake for an event (EPOLLEXCLUSIVE).
    pub fn register_exclusive(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64) -> Registration {
        let registration = self.insert(waiter, events, key, true);
        self.follow_host();
        registration
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
        self.queue.notify(events);
    }

    /// Like [`notify`](Self::notify), and sends SIGIO to the owners of files with `O_ASYNC`. No lock may be held.
    pub fn notify_and_signal(&self, events: PollEvents, happening: Happening) {
        self.notify(events);
        self.queue.signals.tell(happening);
    }

    /// The owners who are sent signals when something happens.
    pub fn signals(&self) -> &SignalList {
        &self.queue.signals
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

impl Queue {
    fn notify(&self, events: PollEvents) {
        let told: Vec<(Weak<dyn Waiter>, u64, bool)> = {
            let entries = self.entries.lock();
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
}

impl Ready for Queue {
    fn ready(&self, events: PollEvents) {
        let mut told = events;
        told.set(PollEvents::POLLRDNORM, events.contains(PollEvents::POLLIN));
        told.set(PollEvents::POLLWRNORM, events.contains(PollEvents::POLLOUT));
        self.notify(told);
        let urgent = events.contains(PollEvents::POLLPRI);
        if urgent != self.urgent.swap(urgent, Ordering::AcqRel) && urgent {
            self.signals.tell_urgent();
        }
        if events.contains(PollEvents::POLLERR) {
            self.signals.tell(Happening::Error);
        } else if events.contains(PollEvents::POLLHUP) {
            self.signals.tell(Happening::HangUp);
        } else if events.contains(PollEvents::POLLIN) {
            self.signals.tell(Happening::Input);
        }
        if events.contains(PollEvents::POLLOUT) {
            self.signals.tell_room();
        }
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
    sleep: parking_lot::Mutex<Sleep>,
    condition: Condvar,
    /// Wakes it out of a sleep in the host's poll; none if the host has no descriptors left.
    bell: OnceLock<Option<Bell>>,
}

#[derive(Default)]
struct Sleep {
    woken: bool,
    /// The sleeper hears the bell, not the condition.
    polling: bool,
}

/// How often a sleeper without a bell looks whether it was woken.
const WITHOUT_BELL: Duration = Duration::from_millis(10);

impl Parker {
    /// Wakes the sleeper; if there is none, the next [`park`](Self::park) returns at once.
    pub fn unpark(&self) {
        let polling = {
            let mut sleep = self.sleep.lock();
            sleep.woken = true;
            sleep.polling
        };
        match self.bell.get() {
            Some(Some(bell)) if polling => bell.ring(),
            _ => {
                self.condition.notify_one();
            }
        }
    }

    /// Sleeps until woken or until the deadline; returns false on the deadline.
    pub fn park(&self, deadline: Option<Instant>) -> bool {
        let mut sleep = self.sleep.lock();
        while !sleep.woken {
            match deadline {
                None => self.condition.wait(&mut sleep),
                Some(deadline) => {
                    if self.condition.wait_until(&mut sleep, deadline).timed_out() && !sleep.woken {
                        return false;
                    }
                }
            }
        }
        sleep.woken = false;
        true
    }

    /// Sleeps until woken, until one of the host descriptors has one of its events, or until the deadline; returns false
    /// on the deadline.
    pub fn park_on(&self, files: &[(Arc<OwnedFd>, PollEvents)], deadline: Option<Instant>) -> bool {
        let bell = self.bell.get_or_init(|| Bell::new().inspect_err(|error| log::warn!("a bell: {error}")).ok());
        {
            let mut sleep = self.sleep.lock();
            if std::mem::take(&mut sleep.woken) {
                return true;
            }
            sleep.polling = true;
        }
        let mut until = deadline;
        if bell.is_none() {
            let soon = Instant::now() + WITHOUT_BELL;
            until = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
        }
        let wanted: Vec<_> = files.iter().map(|(file, events)| (file.as_fd(), *events)).collect();
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let found = poller::wait(&wanted, bell.as_ref(), timeout);
        let mut sleep = self.sleep.lock();
        sleep.polling = false;
        std::mem::take(&mut sleep.woken) || found || deadline.is_none_or(|deadline| Instant::now() < deadline)
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
