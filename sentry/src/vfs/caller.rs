//! The calling task, as files see it.

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

/// The calling task, reduced to what operations on files depend on. It is passed as a reference to the task's context,
/// so that a call copies only what it uses. Files above tasks get the rest, such as the session, from
/// [`TaskContext::of`](crate::task::TaskContext::of).
pub(crate) trait Caller: Any {
    /// The kernel the task belongs to.
    fn kernel(&self) -> &Arc<Kernel>;

    /// The task's credentials.
    fn credentials(&self) -> Arc<Credentials>;

    /// The task's root and working directories and umask.
    fn fs(&self) -> Arc<FsContext>;

    /// The task's memory.
    fn mm(&self) -> &Arc<MemoryManager>;

    /// Sleeps until `ready` returns a value. It is called first, and again whenever one of the queues notifies one of
    /// its events. A pending signal, stop or exit ends the wait.
    ///
    /// # Errors
    /// The reason why the wait ended without a value.
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
    pub(crate) fn read_object<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        assert_none_held();
        self.mm().read_object(address)
    }

    /// Writes a structure to the caller's memory.
    ///
    /// # Errors
    /// `EFAULT` if any of it cannot be written.
    pub(crate) fn write_object<T: IntoBytes + Immutable>(&self, address: u64, object: &T) -> Result<(), Errno> {
        assert_none_held();
        self.mm().write(address, object.as_bytes())
    }
}
