//! Calls on memory.

pub mod advice;
pub mod barrier;
pub mod locking;
pub mod mapping;
pub mod protection;
pub mod remapping;
pub mod remote;

use amber_abi::capability::Capability;
use amber_abi::mm::ProtFlags;
use amber_abi::task::Personality;
use amber_platform::Protection;

use crate::task::TaskContext;

/// The three rights of a `prot` argument.
fn protection_of(prot: ProtFlags) -> Protection {
    Protection {
        read: prot.contains(ProtFlags::PROT_READ),
        write: prot.contains(ProtFlags::PROT_WRITE),
        execute: prot.contains(ProtFlags::PROT_EXEC),
    }
}

/// Whether memory that the caller may read can be executed as well (personality(2)).
fn reading_executes(ctx: &TaskContext) -> bool {
    Personality::from_bits_retain(ctx.settings().personality).contains(Personality::READ_IMPLIES_EXEC)
}

/// Whether the caller may lock as much memory as it likes.
fn may_lock_any(ctx: &TaskContext) -> bool {
    ctx.credentials().has(Capability::CAP_IPC_LOCK)
}
