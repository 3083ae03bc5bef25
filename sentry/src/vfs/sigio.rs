//! The interface of files to signal-driven I/O: the owner of a file receives SIGIO with `O_ASYNC`, and SIGURG of a
//! socket (fcntl(2), socket(7)). [`signal`](crate::signal) implements owners.

use amber_abi::Signal;
use amber_abi::open::{FOwnerEx, OwnerType};

use crate::vfs::FileDescription;
use crate::wait::{SigioEvent, SignalSource};

/// The behaviour of `O_ASYNC` for a kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalIo {
    /// Not supported: `F_SETFL` leaves the flag unchanged, and `FIOASYNC` is refused.
    Absent,
    /// Reports all events.
    Whole,
    /// An end of a pipe: reports to a reader when it can read, to a writer when it can write.
    End,
    /// A terminal: without an owner, the foreground process group is signalled, or the caller if there is none.
    Terminal(Option<i32>),
}

/// The receiver of a file's signals (`F_SETOWN`), with the credentials of the process that set it.
pub(crate) trait SignalOwner: Send + Sync {
    /// Sends the signal of an event: `chosen` (`F_SETSIG`) with its code and band if it is set and the queue has room
    /// for it, else a plain SIGIO. `fd` is the descriptor through which `O_ASYNC` was set.
    fn signal(&self, chosen: Option<Signal>, fd: i32, event: SigioEvent);

    /// Sends SIGURG.
    fn signal_urgent(&self);

    /// The type and ID of the owner, the ID 0 if it no longer exists (`F_GETOWN_EX`).
    fn named(&self) -> FOwnerEx;

    /// Whether there is no owner: the ID 0 was set.
    fn is_none(&self) -> bool;

    /// The real and effective user IDs of the process that set it (`F_GETOWNER_UIDS`).
    fn users(&self) -> [u32; 2];
}

impl SignalSource for FileDescription {
    fn signal(&self, fd: i32, event: SigioEvent) {
        if let Some(owner) = self.owner() {
            owner.signal(self.owner_signal(), fd, event);
        }
    }

    fn signal_urgent(&self, fd: Option<i32>) {
        let Some(owner) = self.owner() else { return };
        owner.signal_urgent();
        if let (Some(fd), Some(chosen)) = (fd, self.owner_signal()) {
            owner.signal(Some(chosen), fd, SigioEvent::Urgent);
        }
    }
}

/// The owner of a file's signals as `F_GETOWN_EX` returns it; ID 0 if there is none or it no longer exists.
pub(crate) fn owner(description: &FileDescription) -> FOwnerEx {
    let nobody = FOwnerEx { type_: OwnerType::F_OWNER_TID.raw(), pid: 0 };
    description.owner().map_or(nobody, |owner| owner.named())
}

/// The owner as `F_GETOWN` returns it: negative for a process group.
pub(crate) fn signed_owner(description: &FileDescription) -> i32 {
    let owner = owner(description);
    if owner.type_ == OwnerType::F_OWNER_PGRP.raw() { owner.pid.wrapping_neg() } else { owner.pid }
}

/// The real and effective user IDs of the process that set the owner (`F_GETOWNER_UIDS`).
pub(crate) fn owner_users(description: &FileDescription) -> [u32; 2] {
    description.owner().map_or([0, 0], |owner| owner.users())
}
