//! epoll(7): a set of watched files, and a list of those that are ready.
//!
//! A watched file notifies the epoll through its wait queue, which puts the entry into the ready list. A wait checks
//! that list only, never all entries. Files backed by host descriptors do not notify: they are in an epoll set of the
//! host, whose events are collected before the ready list is checked.
//!
//! See docs/internals/epoll.md.

mod nesting;
mod watchers;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use amber_abi::errno::Errno;
use amber_abi::poll::{EpollEvent, EpollEvents, PollEvents};
use amber_host::poller::EventSet;
use amber_platform::{GuestMemory, KernelCharge, KernelPart};

use crate::sync::{Mutex, Rank};
use crate::users::UserCharge;
use crate::vfs::{File, FileDescription, Inode, Vfs};
use crate::wait::{READABLE, Registration, WaitQueue, Waiter};

use nesting::Neighbours;
pub(crate) use watchers::Watchers;

/// Event flags that are permitted with EPOLLEXCLUSIVE.
const WITH_EXCLUSIVE: EpollEvents = EpollEvents::EPOLLIN
    .union(EpollEvents::EPOLLOUT)
    .union(EpollEvents::EPOLLERR)
    .union(EpollEvents::EPOLLHUP)
    .union(EpollEvents::EPOLLWAKEUP)
    .union(EpollEvents::EPOLLET)
    .union(EpollEvents::EPOLLEXCLUSIVE);

/// The maximum number of events of one call; the next call returns the others.
const MOST_AT_ONCE: usize = 4096;

/// Events that are always reported.
const ALWAYS: EpollEvents = EpollEvents::EPOLLERR.union(EpollEvents::EPOLLHUP);

/// A watched file: the descriptor number at its addition and the open file description.
struct Entry {
    fd: i32,
    description: Weak<FileDescription>,
    description_id: u64,
    interest: EpollEvents,
    data: u64,
    /// Whether it is in the ready list.
    queued: bool,
    /// The registration in the file's wait queue; none while the entry is being made.
    registration: Option<Registration>,
    /// The host descriptor in the host's set, while it is open.
    host: Option<Weak<OwnedFd>>,
    /// The events that the host's set reported last, and the number of that collection.
    fresh: (u64, EpollEvents),
    /// The file, if it is an epoll.
    inner: Option<Weak<Epoll>>,
    /// Charges the entry to the user that added it.
    _charge: UserCharge,
    /// Charges the host kernel's memory for the entry.
    _kept: Option<KernelCharge>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    entries: HashMap<u64, Entry>,
    by_target: BTreeMap<(i32, u64), u64>,
    /// Entries in the order in which they became ready. Removed ones stay until they are half of the list.
    ready: VecDeque<u64>,
    /// The number of removed entries in the list.
    stale: usize,
    /// The epolls that watch this one.
    parents: Neighbours,
    /// The epolls that this one watches.
    inner: Neighbours,
    /// The number of collections from the host's set.
    look: u64,
}

/// Approximate heap memory of an entry, in bytes.
const ENTRY_BYTES: u64 = 304;
/// Memory of the host kernel for a set, with its two open files, and for an entry of a set, in bytes.
const HOST_SET_BYTES: u64 = 1024;
const HOST_ENTRY_BYTES: u64 = 256;

/// A ready entry.
struct Next {
    id: u64,
    description: Arc<FileDescription>,
    interest: EpollEvents,
    data: u64,
    /// The events that the host just reported for it.
    fresh: Option<EpollEvents>,
}

impl Next {
    /// The events it is ready for now.
    fn events(&self) -> EpollEvents {
        match self.fresh {
            Some(events) => events & self.interest.difference(EpollEvents::MODES),
            None => ready_events(&self.description, self.interest),
        }
    }
}

/// The number of entries listed with one acquisition of the lock.
const LINES_AT_ONCE: usize = 128;

/// An epoll instance.
pub(crate) struct Epoll {
    me: Weak<Epoll>,
    vfs: Arc<Vfs>,
    /// Held while watched files are polled and while entries change.
    scan: Mutex<()>,
    state: Mutex<State>,
    /// The waiters in epoll_wait(2).
    waiters: WaitQueue,
    /// The waiters that poll the epoll's own descriptor.
    queue: WaitQueue,
    /// The host's set for watched host descriptors, and the charge for it.
    host: OnceLock<(EventSet, KernelCharge)>,
    memory: Arc<GuestMemory>,
}

/// An event, with the state to restore if it cannot be delivered.
pub(crate) struct Found {
    id: u64,
    interest: EpollEvents,
    /// The event as the guest sees it.
    pub event: EpollEvent,
}

