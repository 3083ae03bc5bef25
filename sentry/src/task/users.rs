//! What is counted for each user: processes and queued signals.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::{Mutex, Rank};

/// A user, as far as things are counted for it.
#[derive(Debug, Default)]
pub struct User {
    tasks: AtomicU64,
    signals: AtomicU64,
    inotify_instances: AtomicU64,
    inotify_watches: AtomicU64,
    epoll_watches: AtomicU64,
    in_flight: AtomicU64,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub enum Counted {
    /// Threads, against RLIMIT_NPROC.
    Tasks,
    /// Queued signals, against RLIMIT_SIGPENDING.
    Signals,
    /// Instances of inotify, against `max_user_instances`.
    InotifyInstances,
    /// Watches of inotify, against `max_user_watches`.
    InotifyWatches,
    /// Files that epolls watch, against `max_user_watches`.
    EpollWatches,
    /// Descriptors in messages that nobody received yet, against RLIMIT_NOFILE.
    InFlight,
}

impl User {
    fn counter(&self, what: Counted) -> &AtomicU64 {
        match what {
            Counted::Tasks => &self.tasks,
            Counted::Signals => &self.signals,
            Counted::InotifyInstances => &self.inotify_instances,
            Counted::InotifyWatches => &self.inotify_watches,
            Counted::EpollWatches => &self.epoll_watches,
            Counted::InFlight => &self.in_flight,
        }
    }

    /// How many there are.
    pub fn count(&self, what: Counted) -> u64 {
        self.counter(what).load(Ordering::Relaxed)
    }

    /// Counts one more, until the charge is dropped.
    pub fn charge(self: &Arc<Self>, what: Counted) -> UserCharge {
        self.counter(what).fetch_add(1, Ordering::Relaxed);
        UserCharge { user: self.clone(), what }
    }

    /// Counts one more unless that exceeds `limit`.
    pub fn try_charge(self: &Arc<Self>, what: Counted, limit: u64) -> Option<UserCharge> {
        let charge = self.charge(what);
        (self.count(what) <= limit).then_some(charge)
    }
}

/// One thing counted for a user.
#[derive(Debug)]
pub struct UserCharge {
    user: Arc<User>,
    what: Counted,
}

impl Drop for UserCharge {
    fn drop(&mut self) {
        self.user.counter(self.what).fetch_sub(1, Ordering::Relaxed);
    }
}

/// The users of a sandbox.
#[derive(Debug)]
pub struct Users {
    users: Mutex<HashMap<u32, Arc<User>>>,
}

impl Default for Users {
    fn default() -> Self {
        Users { users: Mutex::new(Rank::Leaf, HashMap::new()) }
    }
}

impl Users {
    /// The user with this number.
    pub fn get(&self, uid: u32) -> Arc<User> {
        self.users.lock().entry(uid).or_default().clone()
    }
}
