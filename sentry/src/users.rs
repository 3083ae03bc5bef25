//! Per-user counts, such as processes and queued signals.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, Rank};

/// A user and its counts.
#[derive(Debug, Default)]
pub(crate) struct User {
    tasks: AtomicU64,
    signals: AtomicU64,
    inotify_instances: AtomicU64,
    inotify_watches: AtomicU64,
    epoll_watches: AtomicU64,
    in_flight: AtomicU64,
}

/// The kinds of counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counted {
    /// Threads (RLIMIT_NPROC).
    Tasks,
    /// Queued signals (RLIMIT_SIGPENDING).
    Signals,
    /// inotify instances (`max_user_instances`).
    InotifyInstances,
    /// inotify watches (`max_user_watches`).
    InotifyWatches,
    /// Files watched by epolls (`max_user_watches`).
    EpollWatches,
    /// Descriptors in unreceived messages (RLIMIT_NOFILE).
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

    /// The current count.
    pub(crate) fn count(&self, what: Counted) -> u64 {
        self.counter(what).load(Ordering::Relaxed)
    }

    /// Increments a count until the charge is dropped.
    pub(crate) fn charge(self: &Arc<Self>, what: Counted) -> UserCharge {
        self.counter(what).fetch_add(1, Ordering::Relaxed);
        UserCharge { user: self.clone(), what }
    }

    /// Increments a count unless it would exceed `limit`.
    pub(crate) fn try_charge(self: &Arc<Self>, what: Counted, limit: u64) -> Option<UserCharge> {
        let charge = self.charge(what);
        (self.count(what) <= limit).then_some(charge)
    }
}

/// A charge to a user; ends when dropped.
#[derive(Debug)]
pub(crate) struct UserCharge {
    user: Arc<User>,
    what: Counted,
}

impl Drop for UserCharge {
    fn drop(&mut self) {
        self.user.counter(self.what).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Up to this many users are kept without a check for zero counts.
const FEW: usize = 64;

/// The users of a sandbox that have charges.
#[derive(Debug)]
pub(crate) struct Users {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    users: HashMap<u32, Weak<User>>,
    /// At this number of users, those without charges are removed.
    most: usize,
}

impl Default for Users {
    fn default() -> Self {
        Users { known: Mutex::new(Rank::Leaf, Known { users: HashMap::new(), most: FEW }) }
    }
}

impl Users {
    /// The user with this ID.
    pub(crate) fn get(&self, uid: u32) -> Arc<User> {
        let mut known = self.known.lock();
        if let Some(user) = known.users.get(&uid).and_then(Weak::upgrade) {
            return user;
        }
        if known.users.len() >= known.most {
            known.users.retain(|_, user| user.strong_count() > 0);
            known.most = FEW.max(known.users.len() * 2);
        }
        let user = Arc::<User>::default();
        known.users.insert(uid, Arc::downgrade(&user));
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_with_nothing_are_forgotten() {
        let users = Users::default();
        let charges: Vec<_> = (0..100).map(|uid| users.get(uid).charge(Counted::Tasks)).collect();
        (100..100_000).for_each(|uid| assert_eq!(users.get(uid).count(Counted::Tasks), 0));
        assert!(users.known.lock().users.len() <= 200);
        assert!((0..100).all(|uid| users.get(uid).count(Counted::Tasks) == 1));
        drop(charges);
        assert_eq!(users.get(0).count(Counted::Tasks), 0);
    }
}