impl State {
    /// Takes the first entry off the ready list.
    fn pop_ready(&mut self) -> Option<Next> {
        while let Some(id) = self.ready.pop_front() {
            let Some(entry) = self.entries.get_mut(&id) else {
                self.stale -= 1;
                continue;
            };
            entry.queued = false;
            if let Some(description) = entry.description.upgrade() {
                let (look, events) = std::mem::take(&mut entry.fresh);
                let fresh = (look == self.look && look > 0).then_some(events);
                return Some(Next { id, description, interest: entry.interest, data: entry.data, fresh });
            }
        }
        None
    }

    /// Puts an entry at the end or, if `first`, the start of the ready list. Returns false if there is no such entry.
    fn queue(&mut self, id: u64, first: bool) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if !std::mem::replace(&mut entry.queued, true) {
            if first {
                self.ready.push_front(id);
            } else {
                self.ready.push_back(id);
            }
        }
        true
    }

    fn take(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.by_target.remove(&(entry.fd, entry.description_id));
        if entry.queued {
            self.stale += 1;
            if self.stale * 2 > self.ready.len() {
                self.ready.retain(|id| self.entries.contains_key(id));
                self.stale = 0;
            }
        }
        Some(entry)
    }

    /// The number of entries in the ready list.
    fn count_ready(&self) -> usize {
        self.ready.len() - self.stale
    }
}

impl Epoll {
    /// Makes an empty set and charges it to `memory`.
    pub(crate) fn new(vfs: &Arc<Vfs>, memory: &Arc<GuestMemory>) -> Arc<Epoll> {
        Arc::new_cyclic(|me| Epoll {
            me: me.clone(),
            vfs: vfs.clone(),
            scan: Mutex::new(Rank::Epoll, ()),
            state: Mutex::new(Rank::Buffer, State::default()),
            waiters: WaitQueue::new(),
            queue: WaitQueue::new(),
            host: OnceLock::new(),
            memory: memory.clone(),
        })
    }

    /// Adds a file (`EPOLL_CTL_ADD`).
    ///
    /// # Errors
    /// `EPERM` if the file does not support polling; `EINVAL` for flags not permitted with EPOLLEXCLUSIVE; `ELOOP` if
    /// epolls would be nested too deeply or in a cycle, `EINVAL` for too many paths; `EEXIST` if the file is watched
    /// under this number already.
    pub(crate) fn add(
        &self,
        fd: i32,
        description: &Arc<FileDescription>,
        interest: EpollEvents,
        data: u64,
        charge: impl FnOnce() -> Option<UserCharge>,
    ) -> Result<(), Errno> {
        let file = description.file();
        let queue = file.wait_queue().ok_or_else(|| Errno::EPERM.here())?;
        let inner = description.downcast::<Epoll>();
        let exclusive = interest.contains(EpollEvents::EPOLLEXCLUSIVE);
        if exclusive && (inner.is_some() || !WITH_EXCLUSIVE.contains(interest)) {
            return Err(Errno::EINVAL.here());
        }
        let _tree = match inner {
            Some(inner) => Some(nesting::check(self, inner)?),
            None if self.state.lock().parents.is_empty() => None,
            None => Some(nesting::check_file(self, description)?),
        };
        // Epolls are not nested in a cycle, so neither are these locks. The lock of the nesting is taken before them.
        let _scan = self.scan.lock_beside();
        let id = {
            let mut state = self.state.lock();
            let target = (fd, description.id());
            if state.by_target.contains_key(&target) {
                return Err(Errno::EEXIST.here());
            }
            let charge = charge().ok_or_else(|| Errno::ENOSPC.here())?;
            state.next_id += 1;
            let id = state.next_id;
            state.by_target.insert(target, id);
            let entry = Entry {
                fd,
                description: Arc::downgrade(description),
                description_id: description.id(),
                interest: interest | ALWAYS,
                data,
                queued: false,
                registration: None,
                host: None,
                fresh: Default::default(),
                _charge: charge,
                _kept: None,
                inner: inner.map(|inner| inner.me.clone()),
            };
            state.entries.insert(id, entry);
            id
        };
        if let Some(inner) = inner {
            // This is another epoll's state, of the same rank as this one's, which is not locked here.
            inner.state.lock().parents.add(&self.me);
            self.state.lock().inner.add(&inner.me);
        }
        let host = queue.own_host_file().filter(|file| self.collect(file, id));
        let events = if exclusive { PollEvents::from_bits_truncate(interest.bits()) } else { PollEvents::all() };
        let registration = match (&host, exclusive) {
            (Some(_), _) => queue.register_beside(self.me.clone(), events, id, exclusive),
            (None, true) => queue.register_exclusive(self.me.clone(), events, id),
            (None, false) => queue.register(self.me.clone(), events, id),
        };
        let kept = host.is_some().then(|| self.memory.charge(KernelPart::Files, HOST_ENTRY_BYTES));
        if let Some(entry) = self.state.lock().entries.get_mut(&id) {
            (entry.registration, entry.host, entry._kept) = (Some(registration), host.map(Arc::downgrade), kept);
        }
        description.watchers().add(&self.me, id);
        self.look(id, description, interest | ALWAYS);
        Ok(())
    }

