//! What files know of signal-driven I/O: that there is somebody who gets SIGIO of a file with `O_ASYNC`, and SIGURG of a
//! socket (fcntl(2), socket(7)). Who that may be is a matter of [`signal`](crate::signal).

use amber_abi::Signal;
use amber_abi::open::{FOwnerEx, OwnerType};

use crate::vfs::FileDescription;
use crate::wait::{SigioEvent, SignalSource};

/// What a kind of file does with `O_ASYNC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalIo {
    /// Nothing: `F_SETFL` leaves the flag as it is, and `FIOASYNC` is refused.
    Absent,
    /// It tells of whatever becomes possible.
    Whole,
    /// The end of a pipe: it tells a reader of what it can read, a writer of what it can write.
    End,
    /// A terminal: if nobody is named, the foreground process group is told, or the caller where there is none.
    Terminal(Option<i32>),
}

/// Who gets the signals of a file (`F_SETOWN`), with the rights of whoever said so.
pub trait SignalOwner: Send + Sync {
    /// Sends the signal of an event, by its code and band if `asked` names one (`F_SETSIG`) and the queue has room for
    /// it, else a plain SIGIO. `fd` is the descriptor through which `O_ASYNC` was set.
    fn tell(&self, asked: Option<Signal>, fd: i32, event: SigioEvent);

    /// Sends SIGURG.
    fn tell_urgent(&self);

    /// The kind and the number that were named, the number 0 if nothing has it any more (`F_GETOWN_EX`).
    fn named(&self) -> FOwnerEx;

    /// Whether it stands for nobody: what the number 0 names.
    fn is_nobody(&self) -> bool;

    /// The real and effective user of whoever named it (`F_GETOWNER_UIDS`).
    fn users(&self) -> [u32; 2];
}

impl SignalSource for FileDescription {
    fn signal(&self, fd: i32, event: SigioEvent) {
        if let Some(owner) = self.owner() {
            owner.tell(self.owner_signal(), fd, event);
        }
    }

    fn signal_urgent(&self, fd: Option<i32>) {
        let Some(owner) = self.owner() else { return };
        owner.tell_urgent();
        if let (Some(fd), Some(asked)) = (fd, self.owner_signal()) {
            owner.tell(Some(asked), fd, SigioEvent::Urgent);
        }
    }
}

/// Who gets a file's signals, as `F_GETOWN_EX` tells it: 0 if nobody, or if whoever it was is gone.
pub fn owner(description: &FileDescription) -> FOwnerEx {
    let nobody = FOwnerEx { type_: OwnerType::F_OWNER_TID.raw(), pid: 0 };
    description.owner().map_or(nobody, |owner| owner.named())
}

/// The same as `F_GETOWN` tells it: negative for a group.
pub fn signed_owner(description: &FileDescription) -> i32 {
    let owner = owner(description);
    if owner.type_ == OwnerType::F_OWNER_PGRP.raw() { owner.pid.wrapping_neg() } else { owner.pid }
}

/// The real and effective user of whoever named the owner (`F_GETOWNER_UIDS`).
pub fn owner_users(description: &FileDescription) -> [u32; 2] {
    description.owner().map_or([0, 0], |owner| owner.users())
}
