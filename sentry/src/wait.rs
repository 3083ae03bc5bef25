//! Wait queues, and the sleep of tasks.
//!
//! See docs/internals/wait-queues.md.

mod signals;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use amber_abi::poll::PollEvents;
use amber_host::poller::{self, Ready, Waker, Watch};
use parking_lot::Condvar;

use crate::sync::{Mutex, Rank};

pub(crate) use signals::{SigioEvent, SignalList, SignalSource};

/// The events of an object that becomes readable.
pub(crate) const READABLE: PollEvents = PollEvents::POLLIN.union(PollEvents::POLLRDNORM);
/// The events of an object that becomes writable.
pub(crate) const WRITABLE: PollEvents = PollEvents::POLLOUT.union(PollEvents::POLLWRNORM);

/// A waiter for events of an object.
pub(crate) trait Waiter: Send + Sync {
    /// Called for events of the object that this waiter was registered with under `key`. No lock is held, and the
    /// function must not sleep. Spurious calls are allowed.
    fn notify(&self, events: PollEvents, key: u64);

    /// Like [`notify`](Self::notify), for an exclusive waiter. Returns whether the waiter will handle the events, so
    /// that no further exclusive waiter needs to be notified.
    fn notify_exclusive(&self, events: PollEvents, key: u64) -> bool {
        self.notify(events, key);
        true
    }
}

/// A registration; ends when dropped.
pub(crate) struct Registration {
    queue: Weak<Queue>,
    id: u64,
    exclusive: bool,
}

struct Entry {
    id: u64,
    /// Empty after the end of the registration.
    events: PollEvents,
    key: u64,
    waiter: Weak<dyn Waiter>,
}

/// In lists up to this length, an entry is removed at once.
const FEW: usize = 32;

/// Registrations in the order of their IDs. In long lists, removed entries stay until they are half of all, so that the
/// cost of a removal does not depend on the length.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    gone: usize,
    last_id: u64,
}

impl Entries {
    fn insert(&mut self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64) -> u64 {
        self.last_id += 1;
        self.list.push(Entry { id: self.last_id, events, key, waiter });
        self.last_id
    }

    fn remove(&mut self, id: u64) {
        let Ok(at) = self.list.binary_search_by_key(&id, |entry| entry.id) else { return };
        if self.list.len() <= FEW || at + 1 == self.list.len() {
            self.list.remove(at);
        } else if let Some(entry) = self.list.get_mut(at) {
            (entry.events, entry.waiter) = (PollEvents::empty(), Weak::<Parker>::new());
            self.gone += 1;
        }
        if self.gone * 2 > self.list.len() {
            self.list.retain(|entry| !entry.events.is_empty());
            self.gone = 0;
        }
    }

    fn is_empty(&self) -> bool {
        self.list.len() == self.gone
    }

    /// The entries for one of the events, from an ID on.
    fn matching(&self, events: PollEvents, from: u64) -> impl Iterator<Item = &Entry> {
        let first = if from == 0 { 0 } else { self.list.partition_point(|entry| entry.id < from) };
        self.list.iter().skip(first).filter(move |entry| entry.events.intersects(events))
    }
}

struct Queue {
    entries: Mutex<Entries>,
    /// Waiters of which an event wakes only one.
    exclusive: Mutex<Entries>,
    signals: SignalList,
    /// The host descriptor has urgent data that was reported already.
    urgent: AtomicBool,
}

/// A host descriptor whose events are events of the object.
struct HostSource {
    file: Arc<OwnedFd>,
    /// The object represents the descriptor.
    whole: bool,
    /// The object has no other events.
    alone: AtomicBool,
    /// Made for the first waiter that is not a sleeping task; none if the host cannot watch the descriptor.
    watch: OnceLock<Option<Watch>>,
}

/// The waiters of an object: an end of a pipe, a socket, the children of a process, a timer.
///
/// An object notifies its queue after a change of state, when its lock is released.
///
/// An object may represent a host descriptor. Sleeping tasks poll it themselves; for other waiters the host's poller
/// notifies the queue.
pub(crate) struct WaitQueue {
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
    pub(crate) fn new() -> Self {
        let queue = Arc::new(Queue {
            entries: Mutex::new(Rank::Wait, Entries::default()),
            exclusive: Mutex::new(Rank::Wait, Entries::default()),
            signals: SignalList::default(),
            urgent: AtomicBool::new(false),
        });
        WaitQueue { queue, source: OnceLock::new() }
    }

    /// Makes an empty queue of an object that represents a host descriptor.
    pub(crate) fn of_host(file: Arc<OwnedFd>) -> Self {
        let queue = Self::new();
        let _ =
            queue.source.set(HostSource { file, whole: true, alone: AtomicBool::new(true), watch: OnceLock::new() });
        queue
    }

    /// Adds the events of a host descriptor. A descriptor added earlier stays.
    pub(crate) fn add_host(&self, file: Arc<OwnedFd>) {
        let source = HostSource { file, whole: false, alone: AtomicBool::new(false), watch: OnceLock::new() };
        if self.source.set(source).is_ok() && !self.is_empty() {
            // Sleeping tasks must poll the descriptor too.
            self.follow_host();
            self.notify_all();
        }
    }

