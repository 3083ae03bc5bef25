//! The limit of memory.
//!
//! What counts is what the host has set aside for the guest's frames, and kernel memory: what the sentry keeps for the
//! guest on its heap, page tables, stacks. A task looks at it on its way back to its program, whenever a part of what was
//! left was taken; what programs touch of frames they have already shows at a look that a timer makes. Above the limit,
//! caches go first; then a process is killed. What no killing frees is refused somewhat below the limit, so that programs
//! can still run.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use amber_abi::Signal;
use amber_abi::task::WaitStatus;

use super::{ControlGroup, MAX};
use crate::clock::monotonic;
use crate::kernel::Kernel;
use crate::task::TaskContext;
use crate::time::Expire;

/// Near the limit, memory is counted again after this many bytes at least.
const STEP: u64 = 64 << 10;
/// As much may be taken ahead of need far from the limit.
const MOST_AHEAD: u64 = 16 << 20;
/// So many bytes of cached files are not given up: programs that run need theirs.
const MOST_KEPT: u64 = 8 << 20;
/// Giving up less than this of cached files when nothing is left at all is no help.
const HELPFUL: u64 = 1 << 20;
/// So much is left for programs at most when files in memory and the like have the rest.
const MOST_RESERVED: u64 = 64 << 20;
/// So far above the limit one call may go at most before it is refused. The host's limit is 64 MiB above the guest's, and
/// what the sandbox has before its guest starts counts there as well.
const MOST_ABOVE: u64 = 40 << 20;
/// So much freed heap is worth the work of giving it back, and so much when nothing is left.
const WORTH_TRIMMING: u64 = 8 << 20;
const WORTH_TRIMMING_AT_LIMIT: u64 = 1 << 20;
/// How often memory is counted that could grow beyond the limit unseen, in nanoseconds.
const WATCH: u64 = 50_000_000;
/// How often a task waits for the memory of a killed process before it goes on regardless.
const MOST_ROUNDS: usize = 16;

/// Looks at memory again when its moment has come.
struct Watch(Weak<Kernel>);

impl Expire for Watch {
    fn expire(&self) {
        let Some(kernel) = self.0.upgrade() else { return };
        let group = &kernel.cgroup;
        drop(group.watch.lock().take());
        kernel.network.inet.charge(true);
        if !group.make_room(&kernel) {
            group.kill_one(&kernel);
        }
    }
}

impl ControlGroup {
    /// What is there already is the sandbox's own: counts from now on.
    pub(crate) fn count_from_now(&self, kernel: &Kernel) {
        kernel.mm.frames.count_from_now();
        self.footprint.count_from_now();
    }

    /// Called by each task on its way back to its program, with no lock held: keeps to the limit.
    #[inline]
    pub(crate) fn enforce_limits(&self, ctx: &TaskContext) {
        if ctx.kernel().mm.frames.claimed_bytes() >= self.next_look.load(Ordering::Relaxed) {
            self.settle_now(ctx);
        }
    }

    fn settle_now(&self, ctx: &TaskContext) {
        for _ in 0..MOST_ROUNDS {
            if ctx.is_killed() || self.make_room(ctx.kernel()) {
                return;
            }
            if !self.kill_and_wait(ctx) {
                return;
            }
        }
    }

    /// The sandbox's memory is used up, whatever the limit: kills a process and waits for what it had.
    pub(crate) fn out_of_memory(&self, ctx: &TaskContext) {
        if ctx.kernel().vfs.page_caches.evict_all() < HELPFUL && !ctx.is_killed() && !self.kill_and_wait(ctx) {
            // Nothing can come of trying again.
            ctx.group().state().begin_end(WaitStatus::Signaled(Signal::SIGKILL, false));
        }
    }

    /// False if nothing may be killed.
    fn kill_and_wait(&self, ctx: &TaskContext) -> bool {
        let victim = self.kill_one(ctx.kernel());
        victim.inspect(|victim| ctx.wait_for_end(victim, Duration::from_millis(500))).is_some()
    }

    /// Counts what is in use.
    pub(super) fn count_memory(&self, kernel: &Kernel) -> u64 {
        let used = kernel.mm.frames.used_bytes();
        self.memory_peak.fetch_max(used, Ordering::Relaxed);
        used
    }

    /// Counts the memory and gives up what can be spared if it is too much; false if it still is.
    fn make_room(&self, kernel: &Arc<Kernel>) -> bool {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        if limit == MAX {
            self.next_look.store(MAX, Ordering::Relaxed);
            return true;
        }
        // What the host keeps for sockets may also have become less.
        let sockets = &kernel.network.inet;
        let mut again = sockets.charge(false);
        // Free parts of the heap can become more while what is in use is not.
        let moving = self.footprint.weigh(&kernel.mm.frames).map(|looks| WATCH << looks);
        let mut used = self.count_memory(kernel);
        self.footprint.give_back(&kernel.mm.frames, WORTH_TRIMMING.max(limit.saturating_sub(used) / 4));
        if used > limit {
            again = sockets.charge(true);
            used = self.count_memory(kernel);
        }
        if used > limit {
            self.at_limit.fetch_add(1, Ordering::Relaxed);
            // Somewhat more than needed, so that this is not done for each page.
            kernel.vfs.page_caches.evict_some(used - limit + limit / 16, (limit / 16).min(MOST_KEPT));
            used = self.count_memory(kernel);
        }
        if used > limit {
            kernel.vfs.names.forget_unused();
            used = self.count_memory(kernel);
        }
        if used > limit {
            sockets.give_up(used - limit + limit / 16);
            self.footprint.give_back(&kernel.mm.frames, WORTH_TRIMMING_AT_LIMIT);
            used = self.count_memory(kernel);
        }
        let room = limit.saturating_sub(used);
        kernel.mm.frames.set_ahead((room / 16).clamp(STEP, MOST_AHEAD));
        let claimed = kernel.mm.frames.claimed_bytes();
        self.next_look.store(claimed.saturating_add((room / 4).max(STEP)), Ordering::Relaxed);
        let unseen = (claimed > limit).then_some(WATCH);
        if let Some(after) = unseen.into_iter().chain(again).chain(moving).min() {
            self.watch(kernel, after);
        }
        used <= limit
    }

    /// Looks again after so many nanoseconds, if not sooner.
    fn watch(&self, kernel: &Arc<Kernel>, after: u64) {
        let at = monotonic().saturating_add(after);
        let mut watch = self.watch.lock();
        if watch.as_ref().is_none_or(|(planned, _)| at < *planned) {
            let target = self.watcher.get_or_init(|| Arc::new(Watch(Arc::downgrade(kernel))));
            *watch = Some((at, kernel.time.timers.set(at, Arc::downgrade(target))));
        }
    }

    /// The limit is another: from now on it holds.
    pub(super) fn memory_limit_changed(&self, kernel: &Kernel) {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        // One call must not take without end before it is looked at.
        let above = (limit / 4 + (24 << 20)).min(MOST_ABOVE);
        // What no killing takes away leaves something for programs to run at all.
        let lasting = if limit == MAX { MAX } else { limit - (limit / 8).min(MOST_RESERVED) };
        kernel.mm.frames.set_caps(lasting, limit.saturating_add(above));
        kernel.mm.frames.set_ahead(if limit == MAX { MAX } else { (limit / 16).clamp(STEP, MOST_AHEAD) });
        self.next_look.store(if limit == MAX { MAX } else { 0 }, Ordering::Relaxed);
    }
}
