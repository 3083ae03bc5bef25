//! Futexes: threads that wait for a word of guest memory to change. See futex(2) and futex(7).
//!
//! A waiter is put into the table while both the address space and its shard of the table are locked, with the word
//! looked at under both. A waker changes the word first and takes the shard then. So no wake-up is lost, and no lock is
//! held over a page fault: the address space brings the page before it calls us.

mod chain;
mod key;
mod pi;
mod requeue;
mod robust;
mod table;
mod wait;

use amber_abi::errno::Errno;

use crate::mm::MemoryManager;

pub(crate) use key::Key;
pub(crate) use pi::{lock_pi, unlock_pi};
pub(crate) use requeue::{Requeue, requeue, requeue_pi, wake_op};
pub(crate) use robust::{release, wake_cleared_tid};
pub(crate) use table::FutexTable;
pub(crate) use wait::{WaitOn, wait, wait_any, wait_for_requeue_pi};

use crate::task::TaskContext;

/// Where a futex is, and whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Address of the word.
    pub address: u64,
    /// Whether other processes may use it.
    pub shared: bool,
}

impl Place {
    /// The key of the word, its address checked.
    ///
    /// # Errors
    /// `EINVAL` if unaligned, `EFAULT` if nothing is mapped there.
    pub(crate) fn key(self, mm: &MemoryManager) -> Result<Key, Errno> {
        if !self.address.is_multiple_of(4) {
            return Err(Errno::EINVAL.here());
        }
        if self.address >= mm.address_limit() {
            return Err(Errno::EFAULT.here());
        }
        if !self.shared {
            return Ok(Key::Private(mm.id(), self.address));
        }
        Ok(match mm.shared_object(self.address)? {
            Some((object, offset)) => Key::Object(object, offset),
            None => Key::Local(mm.id(), self.address),
        })
    }
}

/// Wakes up to `count` waiters (one at least) whose mask has a bit of `mask`; answers how many.
///
/// # Errors
/// Those of [`Place::key`], and `EINVAL` if the waiters want to be woken another way (priority inheritance).
pub(crate) fn wake(ctx: &TaskContext, place: Place, count: i32, mask: u32) -> Result<u64, Errno> {
    let key = place.key(ctx.mm())?;
    ctx.kernel().futexes.wake(&key, count, mask)
}
