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

pub(crate) use ids::Object;
pub(crate) use limits::{Limit, Limits};
pub(crate) use messages::{Message, MessageQueue, Messages, Receiver, Selection};
pub(crate) use proc::REGISTRATION;
pub(crate) use semaphores::{Attempt, SemaphoreSet, Semaphores};
pub(crate) use shared_memory::{Segment, SegmentPages, SharedMemory};

/// Kernel memory of an object in bytes, without its content.
const OBJECT_BYTES: u64 = 1024;

/// The System V objects of a sandbox.
pub(crate) struct Ipc {
    /// Shared memory segments.
    pub memory: Arc<SharedMemory>,
    /// Semaphore sets.
    pub semaphores: Semaphores,
    /// Message queues.
    pub messages: Messages,
    /// Limits on the number and size of objects.
    pub limits: Arc<Limits>,
}

impl Ipc {
    /// A state without objects; segments will use `memory`.
    pub(crate) fn new(memory: &Arc<GuestMemory>) -> Self {
        let limits = Arc::new(Limits::default());
        Ipc {
            memory: SharedMemory::new(memory.clone(), limits.clone()),
            semaphores: Semaphores::new(memory.clone(), limits.clone()),
            messages: Messages::new(memory.clone(), limits.clone()),
            limits,
        }
    }
}

/// The current time in seconds, for the times of objects.
fn now() -> i64 {
    realtime().tv_sec
}
