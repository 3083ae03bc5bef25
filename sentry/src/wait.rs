//! Wait queues, and the one way in which a task sleeps.
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

pub use signals::{SigioEvent, SignalList, SignalSource, Subscription};

/// What comes true when something can be read.
pub const READABLE: PollEvents = PollEvents::POLLIN.union(PollEvents::POLLRDNORM);
/// What comes true when something can be written.
pub const WRITABLE: PollEvents = PollEvents::POLLOUT.union(PollEvents::POLLWRNORM);

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
    exclusive: bool,
}

struct Entry {
    id: u64,
    /// Empty once the registration was taken back.
    events: PollEvents,
    key: u64,
    waiter: Weak<dyn Waiter>,
}

/// Up to so many entries, one that goes is taken out at once.
const FEW: usize = 32;

/// Registrations in their order, which is that of their numbers. Of many, those that are taken back stay until they are
/// half of all, so that each costs no more the more there are.
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
        } else {
            let entry = &mut self.list[at];
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

    /// Those who asked for one of the events, from a number on.
    fn wanting(&self, events: PollEvents, from: u64) -> impl Iterator<Item = &Entry> {
        let first = if from == 0 { 0 } else { self.list.partition_point(|entry| entry.id < from) };
        self.list[first..].iter().filter(move |entry| entry.events.intersects(events))
    }
}

struct Queue {
    entries: Mutex<Entries>,
    /// Those of which one is enough to wake.
    exclusive: Mutex<Entries>,
    signals: SignalList,
    /// Urgent data of the host's descriptor was told of, and is there still.
    urgent: AtomicBool,
}

