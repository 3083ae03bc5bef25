//! Flags of an address space, set by prctl(2).

use amber_abi::errno::Errno;
use amber_platform::Protection;
use bitflags::bitflags;

use super::vma::VmaFlags;
use super::{MemoryManager, Vma};

bitflags! {
    /// Flags of an address space, inherited by fork and exec.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MemoryFlags: u32 {
        /// Transparent huge pages are disabled (`PR_SET_THP_DISABLE`).
        const NO_HUGE_PAGES = 1 << 0;
        /// Memory cannot become executable, nor be both writable and executable (`PR_MDWE_REFUSE_EXEC_GAIN`).
        const REFUSE_EXEC_GAIN = 1 << 1;
        /// Children do not inherit `REFUSE_EXEC_GAIN` (`PR_MDWE_NO_INHERIT`).
        const NO_INHERIT = 1 << 2;
    }
}

impl MemoryFlags {
    /// The flags of an address space made by fork or exec from one with these flags.
    pub(crate) fn inherited(self) -> MemoryFlags {
        let kept = if self.contains(Self::NO_INHERIT) { self - Self::REFUSE_EXEC_GAIN } else { self };
        kept - Self::NO_INHERIT
    }
}

impl MemoryManager {
    /// Checks `PR_SET_MDWE` for a change of protection; new memory passes the same one twice.
    ///
    /// # Errors
    /// `EACCES` if the change is refused.
    pub(super) fn check_exec_gain(&self, old: Protection, new: Protection) -> Result<(), Errno> {
        let gains = new.execute && (new.write || !old.execute);
        if gains && self.flags().contains(MemoryFlags::REFUSE_EXEC_GAIN) { Err(Errno::EACCES.here()) } else { Ok(()) }
    }
}

/// The protection that mprotect(2) gives a VMA. With `reading_executes` (`READ_IMPLIES_EXEC`), readable memory also
/// becomes executable, if the VMA allows it.
pub(super) fn given(vma: &Vma, requested: Protection, reading_executes: bool) -> Protection {
    let implied = reading_executes && requested.read && vma.flags.contains(VmaFlags::MAY_EXECUTE);
    Protection { execute: requested.execute || implied, ..requested }
}
