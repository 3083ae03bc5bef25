//! Memory.

pub(crate) mod advice;
pub(crate) mod barrier;
pub(crate) mod locking;
pub(crate) mod mapping;
pub(crate) mod protection;
pub(crate) mod remapping;
pub(crate) mod remote;

use amber_abi::capability::Capability;
use amber_abi::mm::ProtFlags;
use amber_abi::task::Personality;
use amber_platform::Protection;

use crate::task::TaskContext;

/// The protection of a `prot` argument.
fn protection_of(prot: ProtFlags) -> Protection {
    Protection {
        read: prot.contains(ProtFlags::PROT_READ),
        write: prot.contains(ProtFlags::PROT_WRITE),
        execute: prot.contains(ProtFlags::PROT_EXEC),
    }
}

/// Whether readable memory becomes executable (personality(2) `READ_IMPLIES_EXEC`).
fn reading_executes(ctx: &TaskContext) -> bool {
    Personality::from_bits_retain(ctx.settings().personality).contains(Personality::READ_IMPLIES_EXEC)
}

/// Whether RLIMIT_MEMLOCK does not apply to the caller (`CAP_IPC_LOCK`).
fn may_lock_any(ctx: &TaskContext) -> bool {
    ctx.credentials().has(Capability::CAP_IPC_LOCK)
}
