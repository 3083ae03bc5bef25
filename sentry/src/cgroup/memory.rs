//! The limit of memory.
//!
//! Memory in use is the host's memory for the guest's frames, and kernel memory: the sentry's heap for the guest, page
//! tables and stacks. A task counts it on its way back to guest code after a part of the remaining amount was
//! allocated; a timer counts memory that grows without faults. Above the limit, caches are evicted first; then a
//! process is killed. Memory that no kill releases is refused somewhat below the limit, so that programs can still run.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use amber_abi::Signal;
use amber_abi::task::WaitStatus;

use super::{ControlGroup, MAX};
use crate::clock::monotonic;
use crate::interruption;
use crate::kernel::Kernel;
use crate::task::TaskContext;
use crate::time::Expire;

/// Near the limit, memory is counted again after at least this many bytes.
const STEP: u64 = 64 << 10;
/// Far from the limit, at most this many bytes may be used between two counts.
const MOST_AHEAD: u64 = 16 << 20;
/// Bytes of cached files that are not evicted: running programs need theirs.
const MOST_KEPT: u64 = 8 << 20;
/// With no memory left, evicting less than this does not help.
const HELPFUL: u64 = 1 << 20;
/// Upper bound of the memory that files in memory and the like must leave for programs.
const MOST_RESERVED: u64 = 64 << 20;
/// One call may exceed the limit by at most this before it is refused. The host's limit is 64 MiB above the guest's and
/// includes the sandbox's own memory.
const MOST_ABOVE: u64 = 40 << 20;
/// Freed heap worth returning to the host, usually and when no memory is left.
const WORTH_TRIMMING: u64 = 8 << 20;
const WORTH_TRIMMING_AT_LIMIT: u64 = 1 << 20;
/// Interval, in nanoseconds, of counting memory that can grow without a fault.
const WATCH: u64 = 50_000_000;
/// How long the timer thread collects unreachable sockets before other timers run, in nanoseconds.
const RECLAIM_SLICE: u64 = 2_000_000;
/// How often a task waits for the memory of a killed process before it continues regardless.
const MOST_ROUNDS: usize = 16;

/// Result of a count of the memory.
enum Room {
    /// The limit is not exceeded.
    Enough,
    /// The limit is exceeded, and the collection of unreachable sockets was interrupted.
    MayCome,
    /// The limit is exceeded, and nothing is left to reclaim.
    Short,
}

/// Counts memory again when the timer expires.
struct Watch(Weak<Kernel>);

impl Expire for Watch {
    fn expire(&self) {
        let Some(kernel) = self.0.upgrade() else { return };
        let group = &kernel.cgroup;
        drop(group.watch.lock().take());
        kernel.network.inet.charge(true);
        let until = monotonic().saturating_add(RECLAIM_SLICE);
        match group.make_room(&kernel, || monotonic() > until) {
            Room::Enough => {}
            Room::MayCome => group.watch(&kernel, RECLAIM_SLICE),
            Room::Short => {
                group.kill_one(&kernel);
            }
        }
    }
}

impl ControlGroup {
    /// Takes the present memory as the sandbox's own, and counts from now on.
    pub(crate) fn count_from_now(&self, kernel: &Kernel) {
        kernel.mm.frames.count_from_now();
        self.footprint.count_from_now();
    }

    /// Enforces the limit. Called by each task on its way back to guest code, without locks.
    #[inline]
    pub(crate) fn enforce_limits(&self, ctx: &TaskContext) {
        if ctx.kernel().mm.frames.claimed_bytes() >= self.next_look.load(Ordering::Relaxed) {
            self.settle_now(ctx);
        }
    }

    fn settle_now(&self, ctx: &TaskContext) {
        for _ in 0..MOST_ROUNDS {
            if ctx.is_killed() {
                return;
            }
            match self.make_room(ctx.kernel(), interruption::is_killed) {
                Room::Enough | Room::MayCome => return,
                Room::Short if self.kill_and_wait(ctx) => {}
                Room::Short => return,
            }
        }
    }

