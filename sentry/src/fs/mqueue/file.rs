//! Open message queues.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;

use super::queue::Queue;
use crate::vfs::{File, Inode};
use crate::wait::WaitQueue;

/// An open queue; reading it as a file tells of its state.
pub struct MqFile {
    inode: Arc<dyn Inode>,
    queue: Arc<Queue>,
    id: u64,
}

impl MqFile {
    pub(super) fn new(inode: Arc<dyn Inode>, queue: Arc<Queue>, id: u64) -> Self {
        MqFile { inode, queue, id }
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// A number no other open queue ever had.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl File for MqFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let text = self.queue.text();
        let rest = usize::try_from(offset).ok().and_then(|at| text.as_bytes().get(at..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn poll(&self) -> PollEvents {
        self.queue.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.queue.changed())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for MqFile {
    fn drop(&mut self) {
        self.queue.file_closed(self.id);
    }
}
