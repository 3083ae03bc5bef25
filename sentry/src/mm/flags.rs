//! What prctl(2) sets for a whole address space.

use amber_abi::errno::Errno;
use amber_platform::Protection;
use bitflags::bitflags;

use super::vma::VmaFlags;
use super::{MemoryManager, Vma};

bitflags! {
    /// Rules for an address space, which the ones made from it, by fork or exec, have too.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MemoryFlags: u32 {
        /// No huge pages are wanted (`PR_SET_THP_DISABLE`).
        const NO_HUGE_PAGES = 1 << 0;
        /// Nothing becomes executable that was not or that can be written (`PR_MDWE_REFUSE_EXEC_GAIN`).
        const REFUSE_EXEC_GAIN = 1 << 1;
        /// Children do not have that rule (`PR_MDWE_NO_INHERIT`).
        const NO_INHERIT = 1 << 2;
    }
}

impl MemoryFlags {
    /// What an address space made from one with these flags begins with.
    pub fn inherited(self) -> MemoryFlags {
        let kept = if self.contains(Self::NO_INHERIT) { self - Self::REFUSE_EXEC_GAIN } else { self };
        kept - Self::NO_INHERIT
    }
}

impl MemoryManager {
    /// The rules of `PR_SET_MDWE`: whether memory may get a protection, having had `old` (the same for new memory).
    ///
    /// # Errors
    /// `EACCES` if not.
    pub(super) fn check_exec_gain(&self, old: Protection, new: Protection) -> Result<(), Errno> {
        let gains = new.execute && (new.write || !old.execute);
        if gains && self.flags().contains(MemoryFlags::REFUSE_EXEC_GAIN) { Err(Errno::EACCES.here()) } else { Ok(()) }
    }
}

/// The protection an area gets by mprotect(2), where readable memory is executable too (`READ_IMPLIES_EXEC`) if
/// `reading_executes` and the area allows it.
pub(super) fn given(vma: &Vma, wanted: Protection, reading_executes: bool) -> Protection {
    let implied = reading_executes && wanted.read && vma.flags.contains(VmaFlags::MAY_EXECUTE);
    Protection { execute: wanted.execute || implied, ..wanted }
}
