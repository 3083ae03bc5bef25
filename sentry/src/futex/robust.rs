//! What the end of a thread means for futexes: locks it still has go to others, marked as left by the dead.

use std::sync::atomic::{AtomicU32, Ordering};

use amber_abi::errno::Errno;
use amber_abi::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, ROBUST_LIST_LIMIT, RobustListHead};

use super::pi::hand_over;
use super::table::Garbage;
use super::wait::dispose;
use super::{Place, wake};
use crate::task::TaskContext;

/// Lets go of every futex the thread has: walks its robust list and hands over the locks others wait for. For the end of
/// a thread and for execve(2), while its memory is still there; after execve(2), `ends` is false.
pub(crate) fn release(ctx: &TaskContext, ends: bool) {
    let head = ctx.robust_list();
    ctx.set_robust_list(0);
    if ends {
        ctx.set_futexes_released();
    }
    if head != 0 {
        // A list that cannot be read ends there, as on Linux.
        let _ = walk(ctx, head);
    }
    hand_locks_over(ctx);
}

/// Wakes those who wait for `CLONE_CHILD_CLEARTID`'s word, just set to zero.
pub(crate) fn wake_cleared_tid(ctx: &TaskContext, address: u64) {
    // Nobody there to wake, or no such address: no one to tell either.
    let _ = wake(ctx, Place { address, shared: true }, 1, u32::MAX);
}

/// An entry's link: where the next is, and whether that one is a lock with priority inheritance.
fn link(raw: u64) -> (u64, bool) {
    (raw & !1, raw & 1 != 0)
}

fn walk(ctx: &TaskContext, head_address: u64) -> Result<(), Errno> {
    let head: RobustListHead = ctx.read_object(head_address)?;
    let (pending, pending_pi) = link(head.list_op_pending);
    let (mut entry, mut pi) = link(head.list);
    let word_of = |entry: u64| entry.wrapping_add_signed(head.futex_offset);
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry == head_address {
            break;
        }
        // Read before the word is let go: then the entry may vanish.
        let next = ctx.read_object::<u64>(entry);
        if entry != pending {
            let_go(ctx, word_of(entry), pi, false)?;
        }
        (entry, pi) = link(next?);
    }
    if pending != 0 {
        let_go(ctx, word_of(pending), pending_pi, true)?;
    }
    Ok(())
}

/// Marks one word as left by its dead owner, if the thread owned it.
fn let_go(ctx: &TaskContext, address: u64, pi: bool, pending: bool) -> Result<(), Errno> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EFAULT.here());
    }
    let tid = ctx.tid() as u32;
    let must_wake = ctx.mm().with_word(address, true, |word: &AtomicU32| {
        loop {
            let now = word.load(Ordering::SeqCst);
            if now & FUTEX_TID_MASK != tid {
                // Unlocked in user space, but dead before the wake-up that should follow.
                return pending && !pi && now == 0;
            }
            let left = (now & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
            // A lock that is waited for in the kernel is handed over from there.
            if word.compare_exchange(now, left, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return !pi && now & FUTEX_WAITERS != 0;
            }
        }
    })?;
    if must_wake {
        wake(ctx, Place { address, shared: true }, 1, u32::MAX)?;
    }
    Ok(())
}

/// Gives the locks that others wait for to the first of them.
fn hand_locks_over(ctx: &TaskContext) {
    let table = &ctx.kernel().futexes;
    let tid = ctx.tid();
    let mut found = Vec::new();
    for shard in table.shards() {
        let shard = shard.lock();
        found.extend(shard.owned_by(tid).into_iter().filter_map(|key| Some((shard.first_for_lock(&key)?, key))));
    }
    for (first, key) in found {
        let mut garbage = Garbage::default();
        let address = first.place().address;
        // The word is written where the waiter sees it; the order of locks asks for its address space first.
        let _ = first.mm.with_word(address, true, |word| {
            let mut shard = table.lock(&key);
            if shard.owner(&key) != Some(tid) {
                return;
            }
            if let Some(next) = shard.first_for_lock(&key) {
                word.store(FUTEX_WAITERS | FUTEX_OWNER_DIED | next.tid as u32, Ordering::SeqCst);
                hand_over(&mut shard, &key, next, &mut garbage);
            }
        });
        dispose(garbage);
    }
}
