//! Which file of the host an inode stands for, and the owner and mode that it has now.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_abi::time::Timespec;
use amber_host::fs as host;
use amber_host::fs::HostStat;

use super::HostFs;
use super::inode::{HostInode, State, ownership_of};
use crate::vfs::access::Ownership;

/// A file of the host. The number of a file that was removed may be given to a new one, which was born later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) number: u64,
    /// The birth time, on file systems where it lasts as long as the file.
    born: Option<Timespec>,
}

/// The result of comparing the attributes of a file with those of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The same file with the same owner and mode.
    Same,
    /// The same file with another owner or mode.
    Changed,
    /// Another file.
    Other,
}

impl HostFs {
    pub(super) fn identity_of(&self, stat: &HostStat) -> Identity {
        let born = stat.born.filter(|_| self.keeps_birth_times && stat.device == self.first.device);
        Identity { device: stat.device, number: stat.number, born }
    }
}

impl HostInode {
    /// Whether this is the inode of a file that was found. In a tree that is not shared, another file with the number of
    /// one that was removed counts as the same.
    pub(super) fn stands_for(&self, stat: &HostStat) -> bool {
        let identity = self.fs.identity_of(stat);
        self.is_kind_of(stat) && (!self.is_shared() || self.first == identity)
    }

    /// Notes what `look` finds now.
    pub(super) fn look_again(&self, look: impl FnOnce() -> Result<HostStat, Errno>) -> Result<Seen, Errno> {
        let settled = self.settled.load(Ordering::Acquire);
        Ok(self.note(&look()?, settled))
    }

    /// Notes the owner, the mode and the time of the last change, unless the sentry has changed them since there were
    /// `settled` changes, or the attributes are those of another file.
    fn note(&self, stat: &HostStat, settled: u64) -> Seen {
        let identity = self.fs.identity_of(stat);
        let mut state = self.state.lock();
        if state.identity != identity || !self.is_kind_of(stat) {
            return Seen::Other;
        }
        if self.settled.load(Ordering::Relaxed) != settled {
            return Seen::Same;
        }
        state.note_change(stat);
        let ownership = ownership_of(stat);
        if state.ownership == ownership {
            return Seen::Same;
        }
        self.note_ownership(&mut state, ownership);
        Seen::Changed
    }

    fn note_ownership(&self, state: &mut State, ownership: Ownership) {
        state.ownership = ownership;
        self.has_mapped_owner.store(ownership.is_mapped(), Ordering::Relaxed);
    }

    /// Notes owner and mode after the sentry changed them.
    pub(super) fn settle_ownership(&self, stat: &HostStat) {
        let mut state = self.state.lock();
        self.settled.fetch_add(1, Ordering::Release);
        self.note_ownership(&mut state, ownership_of(stat));
        state.note_change(stat);
    }

    /// Stands for another file of the same kind from now on: in a tree that is not shared, what took the place of a file
    /// counts as the same file with other content, as for Linux beneath an overlay.
    pub(super) fn adopt(&self, stat: &HostStat) {
        let identity = self.fs.identity_of(stat);
        let mut state = self.state.lock();
        state.identity = identity;
        self.note_ownership(&mut state, ownership_of(stat));
        state.note_change(stat);
    }

    /// Checks a descriptor that was opened by this inode's name, before it is used: at any moment, another file may have
    /// got the name, or a file system may have been mounted there. Returns the mount ID.
    ///
    /// # Errors
    /// `ESTALE` if it is another file, or has another owner or mode, than the one whose permissions were checked. The
    /// system call is then served again.
    pub(super) fn accept(&self, file: BorrowedFd<'_>) -> Result<Option<u64>, Errno> {
        let settled = self.settled.load(Ordering::Acquire);
        let found = host::look(file)?;
        self.fs.admit(file, found.mount)?;
        match self.note(&found.stat, settled) {
            Seen::Same => Ok(found.mount),
            Seen::Changed => Err(Errno::ESTALE.here()),
            Seen::Other => Err(self.replaced_by(&found.stat)),
        }
    }

    /// The attributes of the file that has this inode's name.
    ///
    /// # Errors
    /// `ESTALE` if it is another file.
    pub(super) fn check_named(&self, stat: &HostStat, settled: u64) -> Result<(), Errno> {
        match self.note(stat, settled) {
            Seen::Other => Err(self.replaced_by(stat)),
            Seen::Same | Seen::Changed => Ok(()),
        }
    }

    fn replaced_by(&self, stat: &HostStat) -> Errno {
        if self.is_shared() || !self.is_kind_of(stat) {
            return self.replaced();
        }
        self.adopt(stat);
        Errno::ESTALE.here()
    }

    /// The error of an operation by a name that no longer leads to the inode. Lookups in its directory pin what they find
    /// from now on.
    pub(super) fn replaced(&self) -> Errno {
        let parent = self.state.lock().parent.clone();
        if let Some(parent) = parent {
            parent.begin_pinning();
        }
        Errno::ESTALE.here()
    }
}
