//! System V interprocess communication: shared memory, semaphores and message queues (sysvipc(7)).

mod ids;
mod limits;
mod messages;
mod proc;
mod semaphores;
mod shared_memory;

use std::sync::Arc;

use amber_platform::GuestMemory;

use crate::clock::realtime;

pub use ids::{Ids, Object, Permissions};
pub use limits::{Limit, Limits};
pub use messages::{Message, MessageQueue, Messages, Receiver, Selection};
pub use proc::REGISTRATION;
pub use semaphores::{Attempt, SemaphoreSet, Semaphores};
pub use shared_memory::{Segment, SegmentPages, SharedMemory};

/// What an object takes beside what is in it.
const OBJECT_BYTES: u64 = 1024;

/// The objects of a sandbox.
pub struct Ipc {
    /// Segments of memory.
    pub memory: Arc<SharedMemory>,
    /// Sets of semaphores.
    pub semaphores: Semaphores,
    /// Queues of messages.
    pub messages: Messages,
    /// How many of each there may be, and how large.
    pub limits: Arc<Limits>,
}

impl Ipc {
    /// No objects yet; segments will be of `memory`.
    pub fn new(memory: &Arc<GuestMemory>) -> Self {
        let limits = Arc::new(Limits::default());
        Ipc {
            memory: SharedMemory::new(memory.clone(), limits.clone()),
            semaphores: Semaphores::new(memory.clone(), limits.clone()),
            messages: Messages::new(memory.clone(), limits.clone()),
            limits,
        }
    }
}

/// The time as the objects note it, in seconds.
fn now() -> i64 {
    realtime().tv_sec
}
