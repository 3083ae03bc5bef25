//! What is counted for each user: processes and queued signals.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

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

/// Up to so many users are kept without looking which of them still have something counted.
const FEW: usize = 64;

/// The users of a sandbox, each for as long as something is counted for it.
#[derive(Debug)]
pub struct Users {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    users: HashMap<u32, Weak<User>>,
    /// With so many, those that have nothing any more are left out.
    most: usize,
}

impl Default for Users {
    fn default() -> Self {
        Users { known: Mutex::new(Rank::Leaf, Known { users: HashMap::new(), most: FEW }) }
    }
}

impl Users {
    /// The user with this number.
    pub fn get(&self, uid: u32) -> Arc<User> {
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