    /// Adds a host descriptor to the host's set. Returns false on failure, for example if it is in the set already
    /// under another number of the guest.
    fn collect(&self, file: &Arc<OwnedFd>, id: u64) -> bool {
        let (set, _) = match self.host.get() {
            Some(host) => host,
            None => {
                let Ok(set) = EventSet::new().inspect_err(|error| log::warn!("a set of events: {error}")) else {
                    return false;
                };
                self.waiters.add_host(set.file().clone());
                self.queue.add_host(set.file().clone());
                let kept = self.memory.charge(KernelPart::Files, HOST_SET_BYTES);
                self.host.get_or_init(|| (set, kept))
            }
        };
        set.add(file.as_fd(), id).is_ok()
    }

    /// Collects events from the host's set and puts their entries into the ready list. The caller holds the scan lock.
    fn take_from_host(&self) {
        let Some((set, _)) = self.host.get() else { return };
        let mut state = self.state.lock();
        state.look += 1;
        let look = state.look;
        while set.take(|id, events| {
            let events = EpollEvents::from_bits_retain(events.bits());
            let Some(entry) = state.entries.get_mut(&id) else { return };
            if entry.interest.difference(EpollEvents::MODES).intersects(events) {
                entry.fresh = (look, events);
                state.queue(id, false);
            }
        }) {}
    }

    /// Whether the ready list is not empty; does not collect events from the host.
    pub(crate) fn has_ready(&self) -> bool {
        self.state.lock().count_ready() > 0
    }

    /// Changes the events of a watched file (`EPOLL_CTL_MOD`).
    ///
    /// # Errors
    /// `ENOENT` if it is not watched; `EINVAL` if EPOLLEXCLUSIVE is requested now or was at the addition.
    pub(crate) fn modify(
        &self,
        fd: i32,
        description: &Arc<FileDescription>,
        interest: EpollEvents,
        data: u64,
    ) -> Result<(), Errno> {
        if interest.contains(EpollEvents::EPOLLEXCLUSIVE) {
            return Err(Errno::EINVAL.here());
        }
        let _scan = self.scan.lock();
        let id = {
            let mut state = self.state.lock();
            let id = *state.by_target.get(&(fd, description.id())).ok_or_else(|| Errno::ENOENT.here())?;
            let entry = state.entries.get_mut(&id).ok_or_else(|| Errno::ENOENT.here())?;
            if entry.interest.contains(EpollEvents::EPOLLEXCLUSIVE) {
                return Err(Errno::EINVAL.here());
            }
            entry.interest = interest | ALWAYS;
            entry.data = data;
            id
        };
        self.look(id, description, interest | ALWAYS);
        Ok(())
    }

    /// Removes a file (`EPOLL_CTL_DEL`).
    ///
    /// # Errors
    /// `ENOENT` if it is not watched.
    pub(crate) fn remove(&self, fd: i32, description: &Arc<FileDescription>) -> Result<(), Errno> {
        let _scan = self.scan.lock();
        let id = *self.state.lock().by_target.get(&(fd, description.id())).ok_or_else(|| Errno::ENOENT.here())?;
        description.watchers().remove(&self.me, id);
        self.forget(id);
        Ok(())
    }

    /// Drops an entry that was removed or whose description is gone.
    fn forget(&self, id: u64) {
        let entry = self.state.lock().take(id);
        let file = entry.as_ref().and_then(|entry| entry.host.as_ref()?.upgrade());
        if let (Some((set, _)), Some(file)) = (self.host.get(), file) {
            set.remove(file.as_fd());
        }
        if let Some(inner) = entry.and_then(|e| e.inner).and_then(|inner| inner.upgrade()) {
            inner.state.lock().parents.remove(&self.me);
            self.state.lock().inner.remove(&inner.me);
        }
    }

    /// Puts the entry into the ready list if its file is ready.
    fn look(&self, id: u64, description: &FileDescription, interest: EpollEvents) {
        if !ready_events(description, interest).is_empty() && self.state.lock().queue(id, false) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.waiters.notify(READABLE);
        self.queue.notify(READABLE);
    }

    /// The waiters in epoll_wait(2).
    pub(crate) fn waiters(&self) -> &WaitQueue {
        &self.waiters
    }

