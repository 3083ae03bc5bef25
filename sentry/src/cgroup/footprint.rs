//! The heap as the host sees it. The allocator keeps what was freed between blocks in use, in several arenas, so what is
//! resident can be much more than what is in use.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_host::footprint::Footprint as Source;
use amber_platform::{GuestMemory, trim_heap};

/// So much is the sandbox's own, for which the host's limit has room, and is not charged to the guest.
const ALLOWANCE: u64 = 16 << 20;
/// A change of less than this is none.
const CHANGE: u64 = 1 << 20;
/// Marks that somebody gives memory back just now.
const BUSY: u64 = u64::MAX / 2;
/// After so many looks without a change, nothing is on the move.
const QUIET: u64 = 5;

/// What this process has beyond what is charged.
#[derive(Default)]
pub(super) struct Footprint {
    source: OnceLock<Option<Source>>,
    /// Private memory that was there before the guest began.
    before: AtomicU64,
    /// All slack at the last look.
    slack: AtomicU64,
    /// Slack that could not be given back.
    fixed: AtomicU64,
    /// The private memory at the last change, and looks since.
    last: AtomicU64,
    quiet: AtomicU64,
}

impl Footprint {
    /// What is there already is the sandbox's own. Afterwards no file needs to be opened.
    pub(super) fn count_from_now(&self) {
        let open = || Source::open().inspect_err(|error| log::warn!("/proc/self/statm: {error}")).ok();
        let source = self.source.get_or_init(open).as_ref();
        self.before.store(source.and_then(Source::private_bytes).unwrap_or(0), Ordering::Relaxed);
    }

    /// Looks how much there is now, and charges it. Returns how often nothing had changed before, if something could
    /// still change soon.
    pub(super) fn weigh(&self, memory: &GuestMemory) -> Option<u64> {
        let now = self.source.get()?.as_ref()?.private_bytes()?;
        let grown = now.saturating_sub(self.before.load(Ordering::Relaxed));
        let slack = grown.saturating_sub(memory.private_bytes());
        self.slack.store(slack, Ordering::Relaxed);
        memory.set_slack(slack.saturating_sub(ALLOWANCE));
        if self.fixed.load(Ordering::Relaxed) != BUSY {
            self.fixed.fetch_min(slack, Ordering::Relaxed);
        }
        if self.last.load(Ordering::Relaxed).abs_diff(now) > CHANGE {
            self.last.store(now, Ordering::Relaxed);
            self.quiet.store(0, Ordering::Relaxed);
            return Some(0);
        }
        Some(self.quiet.fetch_add(1, Ordering::Relaxed) + 1).filter(|&quiet| quiet < QUIET)
    }

    /// Gives free parts of the heap back to the host if there is so much more of them than could not be given back
    /// before.
    pub(super) fn give_back(&self, memory: &GuestMemory, worth: u64) {
        let fixed = self.fixed.load(Ordering::Relaxed);
        if self.slack.load(Ordering::Relaxed) > fixed.saturating_add(worth)
            && self.fixed.compare_exchange(fixed, BUSY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            trim_heap();
            self.weigh(memory);
            self.fixed.store(self.slack.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
