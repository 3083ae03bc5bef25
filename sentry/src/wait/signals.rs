//! The open files of an object whose owners are sent signals when something happens on it (`O_ASYNC`, `F_SETOWN`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, Rank};

/// What a signal reports of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigioEvent {
    /// Something can be read.
    Input,
    /// Something can be written.
    Output,
    /// An error waits.
    Error,
    /// Urgent data has come.
    Urgent,
    /// The other end is gone.
    HangUp,
}

/// An open file that has an owner, who may be sent signals. Called with no lock held.
pub trait SignalSource: Send + Sync {
    /// Sends the owner the signal it asked for, with the descriptor that `O_ASYNC` was set by.
    fn signal(&self, fd: i32, event: SigioEvent);

    /// Sends the owner SIGURG; with such a descriptor also the signal it asked for, if that is another than SIGIO.
    fn signal_urgent(&self, fd: Option<i32>);
}

/// A file's entry in a [`SignalList`].
pub struct Subscription {
    source: Weak<dyn SignalSource>,
    /// The descriptor that `O_ASYNC` was set by; none if it is not set, and only SIGURG is to be sent.
    pub fd: Option<i32>,
    /// Whether input is reported.
    pub input: bool,
    /// Whether room for output is reported.
    pub output: bool,
}

/// The open files of an object whose owners are sent signals.
pub struct SignalList {
    used: AtomicBool,
    /// Somebody found no room for output, and so is told of room.
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
    /// Changes the entry of a file, which is made first if it is missing and `enter` says so.
    pub fn change(&self, source: &Weak<dyn SignalSource>, enter: bool, change: impl FnOnce(&mut Subscription)) {
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

    /// Something happened: signals the owners of the files with `O_ASYNC`. No lock may be held.
    pub fn notify(&self, event: SigioEvent) {
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

    /// Somebody finds no room for output: [`tell_room`](Self::tell_room) will tell of it.
    pub fn note_full(&self) {
        if self.used.load(Ordering::Acquire) {
            self.full.store(true, Ordering::Release);
        }
    }

    /// There is room for output, which is reported if somebody missed it before. No lock may be held.
    pub fn tell_room(&self) {
        if self.used.load(Ordering::Acquire) && self.full.swap(false, Ordering::AcqRel) {
            self.notify(SigioEvent::Output);
        }
    }

    /// Urgent data has come: SIGURG for every owner, and for those of files with `O_ASYNC` the signal they asked for.
    /// No lock may be held.
    pub fn tell_urgent(&self) {
        for (source, fd) in self.chosen(|_| true) {
            source.signal_urgent(fd);
        }
    }
}
