//! Waits for host descriptors without a host thread per descriptor: one epoll instance and one thread, created on first
//! use.
//!
//! See docs/internals/wait-queues.md.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use amber_abi::poll::PollEvents;
use nix::poll::{PollFd, PollFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use parking_lot::Mutex;

/// All events of a socket, edge-triggered.
const EDGES: EpollFlags = EpollFlags::EPOLLET
    .union(EpollFlags::EPOLLIN)
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLPRI)
    .union(EpollFlags::EPOLLRDHUP);
/// The events that poll(2) can be asked for.
const POLLABLE: u32 = 0x23ff;

/// The listener of a host descriptor. It is called once per [`Watch::arm`], or for each event with [`Watch::edges`].
pub trait Ready: Send + Sync {
    /// Called with the events that occurred. Must not block.
    fn ready(&self, events: PollEvents);
}

/// No timeout, for epoll_wait(2).
const FOREVER: i32 = -1;

/// Waits for events, for at most `timeout` milliseconds. (The library's wrapper makes another host call, `epoll_wait`.)
fn take<'a>(epoll: &Epoll, events: &'a mut [EpollEvent], timeout: i32) -> &'a [EpollEvent] {
    let (set, room) = (epoll.0.as_raw_fd(), events.len() as i32);
    // SAFETY: `EpollEvent` is a `struct epoll_event`, and there are as many as passed; the signal mask stays as it is.
    let count = unsafe { libc::epoll_pwait(set, events.as_mut_ptr().cast(), room, timeout, null()) };
    // The call fails only if a signal interrupts it.
    &events[..usize::try_from(count).unwrap_or(0)]
}

struct Poller {
    epoll: Epoll,
    listeners: Mutex<HashMap<u64, Weak<dyn Ready>>>,
}

fn poller() -> io::Result<&'static Poller> {
    static POLLER: OnceLock<Poller> = OnceLock::new();
    if let Some(poller) = POLLER.get() {
        return Ok(poller);
    }
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut first = false;
    let poller = POLLER.get_or_init(|| {
        first = true;
        Poller { epoll, listeners: Mutex::new(HashMap::new()) }
    });
    if first {
        std::thread::Builder::new().name("poller".to_owned()).spawn(move || poller.run())?;
    }
    Ok(poller)
}

impl Poller {
    fn run(&self) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            for event in take(&self.epoll, &mut events, FOREVER) {
                let listener = self.listeners.lock().get(&event.data()).and_then(Weak::upgrade);
                if let Some(listener) = listener {
                    listener.ready(PollEvents::from_bits_truncate(event.events().bits() as u32));
                }
            }
        }
    }
}

/// A descriptor registered with the poller.
pub struct Watch {
    file: Arc<OwnedFd>,
    key: u64,
}

impl Watch {
    /// Registers a descriptor. The listener is not called until [`arm`](Self::arm). `None` for descriptors that are
    /// always ready, such as regular files.
    ///
    /// # Errors
    /// The host has no more descriptors, threads or epoll watches.
    pub fn new(file: Arc<OwnedFd>, listener: Weak<dyn Ready>) -> io::Result<Option<Watch>> {
        Self::with(file, listener, EpollFlags::EPOLLONESHOT)
    }

    /// Registers a descriptor, whose listener is called with the current events and then with each new event. `None`
    /// for descriptors that are always ready.
    ///
    /// # Errors
    /// The host has no more descriptors, threads or epoll watches.
    pub fn edges(file: Arc<OwnedFd>, listener: Weak<dyn Ready>) -> io::Result<Option<Watch>> {
        Self::with(file, listener, EDGES)
    }

