//! inotify(7): a queue of events of watched files.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::inotify::{InotifyEvent, InotifyMask};
use amber_abi::ioctl::IoctlRequest;
use amber_abi::poll::PollEvents;
use zerocopy::IntoBytes;

use crate::error::SysResult;
use crate::sync::{Mutex, Rank};
use crate::users::UserCharge;
use crate::vfs::notify::{self, Watch, Watcher};
use crate::vfs::sigio::SignalIo;
use crate::vfs::{Caller, File, Inode, Vfs};
use crate::wait::{READABLE, SigioEvent, WaitQueue};

/// Size of the fixed part of an event; names are padded to multiples of it.
const HEADER: usize = size_of::<InotifyEvent>();

/// An event.
#[derive(Clone, PartialEq, Eq)]
struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    /// The name, padded with at least one zero; empty for events without a name.
    name: Vec<u8>,
}

impl Event {
    fn new(wd: i32, mask: u32, cookie: u32, name: Option<&[u8]>) -> Event {
        let mut name = name.map(<[u8]>::to_vec).unwrap_or_default();
        if !name.is_empty() {
            name.resize((name.len() + 1).next_multiple_of(HEADER), 0);
        }
        Event { wd, mask, cookie, name }
    }

    fn len(&self) -> usize {
        HEADER + self.name.len()
    }
}

/// A watch.
struct Entry {
    inotify: Weak<Inotify>,
    wd: i32,
    mask: AtomicU32,
}

/// The number of watches listed with one acquisition of the lock.
const LINES_AT_ONCE: usize = 128;
/// Approximate heap memory of a watch, in bytes.
const WATCH_BYTES: usize = 384;

struct Placed {
    entry: Arc<Entry>,
    watch: Watch,
    _charge: UserCharge,
}

#[derive(Default)]
struct State {
    watches: BTreeMap<i32, Placed>,
    by_inode: HashMap<(u64, u64), i32>,
    last_wd: i32,
    events: VecDeque<Event>,
    bytes: usize,
}

/// An inotify instance.
pub(crate) struct Inotify {
    me: Weak<Inotify>,
    vfs: Arc<Vfs>,
    state: Mutex<State>,
    most_events: usize,
    queue: WaitQueue,
    _charge: UserCharge,
}

impl State {
    fn push(&mut self, event: Event, most: usize) -> bool {
        // An event equal to the last one is dropped, unless the watch is removed.
        let ignored = InotifyMask::IN_IGNORED.bits();
        let same = |last: &Event| last.wd == event.wd && last.mask == event.mask && last.name == event.name;
        if self.events.back().is_some_and(|last| last.mask & ignored == 0 && same(last)) {
            return false;
        }
        let event = if self.events.len() < most {
            event
        } else {
            let overflow = InotifyMask::IN_Q_OVERFLOW.bits();
            if self.events.back().is_some_and(|last| last.mask == overflow) {
                return false;
            }
            Event::new(-1, overflow, 0, None)
        };
        self.bytes += event.len();
        self.events.push_back(event);
        true
    }

    fn take(&mut self, wd: i32) -> Option<Placed> {
        let placed = self.watches.remove(&wd)?;
        self.by_inode.remove(&placed.watch.key());
        Some(placed)
    }
}

impl Inotify {
    /// Makes an instance whose queue holds at most `most_events`.
    pub(crate) fn new(vfs: &Arc<Vfs>, most_events: u64, charge: UserCharge) -> Arc<Inotify> {
        Arc::new_cyclic(|me| Inotify {
            me: me.clone(),
            vfs: vfs.clone(),
            state: Mutex::new(Rank::Buffer, State::default()),
            most_events: usize::try_from(most_events).unwrap_or(usize::MAX),
            queue: WaitQueue::new(),
            _charge: charge,
        })
    }

