//! Guest memory management: areas, page faults, the page cache, and the sentry's own access to guest memory.
//!
//! An address space is a map of areas ([`vma`]) and a map of runs of present pages ([`runs`]). A run stands in the
//! platform's address space; what has no run faults when touched, and the fault makes one. So operations on memory touch
//! areas and runs, never single pages.
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
pub mod page_cache;
mod prefault;
mod protect;
mod remap;
mod report;
pub mod runs;
mod state;
#[cfg(test)]
mod tests;
pub mod vma;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::Frames;

pub use fault::Fault;
pub use fixed_pages::FixedPages;
pub use flags::MemoryFlags;
pub use layout::{Layout, Randomness};
pub use limits::MemoryLimits;
pub use lock::LockMode;
pub use manager::MemoryManager;
pub use map::{Backed, MapRequest, Place};
pub use page_cache::{PageCache, PageCaches, PageSource, Quota};
pub use protect::Reach;
pub use remap::RemapRequest;
pub use report::{AreaUsage, Areas, Totals};
pub use state::Memory;
pub use vma::{Backing, Vma, VmaFlags};

/// An object whose pages can be mapped: a file of some file system, a memfd, shared anonymous memory.
pub trait Mappable: Send + Sync {
    /// The frames that hold the object's bytes from `offset` on: at least one page, at most `most` bytes (both page
    /// aligned), read in if need be. With `write`, the pages count as dirty from now on.
    ///
    /// # Errors
    /// `EFAULT` past the end (the guest gets SIGBUS), `EIO`, `ENOMEM`, `ENOSPC`.
    fn frames(&self, offset: u64, most: u64, write: bool) -> Result<Frames, Errno>;

    /// Whether the object wants to know (by [`frames`](Self::frames) with `write`) before pages are stored to. If not,
    /// writable shared areas are writable at the first touch.
    fn is_write_noticed(&self) -> bool {
        true
    }

    /// Length of the object in bytes now.
    fn len(&self) -> u64;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An area shows the object from now on: whoever cuts the object must take the pages away from it.
    fn attach(&self, mapping: Arc<dyn Mapping>);

    /// The area is gone.
    fn detach(&self, mapping: &Arc<dyn Mapping>);

    /// A shared area that may be stored to appears: a new one, or (`inherited`) by a fork.
    ///
    /// # Errors
    /// `EPERM` if the object is sealed against new stores.
    fn attach_writable(&self, _inherited: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// Such an area is gone.
    fn detach_writable(&self) {}

    /// Writes changed pages of the range to where they last (`msync`).
    fn write_back(&self, offset: u64, len: u64) -> Result<(), Errno>;

    /// Whether the page at `offset` is in memory (`mincore`).
    fn is_resident(&self, _offset: u64) -> bool {
        true
    }

    /// Frees the pages of a range, which read as zero from then on (`MADV_REMOVE`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` if the object cannot.
    fn punch_hole(&self, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }
}

/// An address space that shows some part of a [`Mappable`].
pub trait Mapping: Send + Sync {
    /// Takes the object's pages from `offset` on away, in every area: the next touch faults. `even_private` also drops
    /// private copies (truncation does, hole punching does not). Returns when no guest can reach the frames.
    fn invalidate(&self, object: &dyn Mappable, offset: u64, len: u64, even_private: bool);
}