    fn with(file: Arc<OwnedFd>, listener: Weak<dyn Ready>, flags: EpollFlags) -> io::Result<Option<Watch>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let poller = poller()?;
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        poller.listeners.lock().insert(key, listener);
        let watch = Watch { file, key };
        match poller.epoll.add(&watch.file, EpollEvent::new(flags, key)) {
            Ok(()) => Ok(Some(watch)),
            Err(nix::errno::Errno::EPERM) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Calls the listener once when one of the events occurs, or has occurred already.
    pub fn arm(&self, events: PollEvents) {
        let flags = EpollFlags::from_bits_truncate(events.bits() as i32) | EpollFlags::EPOLLONESHOT;
        let mut event = EpollEvent::new(flags, self.key);
        if let Ok(poller) = poller()
            && let Err(error) = poller.epoll.modify(&self.file, &mut event)
        {
            log::warn!("watching host descriptor {}: {error}", self.file.as_raw_fd());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Ok(poller) = poller() {
            poller.listeners.lock().remove(&self.key);
            // A descriptor that is always ready is not registered, so it need not be removed.
            let _ = poller.epoll.delete(&self.file);
        }
    }
}

/// The events that a descriptor has now.
pub fn readiness(file: BorrowedFd<'_>) -> PollEvents {
    let mut entry = libc::pollfd { fd: file.as_raw_fd(), events: POLLABLE as i16, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is one entry, which lives as long as the call, as does the time; the signal mask stays as it is.
    // (The library's wrapper does not know POLLRDHUP.)
    match unsafe { libc::ppoll(&mut entry, 1, &now, null()) } {
        1 => with_normal(PollEvents::from_bits_truncate(u32::from(entry.revents as u16))),
        _ => PollEvents::empty(),
    }
}

/// Wakes a thread that blocks in [`wait`].
pub struct Waker(EventFd);

impl Waker {
    /// A waker that has not been used.
    ///
    /// # Errors
    /// The host has no descriptors left.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Wakes the thread in [`wait`], or the next one that calls it.
    pub fn wake(&self) {
        // Fails only if the counter overflows, after 2^64 wake-ups without a wait.
        let _ = self.0.write(1);
    }
}

/// Blocks until a descriptor has one of its events (or an error or a hang-up) or the waker is used. Returns false on
/// timeout.
pub fn wait(files: &[(BorrowedFd<'_>, PollEvents)], waker: Option<&Waker>, timeout: Option<Duration>) -> bool {
    let wanted = |events: PollEvents| PollFlags::from_bits_retain((events.bits() & POLLABLE) as i16);
    let mut set: Vec<_> = waker.iter().map(|waker| PollFd::new(waker.0.as_fd(), PollFlags::POLLIN)).collect();
    set.extend(files.iter().map(|(file, events)| PollFd::new(*file, wanted(*events))));
    match nix::poll::ppoll(&mut set, timeout.map(TimeSpec::from), None) {
        Ok(0) => false,
        Ok(_) => {
            if let Some(waker) = waker
                && set.first().is_some_and(|first| first.any() == Some(true))
            {
                // If the waker is used again in between, the next wait is short.
                let _ = waker.0.read();
            }
            true
        }
        // A signal, or the host is out of memory: the caller checks again.
        Err(_) => true,
    }
}

/// Collects the events of descriptors, each event once (edge-triggered epoll).
pub struct EventSet(Arc<OwnedFd>, Epoll);

/// Maximum number of events taken at a time.
const EVENTS_AT_ONCE: usize = 64;

impl EventSet {
    /// An empty set.
    ///
    /// # Errors
    /// The host has no descriptors left.
    pub fn new() -> io::Result<EventSet> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let file = Arc::new(epoll.0.try_clone()?);
        Ok(EventSet(file, epoll))
    }

    /// A descriptor that is readable while there are events to take.
    pub fn file(&self) -> &Arc<OwnedFd> {
        &self.0
    }

    /// Adds a descriptor under a key, with its current events. It stays in the set until it is removed or closed.
    ///
    /// # Errors
    /// `EEXIST` if it is in the set already; the host has no more epoll watches or memory.
    pub fn add(&self, file: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Ok(self.1.add(file, EpollEvent::new(EDGES, key))?)
    }

    /// Removes a descriptor.
    pub fn remove(&self, file: BorrowedFd<'_>) {
        // It may be removed already.
        let _ = self.1.delete(file);
    }

    /// Takes events, each as the key of a descriptor and all of its current events. Returns true if there may be more.
    pub fn take(&self, mut event: impl FnMut(u64, PollEvents)) -> bool {
        let mut events = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let found = take(&self.1, &mut events, 0);
        for one in found {
            event(one.data(), with_normal(PollEvents::from_bits_truncate(one.events().bits() as u32)));
        }
        found.len() == EVENTS_AT_ONCE
    }
}

/// Adds the second name of events that Linux reports under two names.
fn with_normal(mut events: PollEvents) -> PollEvents {
    events.set(PollEvents::POLLRDNORM, events.contains(PollEvents::POLLIN));
    events.set(PollEvents::POLLWRNORM, events.contains(PollEvents::POLLOUT));
    events
}
