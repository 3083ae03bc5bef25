//! Who calls, as files see it.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::credentials::Credentials;
use crate::kernel::Kernel;
use crate::mm::MemoryManager;
use crate::sync::assert_none_held;
use crate::vfs::FsContext;
use crate::wait::{WaitEnd, WaitQueue};

/// The task that calls: as much of it as what a file does may depend on. It is passed as a reference to the task's context,
/// so that nothing is copied for a call that asks for nothing. What only tasks have, such as a session, files above tasks
/// take from [`TaskContext::of`](crate::task::TaskContext::of).
pub trait Caller: Any {
    /// The kernel it runs on.
    fn kernel(&self) -> &Arc<Kernel>;

    /// As whom it acts.
    fn credentials(&self) -> Arc<Credentials>;

    /// Where its paths start, and its file mode creation mask.
    fn fs(&self) -> Arc<FsContext>;

    /// Its memory.
    fn mm(&self) -> &Arc<MemoryManager>;

    /// Sleeps until `ready` says so. It is asked first, and again whenever one of the queues notifies one of its events; a
    /// pending signal, stop or exit ends the wait.
    ///
    /// # Errors
    /// Why it ended otherwise.
    fn wait(
        &self,
        queues: &[(&WaitQueue, PollEvents)],
        deadline: Option<Instant>,
        ready: &mut dyn FnMut() -> bool,
    ) -> Result<(), WaitEnd>;
}

impl dyn Caller {
    /// Reads a structure from the caller's memory.
    ///
    /// # Errors
    /// `EFAULT` if any of it cannot be read.
    pub fn read_object<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        assert_none_held();
        self.mm().read_object(address)
    }

    /// Writes a structure to the caller's memory.
    ///
    /// # Errors
    /// `EFAULT` if any of it cannot be written.
    pub fn write_object<T: IntoBytes + Immutable>(&self, address: u64, object: &T) -> Result<(), Errno> {
        assert_none_held();
        self.mm().write(address, object.as_bytes())
    }
}
