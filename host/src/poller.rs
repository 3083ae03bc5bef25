//! Waiting for host descriptors without a host thread for each: one epoll, one thread, made at first use.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use amber_abi::poll::PollEvents;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;

/// Somebody who is told that a host descriptor is ready. Told once for each [`Watch::arm`].
pub trait Ready: Send + Sync {
    /// The events are there. Must not wait.
    fn ready(&self, events: PollEvents);
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
            // The call fails only when a signal interrupts it.
            let count = self.epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
            for event in &events[..count] {
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
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let poller = poller()?;
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        poller.listeners.lock().insert(key, listener);
        let watch = Watch { file, key };
        match poller.epoll.add(&watch.file, EpollEvent::new(EpollFlags::EPOLLONESHOT, key)) {
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
    let all = PollFlags::POLLIN | PollFlags::POLLOUT | PollFlags::POLLPRI;
    let mut set = [PollFd::new(file.as_fd(), all)];
    match nix::poll::poll(&mut set, PollTimeout::ZERO) {
        Ok(1) => {
            let found = set[0].revents().unwrap_or(PollFlags::POLLERR);
            let mut events = PollEvents::from_bits_truncate(found.bits() as u32);
            events.set(PollEvents::POLLRDNORM, events.contains(PollEvents::POLLIN));
            events.set(PollEvents::POLLWRNORM, events.contains(PollEvents::POLLOUT));
            events
        }
        _ => PollEvents::empty(),
    }
}