    /// The host descriptor whose events are events of the object.
    pub(crate) fn host_file(&self) -> Option<&Arc<OwnedFd>> {
        self.source.get().map(|source| &source.file)
    }

    /// The same, if the object has no other events.
    pub(crate) fn sole_host_file(&self) -> Option<&Arc<OwnedFd>> {
        self.source.get().filter(|source| source.alone.load(Ordering::Acquire)).map(|source| &source.file)
    }

    /// The descriptor that the object represents, if it was made with [`of_host`](Self::of_host).
    pub(crate) fn own_host_file(&self) -> Option<&Arc<OwnedFd>> {
        self.source.get().filter(|source| source.whole).map(|source| &source.file)
    }

    /// Declares that the object has events besides those of its host descriptor.
    pub(crate) fn has_other_events(&self) {
        if let Some(source) = self.source.get() {
            source.alone.store(false, Ordering::Release);
        }
    }

    /// Watches the host descriptor, if any, with the host's poller, which then notifies this queue.
    pub(crate) fn follow_host(&self) {
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

    /// Registers a waiter for `events` (always including POLLERR and POLLHUP), until the registration is dropped.
    pub(crate) fn register(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64) -> Registration {
        let registration = self.insert(waiter, events, key, false);
        self.follow_host();
        registration
    }

    /// Like [`register`](Self::register), for a task that polls the host descriptor itself.
    pub(crate) fn register_sleeper(&self, waiter: Weak<dyn Waiter>, events: PollEvents) -> Registration {
        self.insert(waiter, events, 0, false)
    }

    /// Like [`register`](Self::register), for a waiter that polls the host descriptor itself and may be exclusive.
    pub(crate) fn register_beside(
        &self,
        waiter: Weak<dyn Waiter>,
        events: PollEvents,
        key: u64,
        exclusive: bool,
    ) -> Registration {
        self.insert(waiter, events, key, exclusive)
    }

    /// Like [`register`](Self::register), for an exclusive waiter (EPOLLEXCLUSIVE): an event wakes one of them.
    pub(crate) fn register_exclusive(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64) -> Registration {
        let registration = self.insert(waiter, events, key, true);
        self.follow_host();
        registration
    }

    fn insert(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64, exclusive: bool) -> Registration {
        let events = events | PollEvents::POLLERR | PollEvents::POLLHUP;
        let id = self.queue.list(exclusive).lock().insert(waiter, events, key);
        Registration { queue: Arc::downgrade(&self.queue), id, exclusive }
    }

    /// Notifies all waiters for any of `events`, and one of the exclusive ones.
    pub(crate) fn notify(&self, events: PollEvents) {
        self.queue.notify(events);
    }

    /// Like [`notify`](Self::notify), and sends SIGIO to the owners of files with `O_ASYNC`. No lock may be held.
    pub(crate) fn notify_and_signal(&self, events: PollEvents, event: SigioEvent) {
        self.notify(events);
        self.queue.signals.notify(event);
    }

    /// The owners to signal on events.
    pub(crate) fn signals(&self) -> &SignalList {
        &self.queue.signals
    }

    /// Notifies all waiters of all events.
    pub(crate) fn notify_all(&self) {
        self.notify(PollEvents::all());
    }

    /// Notifies one exclusive waiter of `events`. Called by exclusive waiters when their wait ends, since they may not
    /// have used all events they were notified of.
    pub(crate) fn pass_on(&self, events: PollEvents) {
        self.queue.notify_one(events);
    }

    /// Whether there are no waiters.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.entries.lock().is_empty() && self.queue.exclusive.lock().is_empty()
    }
}

impl Queue {
    fn list(&self, exclusive: bool) -> &Mutex<Entries> {
        if exclusive { &self.exclusive } else { &self.entries }
    }

    fn notify(&self, events: PollEvents) {
        let notified: Vec<(Weak<dyn Waiter>, u64)> = {
            let entries = self.entries.lock();
            entries.matching(events, 0).map(|e| (e.waiter.clone(), e.key)).collect()
        };
        for (waiter, key) in notified {
            if let Some(waiter) = waiter.upgrade() {
                waiter.notify(events, key);
            }
        }
        self.notify_one(events);
    }

    fn notify_one(&self, events: PollEvents) {
        let mut next = 0;
        loop {
            let entry = {
                let entries = self.exclusive.lock();
                entries.matching(events, next).next().map(|e| (e.id, e.waiter.clone(), e.key))
            };
            let Some((id, waiter, key)) = entry else { return };
            if waiter.upgrade().is_some_and(|waiter| waiter.notify_exclusive(events, key)) {
                return;
            }
            next = id + 1;
        }
    }
}

