//! Calls on the objects of System V.

pub mod memory;
pub mod messages;
pub mod semaphores;

use amber_abi::ipc::IPC_64;

/// A command without the flag that only 32-bit programs need.
fn plain(command: u32) -> u32 {
    command & !IPC_64
}
