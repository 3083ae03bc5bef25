//! The kernel's memory state.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use amber_abi::errno::Errno;
use amber_platform::GuestMemory;

use crate::sync::{Gate, Inside};

/// Number of callers that may build a text or list at a time, if memory is limited.
const MOST_MAKERS: usize = 2;

/// The memory state of a kernel.
pub(crate) struct Memory {
    /// The frames of all guests.
    pub frames: Arc<GuestMemory>,
    /// Asynchronous I/O requests that all contexts together have room for (`fs.aio-nr`).
    pub aio_requests: Arc<AtomicU64>,
    /// Admits callers that build a text or list as a whole.
    makers: Gate,
}

impl Memory {
    /// The state of a kernel with these frames.
    pub(crate) fn new(frames: Arc<GuestMemory>) -> Self {
        Memory { frames, aio_requests: Arc::default(), makers: Gate::new(MOST_MAKERS) }
    }

    /// Admits a caller that builds a text or list as a whole before it is charged. If memory is limited, few may do so
    /// at a time.
    ///
    /// # Errors
    /// `EINTR` if the caller is killed while it waits.
    pub(crate) fn admit_maker(&self) -> Result<Option<Inside<'_>>, Errno> {
        self.frames.is_limited().then(|| self.makers.enter()).transpose()
    }
}