/// A host descriptor whose events are events of a queue's object.
struct HostSource {
    file: Arc<OwnedFd>,
    /// The object stands for the descriptor.
    whole: bool,
    /// It has no other events.
    alone: AtomicBool,
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
        let queue = Arc::new(Queue {
            entries: Mutex::new(Rank::Wait, Entries::default()),
            exclusive: Mutex::new(Rank::Wait, Entries::default()),
            signals: SignalList::default(),
            urgent: AtomicBool::new(false),
        });
        WaitQueue { queue, source: OnceLock::new() }
    }

    /// Makes an empty queue of an object whose events are those of a host descriptor.
    pub fn of_host(file: Arc<OwnedFd>) -> Self {
        let queue = Self::new();
        let _ =
            queue.source.set(HostSource { file, whole: true, alone: AtomicBool::new(true), watch: OnceLock::new() });
        queue
    }

    /// From now on the host descriptor's events are among the object's. The first descriptor stays.
    pub fn add_host(&self, file: Arc<OwnedFd>) {
        let source = HostSource { file, whole: false, alone: AtomicBool::new(false), watch: OnceLock::new() };
        if self.source.set(source).is_ok() && !self.is_empty() {
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
        self.source.get().filter(|source| source.alone.load(Ordering::Acquire)).map(|source| &source.file)
    }

    /// The descriptor that the object stands for, if it was made [`of_host`](Self::of_host).
    pub fn own_host_file(&self) -> Option<&Arc<OwnedFd>> {
        self.source.get().filter(|source| source.whole).map(|source| &source.file)
    }

    /// From now on the object has events beside those of its host descriptor, and notifies the queue of them.
    pub fn has_other_events(&self) {
        if let Some(source) = self.source.get() {
            source.alone.store(false, Ordering::Release);
        }
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

    /// Like [`register`](Self::register), for a waiter that looks after the host descriptor itself, and is exclusive or
    /// not.
    pub fn register_beside(
        &self,
        waiter: Weak<dyn Waiter>,
        events: PollEvents,
        key: u64,
        exclusive: bool,
    ) -> Registration {
        self.insert(waiter, events, key, exclusive)
    }

    /// Like [`register`](Self::register), for a waiter of which one is enough to wake for an event (EPOLLEXCLUSIVE).
    pub fn register_exclusive(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64) -> Registration {
        let registration = self.insert(waiter, events, key, true);
        self.follow_host();
        registration
    }

    fn insert(&self, waiter: Weak<dyn Waiter>, events: PollEvents, key: u64, exclusive: bool) -> Registration {
        let events = events | PollEvents::POLLERR | PollEvents::POLLHUP;
        let id = self.queue.list(exclusive).lock().insert(waiter, events, key);
        Registration { queue: Arc::downgrade(&self.queue), id, exclusive }
    }

    /// Tells every waiter that asked for one of `events`, and one of the exclusive ones.
    pub fn notify(&self, events: PollEvents) {
        self.queue.notify(events);
    }

    /// Like [`notify`](Self::notify), and sends SIGIO to the owners of files with `O_ASYNC`. No lock may be held.
    pub fn notify_and_signal(&self, events: PollEvents, event: SigioEvent) {
        self.notify(events);
        self.queue.signals.notify(event);
    }

    /// The owners who are sent signals when something happens.
    pub fn signals(&self) -> &SignalList {
        &self.queue.signals
    }

    /// Tells every waiter, whatever it asked for.
    pub fn notify_all(&self) {
        self.notify(PollEvents::all());
    }

    /// Notifies one exclusive waiter of `events`. An exclusive waiter calls it when its wait ends, since it may not have used
    /// all that it was notified of.
    pub fn pass_on(&self, events: PollEvents) {
        self.queue.notify_one(events);
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.entries.lock().is_empty() && self.queue.exclusive.lock().is_empty()
    }
}

impl Queue {
    fn list(&self, exclusive: bool) -> &Mutex<Entries> {
        if exclusive { &self.exclusive } else { &self.entries }
    }

    fn notify(&self, events: PollEvents) {
        let told: Vec<(Weak<dyn Waiter>, u64)> = {
            let entries = self.entries.lock();
            entries.wanting(events, 0).map(|e| (e.waiter.clone(), e.key)).collect()
        };
        for (waiter, key) in told {
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
                entries.wanting(events, next).next().map(|e| (e.id, e.waiter.clone(), e.key))
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
        let mut told = events;
        told.set(PollEvents::POLLRDNORM, events.contains(PollEvents::POLLIN));
        told.set(PollEvents::POLLWRNORM, events.contains(PollEvents::POLLOUT));
        self.notify(told);
        let urgent = events.contains(PollEvents::POLLPRI);
        if urgent != self.urgent.swap(urgent, Ordering::AcqRel) && urgent {
            self.signals.tell_urgent();
        }
        if events.contains(PollEvents::POLLERR) {
            self.signals.notify(SigioEvent::Error);
        } else if events.contains(PollEvents::POLLHUP) {
            self.signals.notify(SigioEvent::HangUp);
        } else if events.contains(PollEvents::POLLIN) {
            self.signals.notify(SigioEvent::Input);
        }
        if events.contains(PollEvents::POLLOUT) {
            self.signals.tell_room();
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

/// Where a host thread sleeps until it is woken or a moment has come.
#[derive(Default)]
pub struct Parker {
    sleep: parking_lot::Mutex<Sleep>,
    condition: Condvar,
    /// Wakes it out of a sleep in the host's poll; none if the host has no descriptors left.
    waker: OnceLock<Option<Waker>>,
    /// It was notified as an exclusive waiter and has not checked its condition since.
    notified: AtomicBool,
}

#[derive(Default)]
struct Sleep {
    woken: bool,
    /// The sleeper waits for the waker, not for the condition.
    polling: bool,
}

/// How often a sleeper without a waker checks whether it was woken.
const FALLBACK_INTERVAL: Duration = Duration::from_millis(10);

impl Parker {
    /// Wakes the sleeper; if there is none, the next [`park`](Self::park) returns at once.
    pub fn unpark(&self) {
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

    /// Marks that the sleeper, an exclusive waiter, checks its condition now: the next event may notify it again.
    pub fn begin_check(&self) {
        self.notified.store(false, Ordering::SeqCst);
    }
}

impl Waiter for Parker {
    fn notify(&self, _: PollEvents, _: u64) {
        self.unpark();
    }

    fn notify_exclusive(&self, _: PollEvents, _: u64) -> bool {
        // It may use up one event only, so another waiter is notified of the next until it has checked.
        let first = !self.notified.swap(true, Ordering::SeqCst);
        if first {
            self.unpark();
        }
        first
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
        // The first has not checked yet, so the second event goes to the second.
        assert_eq!(parkers.each_ref().map(|parker| is_woken(parker)), [true, true, false]);
        parkers[0].begin_check();
        queue.notify(READABLE);
        assert_eq!(parkers.each_ref().map(|parker| is_woken(parker)), [true, false, false]);
        // A waiter that goes passes on what it was notified of.
        drop(registrations.remove(0));
        queue.pass_on(READABLE);
        assert_eq!(parkers.each_ref().map(|parker| is_woken(parker)), [false, false, true]);
        queue.notify(WRITABLE);
        assert!(!is_woken(&parkers[1]), "another event");
    }
}
