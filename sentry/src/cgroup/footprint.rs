//! The resident size of the heap. The allocator keeps freed memory between blocks in use, in several arenas, so much
//! more can be resident than is in use.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_host::footprint::Footprint as Source;
use amber_platform::{GuestMemory, trim_heap};

/// Slack of the sandbox itself, which the host's limit allows for and the guest is not charged for, in bytes.
const ALLOWANCE: u64 = 16 << 20;
/// Changes of fewer bytes are ignored.
const CHANGE: u64 = 1 << 20;
/// Marks that a thread is returning memory to the host.
const BUSY: u64 = u64::MAX / 2;
/// After this many checks without a change, the size is stable.
const QUIET: u64 = 5;

/// Memory of this process beyond what is charged.
#[derive(Default)]
pub(super) struct Footprint {
    source: OnceLock<Option<Source>>,
    /// Private memory before the guest began.
    before: AtomicU64,
    /// The slack at the last check.
    slack: AtomicU64,
    /// The slack that could not be returned.
    fixed: AtomicU64,
    /// The private memory at the last change, and the number of checks since.
    last: AtomicU64,
    quiet: AtomicU64,
}

impl Footprint {
    /// Takes the present memory as the sandbox's own. No file needs to be opened afterwards.
    pub(super) fn count_from_now(&self) {
        let open = || Source::open().inspect_err(|error| log::warn!("/proc/self/statm: {error}")).ok();
        let source = self.source.get_or_init(open).as_ref();
        self.before.store(source.and_then(Source::private_bytes).unwrap_or(0), Ordering::Relaxed);
    }

    /// Measures and charges the slack. Returns the number of preceding checks without a change, if the size may still
    /// change soon.
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

    /// Returns free parts of the heap to the host, if they exceed by `worth` what could not be returned before.
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