    /// Watches an inode, or changes its watch, and returns the watch descriptor. `charge` counts a new watch for its
    /// user.
    ///
    /// # Errors
    /// `EEXIST` with `IN_MASK_CREATE` if it is watched already; `ENOSPC` at the user's limit of watches.
    pub(crate) fn add(
        &self,
        inode: &Arc<dyn Inode>,
        mask: InotifyMask,
        charge: impl FnOnce() -> Option<UserCharge>,
    ) -> Result<i32, Errno> {
        let kept = InotifyMask::IN_ALL_EVENTS | InotifyMask::IN_EXCL_UNLINK | InotifyMask::IN_ONESHOT;
        let bits = (mask & kept).bits();
        let (device, number) = inode.identity()?;
        let existing = |state: &State| {
            let wd = *state.by_inode.get(&(device.raw(), number))?;
            Some((wd, state.watches.get(&wd)?.entry.clone()))
        };
        let found = existing(&self.state.lock());
        if let Some((wd, entry)) = found {
            if mask.contains(InotifyMask::IN_MASK_CREATE) {
                return Err(Errno::EEXIST.here());
            }
            if mask.contains(InotifyMask::IN_MASK_ADD) {
                entry.mask.fetch_or(bits, Ordering::Relaxed);
            } else {
                entry.mask.store(bits, Ordering::Relaxed);
            }
            return Ok(wd);
        }
        let charge = charge().ok_or_else(|| Errno::ENOSPC.here())?;
        let wd = {
            let mut state = self.state.lock();
            state.last_wd = state.last_wd.checked_add(1).ok_or_else(|| Errno::ENOSPC.here())?;
            state.last_wd
        };
        let entry = Arc::new(Entry { inotify: self.me.clone(), wd, mask: AtomicU32::new(bits) });
        let watcher: Arc<dyn Watcher> = entry.clone();
        let watch = notify::watch(&self.vfs, inode, Arc::downgrade(&watcher))?;
        let mut state = self.state.lock();
        if let Some((other, _)) = existing(&state) {
            // Another thread added a watch in the meantime; that one is kept.
            return Ok(other);
        }
        state.by_inode.insert(watch.key(), wd);
        state.watches.insert(wd, Placed { entry, watch, _charge: charge });
        Ok(wd)
    }

    /// Removes a watch and reports `IN_IGNORED`.
    ///
    /// # Errors
    /// `EINVAL` if there is no such watch.
    pub(crate) fn remove(&self, wd: i32) -> Result<(), Errno> {
        let mut state = self.state.lock();
        let removed = state.take(wd).ok_or_else(|| Errno::EINVAL.here())?;
        state.push(Event::new(wd, InotifyMask::IN_IGNORED.bits(), 0, None), self.most_events);
        drop(state);
        drop(removed);
        self.queue.notify_and_signal(READABLE, SigioEvent::Input);
        Ok(())
    }
}

impl Watcher for Entry {
    fn event(&self, mask: u32, cookie: u32, name: Option<&[u8]>) {
        let Some(inotify) = self.inotify.upgrade() else { return };
        let interest = self.mask.load(Ordering::Relaxed);
        let unlinked = InotifyMask::IN_EXCL_UNLINK.bits();
        if mask & interest & unlinked != 0 {
            return;
        }
        let mask = mask & !unlinked;
        let happened = InotifyMask::from_bits_retain(mask);
        let always = InotifyMask::IN_UNMOUNT.bits();
        let wanted = mask & (interest | always) & (InotifyMask::IN_ALL_EVENTS.bits() | always) != 0;
        let gone = happened.intersects(InotifyMask::IN_UNMOUNT)
            || (happened.intersects(InotifyMask::IN_DELETE_SELF) && name.is_none());
        let once = wanted && interest & InotifyMask::IN_ONESHOT.bits() != 0;
        let mut removed = None;
        let mut state = inotify.state.lock();
        if !state.watches.contains_key(&self.wd) {
            return;
        }
        let mut reported = wanted && state.push(Event::new(self.wd, mask, cookie, name), inotify.most_events);
        if gone || once {
            removed = state.take(self.wd);
            let ignored = Event::new(self.wd, InotifyMask::IN_IGNORED.bits(), 0, None);
            reported |= state.push(ignored, inotify.most_events);
        }
        drop(state);
        drop(removed);
        if reported {
            inotify.queue.notify_and_signal(READABLE, SigioEvent::Input);
        }
    }
}

