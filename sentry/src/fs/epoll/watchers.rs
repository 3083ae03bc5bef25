//! What an open file description knows of the epolls that watch it: they forget it when it is closed.

use std::sync::Weak;

use super::Epoll;
use crate::sync::{Mutex, Rank};

/// The epoll entries for one open file description.
pub struct Watchers(Mutex<Vec<(Weak<Epoll>, u64)>>);

impl Default for Watchers {
    fn default() -> Self {
        Watchers(Mutex::new(Rank::Leaf, Vec::new()))
    }
}

impl Watchers {
    pub(super) fn add(&self, epoll: &Weak<Epoll>, id: u64) {
        self.0.lock().push((epoll.clone(), id));
    }

    pub(super) fn remove(&self, epoll: &Weak<Epoll>, id: u64) {
        self.0.lock().retain(|(other, other_id)| *other_id != id || !other.ptr_eq(epoll));
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut *self.0.lock());
        for (epoll, id) in entries {
            if let Some(epoll) = epoll.upgrade() {
                epoll.forget(id);
            }
        }
    }
}