    /// Takes at most `most` events. Level-triggered entries return to the end of the ready list; those with
    /// EPOLLONESHOT are disabled.
    pub(crate) fn harvest(&self, most: usize) -> Vec<Found> {
        let most = most.min(MOST_AT_ONCE);
        let mut found = Vec::new();
        // Dropped after the locks: these may be the last references.
        let mut looked_at = Vec::new();
        let scan = self.scan.lock();
        self.take_from_host();
        let mut left = self.state.lock().count_ready();
        while left > 0 && found.len() < most {
            left -= 1;
            let next = self.state.lock().pop_ready();
            let Some(next) = next else { break };
            let events = next.events();
            let Next { id, description, interest, data, .. } = next;
            looked_at.push(description);
            if events.is_empty() {
                continue;
            }
            let mut state = self.state.lock();
            if interest.contains(EpollEvents::EPOLLONESHOT) {
                if let Some(entry) = state.entries.get_mut(&id) {
                    entry.interest &= EpollEvents::MODES;
                }
            } else if !interest.contains(EpollEvents::EPOLLET) {
                state.queue(id, false);
            }
            found.push(Found { id, interest, event: EpollEvent { events: events.bits(), data } });
        }
        let more = self.state.lock().count_ready() > 0;
        drop(scan);
        if more {
            self.waiters.notify(READABLE);
        }
        found
    }

    /// Puts back events that could not be delivered, as if they had not been taken.
    pub(crate) fn put_back(&self, untold: &[Found]) {
        let _scan = self.scan.lock();
        let mut state = self.state.lock();
        for found in untold.iter().rev() {
            if let Some(entry) = state.entries.get_mut(&found.id)
                && EpollEvents::MODES.contains(entry.interest)
            {
                entry.interest = found.interest;
            }
            state.queue(found.id, true);
        }
    }
}

/// The events of `interest` that the file is ready for now.
fn ready_events(description: &FileDescription, interest: EpollEvents) -> EpollEvents {
    let wanted = interest.difference(EpollEvents::MODES);
    if wanted.is_empty() {
        return wanted;
    }
    EpollEvents::from_bits_retain(description.file().poll().bits()) & wanted
}

impl Waiter for Epoll {
    fn notify(&self, events: PollEvents, id: u64) {
        self.notify_exclusive(events, id);
    }

    fn notify_exclusive(&self, events: PollEvents, id: u64) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.entries.get(&id) else { return false };
        let wanted = entry.interest.difference(EpollEvents::MODES);
        if !wanted.intersects(EpollEvents::from_bits_retain(events.bits())) {
            return false;
        }
        state.queue(id, false);
        drop(state);
        let somebody_waits = !self.waiters.is_empty();
        self.wake();
        somebody_waits
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut self.state.lock().entries);
        for (id, entry) in entries {
            if let Some(description) = entry.description.upgrade() {
                description.watchers().remove(&self.me, id);
            }
            if let Some(inner) = entry.inner.and_then(|inner| inner.upgrade()) {
                inner.state.lock().parents.remove(&self.me);
            }
        }
    }
}

impl File for Epoll {
    fn inode(&self) -> Arc<dyn Inode> {
        self.vfs.anonymous.inode()
    }

    fn kept_bytes(&self) -> u64 {
        let (set, each) = if self.host.get().is_some() { (HOST_SET_BYTES, HOST_ENTRY_BYTES) } else { (0, 0) };
        set + self.state.lock().entries.len() as u64 * (ENTRY_BYTES + each)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let mut looked_at = Vec::new();
        // For a nested epoll this runs under the outer epoll's lock; nesting has no cycles.
        let scan = self.scan.lock_beside();
        self.take_from_host();
        let mut answer = PollEvents::empty();
        loop {
            let next = self.state.lock().pop_ready();
            let Some(next) = next else { break };
            let events = next.events();
            let Next { id, description, .. } = next;
            looked_at.push(description);
            if !events.is_empty() {
                self.state.lock().queue(id, true);
                answer = READABLE;
                break;
            }
        }
        drop(scan);
        answer
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn fdinfo_from(&self, from: (i32, u64), lines: &mut String) -> Option<(i32, u64)> {
        let (entries, last): (Vec<_>, _) = {
            let state = self.state.lock();
            let some = state.by_target.range(from..).take(LINES_AT_ONCE);
            let ids = some.clone().filter_map(|(_, id)| state.entries.get(id));
            let entries = ids.map(|e| (e.fd, e.interest, e.data, e.description.clone())).collect();
            (entries, some.last().map(|(&target, _)| target))
        };
        let line = |(fd, interest, data, description): (i32, EpollEvents, u64, Weak<FileDescription>)| {
            let metadata = description.upgrade()?.file().inode().metadata().ok()?;
            let (events, ino, device) = (interest.bits(), metadata.number, metadata.device.raw());
            Some(format!("tfd: {fd:8} events: {events:8x} data: {data:16x}  pos:0 ino:{ino:x} sdev:{device:x}\n"))
        };
        lines.extend(entries.into_iter().filter_map(line));
        last.map(|(fd, description)| (fd, description + 1))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[eventpoll]".to_owned())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
