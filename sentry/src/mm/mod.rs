//! Guest memory management: VMAs, page faults, the page cache, and the sentry's own access to guest memory.
//!
//! An address space is a map of VMAs ([`vma`]) and a map of runs of present pages ([`runs`]). Runs are mapped in the
//! platform's address space; an access to a page without a run faults, and the fault adds one. So operations on memory
//! work on VMAs and runs, never on single pages.
//!
//! See docs/internals/memory-manager.md.

mod access;
mod address;
mod advice;
mod fault;
mod fixed_pages;
mod flags;
mod fork;
mod fork_precopy;
mod gaps;
mod layout;
mod limits;
mod lock;
mod manager;
mod map;
pub(crate) mod page_cache;
mod prefault;
mod protect;
mod remap;
mod report;
pub(crate) mod runs;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod vma;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::Frames;

pub(crate) use fault::Fault;
pub(crate) use fixed_pages::FixedPages;
pub(crate) use flags::MemoryFlags;
pub(crate) use layout::{Layout, Randomness};
pub(crate) use limits::MemoryLimits;
pub(crate) use lock::LockMode;
pub(crate) use manager::MemoryManager;
pub(crate) use map::{Backed, MapRequest, Place};
pub(crate) use page_cache::{PageCache, PageCaches, PageSource, Quota};
pub(crate) use protect::Reach;
pub(crate) use remap::RemapRequest;
pub(crate) use report::{AreaUsage, Totals};
pub(crate) use state::Memory;
pub(crate) use vma::{Vma, VmaFlags};

/// An object whose pages can be mapped: a file, a memfd, shared anonymous memory.
pub(crate) trait Mappable: Send + Sync {
    /// The frames of the object's bytes from `offset` on: at least one page and at most `most` bytes, both page
    /// aligned. Absent pages are read in. With `write`, the pages become dirty.
    ///
    /// # Errors
    /// `EFAULT` past the end (the guest gets SIGBUS), `EIO`, `ENOMEM`, `ENOSPC`.
    fn frames(&self, offset: u64, most: u64, write: bool) -> Result<Frames, Errno>;

    /// Whether the object must be informed before stores to its pages (by [`frames`](Self::frames) with `write`). If
    /// not, the first access makes shared writable VMAs writable.
    fn is_write_noticed(&self) -> bool {
        true
    }

    /// Current length in bytes.
    fn len(&self) -> u64;

    /// Registers a VMA that maps the object. Truncation must invalidate it.
    fn attach(&self, mapping: Arc<dyn Mapping>);

    /// Removes the registration of a VMA.
    fn detach(&self, mapping: &Arc<dyn Mapping>);

    /// Counts a shared VMA that may be stored to: a new one, or (`inherited`) a copy made by fork.
    ///
    /// # Errors
    /// `EPERM` if the object is sealed against new ones.
    fn attach_writable(&self, _inherited: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// Ends the count of such a VMA.
    fn detach_writable(&self) {}

    /// Writes dirty pages of the range back to the source (msync(2)).
    fn write_back(&self, offset: u64, len: u64) -> Result<(), Errno>;

    /// Whether the page at `offset` is in memory (mincore(2)).
    fn is_resident(&self, _offset: u64) -> bool {
        true
    }

    /// Frees the pages of a range, which then reads as zero (`MADV_REMOVE`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` if the object does not support it.
    fn punch_hole(&self, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }
}

/// An address space that maps some part of a [`Mappable`].
pub(crate) trait Mapping: Send + Sync {
    /// Unmaps the object's pages of a range in all VMAs, so that the next access faults. `even_private` also drops
    /// private copies: truncation does so, hole punching does not. When it returns, no guest can reach the frames.
    fn invalidate(&self, object: &dyn Mappable, offset: u64, len: u64, even_private: bool);
}
