//! Open files whose owners get signals on events of an object (`O_ASYNC`, `F_SETOWN`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, Rank};

/// The event that a signal reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SigioEvent {
    /// Readable.
    Input,
    /// Writable.
    Output,
    /// An error.
    Error,
    /// Urgent data.
    Urgent,
    /// The peer is closed.
    HangUp,
}

/// An open file with an owner that may get signals. Its methods are called without locks.
pub(crate) trait SignalSource: Send + Sync {
    /// Sends the owner its chosen signal (`F_SETSIG`), with the descriptor on which `O_ASYNC` was set.
    fn signal(&self, fd: i32, event: SigioEvent);

    /// Sends the owner SIGURG, and with a descriptor also its chosen signal, if that is not SIGIO.
    fn signal_urgent(&self, fd: Option<i32>);
}

/// A file's entry in a [`SignalList`].
pub(crate) struct Subscription {
    source: Weak<dyn SignalSource>,
    /// The descriptor on which `O_ASYNC` was set; none if it is not set, so that only SIGURG is sent.
    pub fd: Option<i32>,
    /// Whether input is reported.
    pub input: bool,
    /// Whether room for output is reported.
    pub output: bool,
}

/// Open files whose owners get signals.
pub(crate) struct SignalList {
    used: AtomicBool,
    /// A writer found no room, so the next room is reported.
    full: AtomicBool,
    entries: Mutex<Vec<Subscription>>,
}

impl Default for SignalList {
    fn default() -> Self {
        let entries = Mutex::new(Rank::Wait, Vec::new());
        SignalList { used: AtomicBool::new(false), full: AtomicBool::new(false), entries }
    }
}

impl SignalList {
    /// Changes the entry of a file. With `enter`, a missing entry is added first.
    pub(crate) fn change(&self, source: &Weak<dyn SignalSource>, enter: bool, change: impl FnOnce(&mut Subscription)) {
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.source.strong_count() > 0);
        if enter && !entries.iter().any(|entry| entry.source.ptr_eq(source)) {
            entries.push(Subscription { source: source.clone(), fd: None, input: true, output: true });
            self.used.store(true, Ordering::Release);
        }
        if let Some(entry) = entries.iter_mut().find(|entry| entry.source.ptr_eq(source)) {
            change(entry);
        }
    }

    fn chosen(&self, wanted: impl Fn(&Subscription) -> bool) -> Vec<(Arc<dyn SignalSource>, Option<i32>)> {
        if !self.used.load(Ordering::Acquire) {
            return Vec::new();
        }
        let entries = self.entries.lock();
        let wanted = entries.iter().filter(|entry| wanted(entry));
        wanted.filter_map(|entry| Some((entry.source.upgrade()?, entry.fd))).collect()
    }

    /// Signals the owners of the files with `O_ASYNC`. No lock may be held.
    pub(crate) fn notify(&self, event: SigioEvent) {
        let wanted = |entry: &Subscription| {
            let suits = match event {
                SigioEvent::Input => entry.input,
                SigioEvent::Output => entry.output,
                _ => true,
            };
            entry.fd.is_some() && suits
        };
        for (source, fd) in self.chosen(wanted) {
            if let Some(fd) = fd {
                source.signal(fd, event);
            }
        }
    }

    /// Records that a writer found no room: [`notify_room`](Self::notify_room) will report the next room.
    pub(crate) fn note_full(&self) {
        if self.used.load(Ordering::Acquire) {
            self.full.store(true, Ordering::Release);
        }
    }

    /// Reports room for output, if a writer was refused before. No lock may be held.
    pub(crate) fn notify_room(&self) {
        if self.used.load(Ordering::Acquire) && self.full.swap(false, Ordering::AcqRel) {
            self.notify(SigioEvent::Output);
        }
    }

    /// Reports urgent data: SIGURG to every owner, and for files with `O_ASYNC` the chosen signal. No lock may be held.
    pub(crate) fn notify_urgent(&self) {
        for (source, fd) in self.chosen(|_| true) {
            source.signal_urgent(fd);
        }
    }
}