    /// Handles exhaustion of the sandbox's memory, whatever the limit: kills a process and waits for its memory.
    pub(crate) fn out_of_memory(&self, ctx: &TaskContext) {
        let kernel = ctx.kernel();
        let before = kernel.mm.frames.used_bytes();
        kernel.network.unix.reclaim(interruption::is_killed);
        let reclaimed = before.saturating_sub(kernel.mm.frames.used_bytes());
        let given_up = kernel.vfs.page_caches.evict_all().saturating_add(reclaimed);
        if given_up < HELPFUL && !ctx.is_killed() && !self.kill_and_wait(ctx) {
            // Retrying cannot succeed.
            ctx.group().state().begin_end(WaitStatus::Signaled(Signal::SIGKILL, false));
        }
    }

    /// Kills a process and waits for its memory. Returns false if there is none to kill.
    fn kill_and_wait(&self, ctx: &TaskContext) -> bool {
        let victim = self.kill_one(ctx.kernel());
        victim.inspect(|victim| ctx.wait_for_end(victim, Duration::from_millis(500))).is_some()
    }

    /// Counts the memory in use.
    pub(super) fn count_memory(&self, kernel: &Kernel) -> u64 {
        let used = kernel.mm.frames.used_bytes();
        self.memory_peak.fetch_max(used, Ordering::Relaxed);
        used
    }

    /// Counts the memory and reclaims if it exceeds the limit, until `interrupted` returns true.
    fn make_room(&self, kernel: &Arc<Kernel>, interrupted: impl Fn() -> bool) -> Room {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        if limit == MAX {
            self.next_look.store(MAX, Ordering::Relaxed);
            return Room::Enough;
        }
        // The host's memory for sockets may have decreased as well.
        let sockets = &kernel.network.inet;
        let mut again = sockets.charge(false);
        // Free parts of the heap can grow while the memory in use does not.
        let moving = self.footprint.weigh(&kernel.mm.frames).map(|looks| WATCH << looks);
        let mut used = self.count_memory(kernel);
        self.footprint.give_back(&kernel.mm.frames, WORTH_TRIMMING.max(limit.saturating_sub(used) / 4));
        if used > limit {
            again = sockets.charge(true);
            used = self.count_memory(kernel);
        }
        if used > limit {
            self.at_limit.fetch_add(1, Ordering::Relaxed);
            // Somewhat more than necessary, so that this is not repeated for each page.
            kernel.vfs.page_caches.evict_some(used - limit + limit / 16, (limit / 16).min(MOST_KEPT));
            used = self.count_memory(kernel);
        }
        if used > limit {
            kernel.vfs.names.forget_unused();
            used = self.count_memory(kernel);
        }
        let mut reclaimed = true;
        if used > limit {
            reclaimed = kernel.network.unix.reclaim(interrupted);
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
        match used <= limit {
            true => Room::Enough,
            false if !reclaimed => Room::MayCome,
            false => Room::Short,
        }
    }

    /// Counts again after this many nanoseconds, unless an earlier count is scheduled.
    fn watch(&self, kernel: &Arc<Kernel>, after: u64) {
        let at = monotonic().saturating_add(after);
        let mut watch = self.watch.lock();
        if watch.as_ref().is_none_or(|(planned, _)| at < *planned) {
            let target = self.watcher.get_or_init(|| Arc::new(Watch(Arc::downgrade(kernel))));
            *watch = Some((at, kernel.time.timers.set(at, Arc::downgrade(target))));
        }
    }

    /// Applies a changed limit.
    pub(super) fn memory_limit_changed(&self, kernel: &Kernel) {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        // A single call must not exceed the limit without bound before it is checked.
        let above = (limit / 4 + (24 << 20)).min(MOST_ABOVE);
        // Memory that no kill releases must leave some for programs.
        let lasting = if limit == MAX { MAX } else { limit - (limit / 8).min(MOST_RESERVED) };
        kernel.mm.frames.set_caps(lasting, limit.saturating_add(above));
        kernel.mm.frames.set_ahead(if limit == MAX { MAX } else { (limit / 16).clamp(STEP, MOST_AHEAD) });
        self.next_look.store(if limit == MAX { MAX } else { 0 }, Ordering::Relaxed);
    }
}
