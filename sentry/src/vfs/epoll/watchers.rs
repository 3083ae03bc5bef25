//! The epolls that watch an open file description, from which it is removed when it is closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::Epoll;
use crate::sync::{Mutex, Rank};

/// The epoll entries of one open file description, by the epoll's address and the entry's number.
pub(crate) struct Watchers(Mutex<BTreeMap<(usize, u64), Weak<Epoll>>>);

impl Default for Watchers {
    fn default() -> Self {
        Watchers(Mutex::new(Rank::Leaf, BTreeMap::new()))
    }
}

impl Watchers {
    pub(super) fn add(&self, epoll: &Weak<Epoll>, id: u64) {
        self.0.lock().insert((epoll.as_ptr().addr(), id), epoll.clone());
    }

    pub(super) fn remove(&self, epoll: &Weak<Epoll>, id: u64) {
        let removed = self.0.lock().remove(&(epoll.as_ptr().addr(), id));
        drop(removed);
    }

    /// The watching epolls, each once per entry.
    pub(super) fn epolls(&self) -> Vec<Arc<Epoll>> {
        self.0.lock().values().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut *self.0.lock());
        for ((_, id), epoll) in entries {
            if let Some(epoll) = epoll.upgrade() {
                epoll.forget(id);
            }
        }
    }
}
