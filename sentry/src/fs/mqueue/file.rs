//! Open message queues.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;

use super::queue::Queue;
use crate::slices::copy_fitting;
use crate::task::current;
use crate::vfs::{File, Inode};
use crate::wait::WaitQueue;

/// An open queue. Reading the file returns the queue's state as text.
pub(crate) struct MqFile {
    inode: Arc<dyn Inode>,
    queue: Arc<Queue>,
}

impl MqFile {
    pub(super) fn new(inode: Arc<dyn Inode>, queue: Arc<Queue>) -> Self {
        MqFile { inode, queue }
    }

    /// The queue.
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl File for MqFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let text = self.queue.text();
        let rest = usize::try_from(offset).ok().and_then(|at| text.as_bytes().get(at..)).unwrap_or_default();
        Ok(copy_fitting(rest, buf))
    }

    fn poll(&self) -> PollEvents {
        self.queue.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.queue.changed())
    }

    /// Closing any descriptor of the queue removes the process's registration.
    fn flush(&self) -> Result<(), Errno> {
        if let Some(task) = current() {
            self.queue.unregister(task.group());
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
