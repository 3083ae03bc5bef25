//! Threads that wait for locks of others that wait: a chain that comes back to its begin is a deadlock.

use std::collections::HashMap;
use std::sync::Arc;

use super::table::{FutexTable, Kind, Waiter};
use crate::sync::{Mutex, Rank};

/// A longer chain counts as a deadlock (`kernel.max_lock_depth`'s usual value).
const MOST_LOCKS: usize = 1024;

/// The threads that wait for a lock with priority inheritance, or to be moved to one, by number.
pub(crate) struct LockWaiters {
    by_thread: Mutex<HashMap<i32, Arc<Waiter>>>,
}

impl Default for LockWaiters {
    fn default() -> Self {
        LockWaiters { by_thread: Mutex::new(Rank::LockChains, HashMap::new()) }
    }
}

impl LockWaiters {
    /// Notes that a thread waits.
    pub(crate) fn enter(&self, waiter: &Arc<Waiter>) {
        let old = self.by_thread.lock().insert(waiter.tid, waiter.clone());
        // A waiter's key may be the last to know an object, which is dropped without locks.
        drop(old);
    }

    /// A thread waits no more.
    pub(crate) fn leave(&self, tid: i32) {
        let old = self.by_thread.lock().remove(&tid);
        drop(old);
    }

    /// Notes that a thread waits, which is in the table already, unless it would wait for itself: then it is taken out
    /// of the table, and this is true.
    pub(crate) fn is_refused(&self, table: &FutexTable, waiter: &Arc<Waiter>) -> bool {
        // Keys are kept until no lock is held.
        let mut keys = Vec::new();
        let mut by_thread = self.by_thread.lock();
        let mut at = waiter;
        let refused = loop {
            let place = at.place();
            if place.kind != Kind::Lock || at.is_woken() {
                break false;
            }
            let owner = table.lock(&place.key).owner(&place.key);
            keys.push(place.key);
            match owner {
                // One that was made owner meanwhile is not refused.
                Some(owner) if owner == waiter.tid => break table.remove(waiter),
                _ if keys.len() >= MOST_LOCKS => break table.remove(waiter),
                Some(owner) => match by_thread.get(&owner) {
                    Some(next) => at = next,
                    None => break false,
                },
                None => break false,
            }
        };
        if !refused {
            by_thread.insert(waiter.tid, waiter.clone());
        }
        drop(by_thread);
        refused
    }
}
