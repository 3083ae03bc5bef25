//! Small new areas of private memory, which get their frames before they are touched.
//!
//! A process that wrote every page of the small area it unmapped last, as one that allocates and frees buffers does, will
//! do so with the next one: its frames are zeroed and mapped in one step. Without this, mapping, touching and unmapping
//! 64 KiB takes 1.3 times as long on ptrace and 1.8 times on KVM in software (medians of one run, static builds; other
//! rows of the bench do not change).

use std::ops::Range;

use amber_platform::PAGE_SIZE;

use super::manager::{MemoryManager, State};
use super::runs::{Ownership, Run};
use super::vma::{Backing, Vma, VmaFlags};

/// New private memory up to this size gets its frames at once: it is sure to be touched, and the fault is saved.
const MOST_PREFAULTED: u64 = 256 << 10;

/// Whether a new area is of that kind.
pub(super) fn is_prefaulted(vma: &Vma) -> bool {
    matches!(vma.backing, Backing::Anonymous)
        && vma.protection.write
        && vma.size() <= MOST_PREFAULTED
        && !vma.flags.contains(VmaFlags::GROWS_DOWN)
}

impl MemoryManager {
    /// Gives a fresh anonymous range its frames. Failure is no harm: the touch will fault.
    pub(super) fn bring_zero(&self, state: &mut State, range: Range<u64>) {
        if let Some(area) = state.areas.find(range.start).cloned() {
            let part = Vma { start: range.start, end: range.end, ..area };
            let mut at = range.start;
            while at < range.end && self.bring(state, &part, at, true).is_ok() {
                at = state.runs.find(at).map_or(range.end, |(start, run)| start + run.frames.range().len);
            }
        }
    }

    /// Notes how a range was used that is about to go, if it is as small: who touched all of it, as buffers are, will do so
    /// with the next one.
    pub(super) fn record_use(&self, state: &mut State, range: &Range<u64>) {
        if range.end - range.start > MOST_PREFAULTED || range.end - range.start <= PAGE_SIZE {
            return;
        }
        if let Some(piece) = state.runs.pieces(range.clone()).next()
            && piece.ownership == Ownership::Owned
            && piece.range() == *range
        {
            // Frames that were brought for use are filled in any case; what is in the last one tells whether they were used.
            state.fills_areas = self.memory.is_filled(piece.frames) && {
                let mut last = [0; PAGE_SIZE as usize];
                self.memory.read(piece.frames.end() - PAGE_SIZE, &mut last);
                last != [0; PAGE_SIZE as usize]
            };
        }
    }

    /// Brings zeroed frames for a range if it is small and, as it seems, will be used everywhere. Returns whether it did.
    pub(super) fn bring_for_use(&self, state: &mut State, area: &Vma, range: &Range<u64>, hint: u64) -> bool {
        let len = range.end - range.start;
        if !state.fills_areas || len > MOST_PREFAULTED {
            return false;
        }
        let Ok(frames) = self.memory.allocate_for_use(len, hint) else { return false };
        let used = frames.range();
        self.install(state, area, range.start, Run { frames, ownership: Ownership::Owned });
        self.space.prefault_hint(used);
        true
    }
}
