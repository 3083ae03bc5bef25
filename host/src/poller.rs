//! Waiting for host descriptors without a host thread for each: one epoll, one thread, made at first use.

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

/// Everything that can happen to a socket, each time it happens.
const EDGES: EpollFlags = EpollFlags::EPOLLET
    .union(EpollFlags::EPOLLIN)
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLPRI)
    .union(EpollFlags::EPOLLRDHUP);
/// What poll(2) can be asked for.
const POLLABLE: u32 = 0x23ff;

/// Somebody who is told that a host descriptor is ready: once for each [`Watch::arm`], or each time with
/// [`Watch::edges`].
pub trait Ready: Send + Sync {
    /// The events are there. Must not wait.
    fn ready(&self, events: PollEvents);
}

/// No time limit, as epoll_wait(2) takes it.
const FOREVER: i32 = -1;

/// Waits for events, at most this many milliseconds. (The library's wrapper makes another host call, `epoll_wait`.)
fn take<'a>(epoll: &Epoll, events: &'a mut [EpollEvent], timeout: i32) -> &'a [EpollEvent] {
    let (set, room) = (epoll.0.as_raw_fd(), events.len() as i32);
    // SAFETY: `EpollEvent` is a `struct epoll_event`, and there are as many as said; the mask of signals stays as it is.
    let count = unsafe { libc::epoll_pwait(set, events.as_mut_ptr().cast(), room, timeout, null()) };
    // The call fails only when a signal interrupts it.
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

/// A descriptor the poller knows.
pub struct Watch {
    file: Arc<OwnedFd>,
    key: u64,
}

impl Watch {
    /// Makes a descriptor known; nobody is told anything until it is armed. None for descriptors that are always
    /// ready, such as regular files.
    ///
    /// # Errors
    /// The host has no more descriptors, threads or watches.
    pub fn new(file: Arc<OwnedFd>, listener: Weak<dyn Ready>) -> io::Result<Option<Watch>> {
        Self::with(file, listener, EpollFlags::EPOLLONESHOT)
    }

    /// Makes a descriptor known, whose listener is told of all that is there now and of each event from now on. None for
    /// descriptors that are always ready.
    ///
    /// # Errors
    /// The host has no more descriptors, threads or watches.
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

    /// The listener is told once when one of the events is there, also if it is there already.
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
            // It is not registered where it is always ready; then there is nothing to take back.
            let _ = poller.epoll.delete(&self.file);
        }
    }
}

/// What could be done with a descriptor without waiting now.
pub fn readiness(file: BorrowedFd<'_>) -> PollEvents {
    let mut entry = libc::pollfd { fd: file.as_raw_fd(), events: POLLABLE as i16, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is one entry, which lives as long as the call, as does the time; the mask of signals stays as it is.
    // (The library's wrapper does not know POLLRDHUP.)
    match unsafe { libc::ppoll(&mut entry, 1, &now, null()) } {
        1 => with_normal(PollEvents::from_bits_truncate(u32::from(entry.revents as u16))),
        _ => PollEvents::empty(),
    }
}

/// Wakes a thread that sleeps in [`wait`].
pub struct Bell(EventFd);

impl Bell {
    /// A bell that was not rung.
    ///
    /// # Errors
    /// The host has no descriptors left.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Wakes the sleeper, or whoever sleeps next.
    pub fn ring(&self) {
        // It fails only if it was rung 2^64 times and nobody slept.
        let _ = self.0.write(1);
    }
}

/// Sleeps until a descriptor has one of its events (or an error or a hang-up) or the bell is rung; false if the time was
/// over before.
pub fn wait(files: &[(BorrowedFd<'_>, PollEvents)], bell: Option<&Bell>, timeout: Option<Duration>) -> bool {
    let wanted = |events: PollEvents| PollFlags::from_bits_retain((events.bits() & POLLABLE) as i16);
    let mut set: Vec<_> = bell.iter().map(|bell| PollFd::new(bell.0.as_fd(), PollFlags::POLLIN)).collect();
    set.extend(files.iter().map(|(file, events)| PollFd::new(*file, wanted(*events))));
    match nix::poll::ppoll(&mut set, timeout.map(TimeSpec::from), None) {
        Ok(0) => false,
        Ok(_) => {
            if let Some(bell) = bell
                && set.first().is_some_and(|first| first.any() == Some(true))
            {
                // Nobody rang again in between, or else the next sleep is short.
                let _ = bell.0.read();
            }
            true
        }
        // A signal, or the host out of memory: the caller looks again.
        Err(_) => true,
    }
}

/// Descriptors whose events are collected, each event once.
pub struct EventSet(Arc<OwnedFd>, Epoll);

/// The most events taken from a set at once.
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

    /// What polls readable while there are events to take.
    pub fn file(&self) -> &Arc<OwnedFd> {
        &self.0
    }

    /// Collects the events of a descriptor under a key, beginning with what is there already; it is in the set until it
    /// is removed or closed.
    ///
    /// # Errors
    /// `EEXIST` if it is in the set already; the host has no more watches or memory.
    pub fn add(&self, file: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Ok(self.1.add(file, EpollEvent::new(EDGES, key))?)
    }

    /// Takes a descriptor out.
    pub fn remove(&self, file: BorrowedFd<'_>) {
        // It may be out already.
        let _ = self.1.delete(file);
    }

    /// Takes events: the key of each descriptor and all that it has now. True if there may be more.
    pub fn take(&self, mut event: impl FnMut(u64, PollEvents)) -> bool {
        let mut events = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let found = take(&self.1, &mut events, 0);
        for one in found {
            event(one.data(), with_normal(PollEvents::from_bits_truncate(one.events().bits() as u32)));
        }
        found.len() == EVENTS_AT_ONCE
    }
}

/// The events with those that Linux has under two names.
fn with_normal(mut events: PollEvents) -> PollEvents {
    events.set(PollEvents::POLLRDNORM, events.contains(PollEvents::POLLIN));
    events.set(PollEvents::POLLWRNORM, events.contains(PollEvents::POLLOUT));
    events
}