impl File for Inotify {
    fn inode(&self) -> Arc<dyn Inode> {
        self.vfs.anonymous.inode()
    }

    fn kept_bytes(&self) -> u64 {
        let state = self.state.lock();
        (state.watches.len() * WATCH_BYTES + state.events.len() * size_of::<Event>() + state.bytes) as u64
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let mut done = 0;
        while let Some(event) = state.events.front() {
            let len = event.len();
            let Some(place) = buf.get_mut(done..done + len) else { break };
            let header =
                InotifyEvent { wd: event.wd, mask: event.mask, cookie: event.cookie, len: event.name.len() as u32 };
            let (head, tail) = place.split_at_mut(HEADER);
            head.copy_from_slice(header.as_bytes());
            tail.copy_from_slice(&event.name);
            done += len;
            state.events.pop_front();
            state.bytes -= len;
        }
        match (done, state.events.is_empty()) {
            (0, true) => Err(Errno::EAGAIN.here()),
            (0, false) => Err(Errno::EINVAL.here()),
            (done, _) => Ok(done),
        }
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        if self.state.lock().events.is_empty() { PollEvents::empty() } else { READABLE }
    }

    fn signal_io(&self) -> SignalIo {
        SignalIo::Whole
    }

    fn is_read_in_turn(&self) -> bool {
        true
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        match IoctlRequest::from_raw(command) {
            IoctlRequest::FIONREAD => {
                let bytes = self.state.lock().bytes;
                caller.write_object(argument, &i32::try_from(bytes).unwrap_or(i32::MAX))?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.here().into()),
        }
    }

    fn fdinfo_from(&self, (from, _): (i32, u64), lines: &mut String) -> Option<(i32, u64)> {
        let watches: Vec<_> = {
            let state = self.state.lock();
            let each = state.watches.range(from..).map(|(_, placed)| placed).take(LINES_AT_ONCE);
            each.map(|p| (p.entry.wd, p.watch.key(), p.entry.mask.load(Ordering::Relaxed))).collect()
        };
        let line = |(wd, (device, inode), mask): (i32, (u64, u64), u32)| {
            format!("inotify wd:{wd:x} ino:{inode:x} sdev:{device:x} mask:{mask:x} ignored_mask:0\n")
        };
        let next = watches.last().and_then(|(wd, ..)| Some((wd.checked_add(1)?, 0)));
        lines.extend(watches.into_iter().map(line));
        next
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:inotify".to_owned())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(wd: i32, mask: InotifyMask, name: &str) -> Event {
        Event::new(wd, mask.bits(), 0, (!name.is_empty()).then_some(name.as_bytes()))
    }

    #[test]
    fn equal_events_become_one_and_a_full_queue_says_so() {
        let mut state = State::default();
        assert!(state.push(event(1, InotifyMask::IN_MODIFY, "a"), 2));
        assert!(!state.push(event(1, InotifyMask::IN_MODIFY, "a"), 2));
        assert!(state.push(event(1, InotifyMask::IN_MODIFY, "b"), 2));
        assert!(state.push(event(1, InotifyMask::IN_MODIFY, "a"), 2));
        assert!(!state.push(event(1, InotifyMask::IN_MODIFY, "c"), 2));
        let masks: Vec<_> = state.events.iter().map(|e| e.mask).collect();
        assert_eq!(masks, [2, 2, InotifyMask::IN_Q_OVERFLOW.bits()]);
        assert_eq!(state.bytes, 32 + 32 + 16);
    }

    #[test]
    fn names_are_padded_with_at_least_one_zero() {
        assert_eq!(event(1, InotifyMask::IN_OPEN, "").len(), 16);
        assert_eq!(event(1, InotifyMask::IN_OPEN, "fifteen letters").len(), 32);
        assert_eq!(event(1, InotifyMask::IN_OPEN, "sixteen letters!").len(), 48);
    }
}
