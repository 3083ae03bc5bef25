//! What a kernel has once of memory.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use amber_abi::errno::Errno;
use amber_platform::GuestMemory;

use crate::sync::{Gate, Inside};

/// So many texts and lists are made in one go at a time where memory is limited.
const MOST_MAKERS: usize = 2;

/// The memory of a kernel.
pub struct Memory {
    /// The frames of all guests.
    pub frames: Arc<GuestMemory>,
    /// Requests of asynchronous I/O that all contexts together can hold.
    pub aio_requests: Arc<AtomicU64>,
    /// Makers of texts and lists that are made in one go.
    makers: Gate,
}

impl Memory {
    /// That of a kernel whose guests have these frames.
    pub fn new(frames: Arc<GuestMemory>) -> Self {
        Memory { frames, aio_requests: Arc::default(), makers: Gate::new(MOST_MAKERS) }
    }

    /// Admits a caller that makes a text or a list in one go, before it is charged. Where memory is limited few may do so
    /// at a time.
    ///
    /// # Errors
    /// `EINTR` if the caller is killed while it waits.
    pub fn admit_maker(&self) -> Result<Option<Inside<'_>>, Errno> {
        self.frames.is_limited().then(|| self.makers.enter()).transpose()
    }
}
