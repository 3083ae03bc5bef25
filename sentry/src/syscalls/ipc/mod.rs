//! System V IPC.

pub(crate) mod memory;
pub(crate) mod messages;
pub(crate) mod semaphores;

use amber_abi::ipc::IPC_64;

/// The command without `IPC_64`, which only 32-bit programs need.
fn plain(command: u32) -> u32 {
    command & !IPC_64
}
