//! The calling task as files see it.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;

use crate::credentials::Credentials;
use crate::kernel::Kernel;
use crate::mm::MemoryManager;
use crate::task::TaskContext;
use crate::vfs::{Caller, FsContext};
use crate::wait::{WaitEnd, WaitQueue};

impl Caller for TaskContext {
    fn kernel(&self) -> &Arc<Kernel> {
        self.task().kernel()
    }

    fn credentials(&self) -> Arc<Credentials> {
        self.task().credentials()
    }

    fn fs(&self) -> Arc<FsContext> {
        self.task().fs()
    }

    fn mm(&self) -> &Arc<MemoryManager> {
        TaskContext::mm(self)
    }

    fn wait(
        &self,
        queues: &[(&WaitQueue, PollEvents)],
        deadline: Option<Instant>,
        ready: &mut dyn FnMut() -> bool,
    ) -> Result<(), WaitEnd> {
        TaskContext::wait(self, queues, deadline, || ready().then_some(()))
    }
}

impl TaskContext {
    /// The task of a caller, for files that need more than [`Caller`] offers: those of `/proc`, and terminals.
    ///
    /// # Errors
    /// `ESRCH` if the caller is not a task.
    pub(crate) fn of(caller: &dyn Caller) -> Result<&Self, Errno> {
        let caller: &dyn Any = caller;
        caller.downcast_ref().ok_or_else(|| Errno::ESRCH.here())
    }
}