impl Ready for Queue {
    fn ready(&self, events: PollEvents) {
        let mut all = events;
        all.set(PollEvents::POLLRDNORM, events.contains(PollEvents::POLLIN));
        all.set(PollEvents::POLLWRNORM, events.contains(PollEvents::POLLOUT));
        self.notify(all);
        let urgent = events.contains(PollEvents::POLLPRI);
        if urgent != self.urgent.swap(urgent, Ordering::AcqRel) && urgent {
            self.signals.notify_urgent();
        }
        if events.contains(PollEvents::POLLERR) {
            self.signals.notify(SigioEvent::Error);
        } else if events.contains(PollEvents::POLLHUP) {
            self.signals.notify(SigioEvent::HangUp);
        } else if events.contains(PollEvents::POLLIN) {
            self.signals.notify(SigioEvent::Input);
        }
        if events.contains(PollEvents::POLLOUT) {
            self.signals.notify_room();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.list(self.exclusive).lock().remove(self.id);
        }
    }
}

/// The sleep of a host thread, until a wake-up or a deadline.
#[derive(Default)]
pub(crate) struct Parker {
    sleep: parking_lot::Mutex<Sleep>,
    condition: Condvar,
    /// Ends a sleep in the host's poll; none if the host has no descriptors left.
    waker: OnceLock<Option<Waker>>,
    /// Notified as an exclusive waiter, and the condition was not checked since.
    notified: AtomicBool,
}

#[derive(Default)]
struct Sleep {
    woken: bool,
    /// The sleeper waits in a poll for the waker, not for the condition variable.
    polling: bool,
}

/// Interval of checks for a wake-up, for sleepers without a waker.
const FALLBACK_INTERVAL: Duration = Duration::from_millis(10);

impl Parker {
    /// Wakes the sleeper; without one, the next [`park`](Self::park) returns at once.
    pub(crate) fn unpark(&self) {
        let polling = {
            let mut sleep = self.sleep.lock();
            sleep.woken = true;
            sleep.polling
        };
        match self.waker.get() {
            Some(Some(waker)) if polling => waker.wake(),
            _ => {
                self.condition.notify_one();
            }
        }
    }

    /// Sleeps until a wake-up or the deadline. Returns false at the deadline.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
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

    /// Sleeps until a wake-up, an event of a host descriptor, or the deadline. Returns false at the deadline.
    pub(crate) fn park_on(&self, files: &[(Arc<OwnedFd>, PollEvents)], deadline: Option<Instant>) -> bool {
        let waker =
            self.waker.get_or_init(|| Waker::new().inspect_err(|error| log::warn!("creating a waker: {error}")).ok());
        {
            let mut sleep = self.sleep.lock();
            if std::mem::take(&mut sleep.woken) {
                return true;
            }
            sleep.polling = true;
        }
        let mut until = deadline;
        if waker.is_none() {
            let soon = Instant::now() + FALLBACK_INTERVAL;
            until = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
        }
        let wanted: Vec<_> = files.iter().map(|(file, events)| (file.as_fd(), *events)).collect();
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let found = poller::wait(&wanted, waker.as_ref(), timeout);
        let mut sleep = self.sleep.lock();
        sleep.polling = false;
        std::mem::take(&mut sleep.woken) || found || deadline.is_none_or(|deadline| Instant::now() < deadline)
    }

    /// Called by an exclusive waiter before it checks its condition: the next event may notify it again.
    pub(crate) fn begin_check(&self) {
        self.notified.store(false, Ordering::SeqCst);
    }
}

impl Waiter for Parker {
    fn notify(&self, _: PollEvents, _: u64) {
        self.unpark();
    }

    fn notify_exclusive(&self, _: PollEvents, _: u64) -> bool {
        // The waiter may use up only one event. So the next event goes to another one until the waiter has checked.
        let first = !self.notified.swap(true, Ordering::SeqCst);
        if first {
            self.unpark();
        }
        first
    }
}

/// Why a wait ended before its condition was true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// A signal, a stop or the kill of the task is pending.
    Interrupted,
    /// The deadline has come.
    TimedOut,
}

/// The time `after` from now; none if the host's type cannot represent it, and it never comes.
pub(crate) fn deadline_in(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_woken(parker: &Parker) -> bool {
        parker.park(Some(Instant::now()))
    }

    #[test]
    fn an_event_wakes_one_exclusive_waiter() {
        let queue = WaitQueue::new();
        let parkers: [Arc<Parker>; 3] = Default::default();
        let mut registrations: Vec<_> = parkers
            .iter()
            .map(|parker| {
                let waiter: Arc<dyn Waiter> = parker.clone();
                queue.register_beside(Arc::downgrade(&waiter), READABLE, 0, true)
            })
            .collect();
        queue.notify(READABLE);
        queue.notify(READABLE);
        // The first has not checked yet, so the second event wakes the second.
        assert_eq!(parkers.each_ref().map(|parker| is_woken(parker)), [true, true, false]);
        parkers[0].begin_check();
        queue.notify(READABLE);
        assert_eq!(parkers.each_ref().map(|parker| is_woken(parker)), [true, false, false]);
        // An exclusive waiter that leaves passes the event on.
        drop(registrations.remove(0));
        queue.pass_on(READABLE);
        assert_eq!(parkers.each_ref().map(|parker| is_woken(parker)), [false, false, true]);
        queue.notify(WRITABLE);
        assert!(!is_woken(&parkers[1]), "another event");
    }
}
