//! eventfd(2): a counter as a file.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;

use crate::sync::{Mutex, Rank};
use crate::vfs::{File, Inode, Vfs};
use crate::wait::{READABLE, WRITABLE, WaitQueue};

/// An eventfd.
pub(crate) struct EventFd {
    inode: Arc<dyn Inode>,
    count: Mutex<u64>,
    /// Whether a read decrements the counter by one (`EFD_SEMAPHORE`).
    semaphore: bool,
    id: u32,
    queue: WaitQueue,
}

impl EventFd {
    /// Makes an eventfd with the ID `id` in `/proc/PID/fdinfo`.
    pub(crate) fn new(vfs: &Vfs, id: u32, count: u32, semaphore: bool) -> Arc<EventFd> {
        let (inode, count) = (vfs.anonymous.inode(), Mutex::new(Rank::Buffer, u64::from(count)));
        Arc::new(EventFd { inode, count, semaphore, id, queue: WaitQueue::new() })
    }
}

impl File for EventFd {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        let out = buf.first_chunk_mut::<8>().ok_or_else(|| Errno::EINVAL.here())?;
        let mut count = self.count.lock();
        if *count == 0 {
            return Err(Errno::EAGAIN.here());
        }
        let taken = if self.semaphore { 1 } else { *count };
        *count -= taken;
        drop(count);
        *out = taken.to_ne_bytes();
        self.queue.notify(WRITABLE);
        Ok(8)
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        let added = u64::from_ne_bytes(buf.try_into().map_err(|_| Errno::EINVAL.here())?);
        if added == u64::MAX {
            return Err(Errno::EINVAL.here());
        }
        let mut count = self.count.lock();
        // The maximum of the counter is `u64::MAX - 1`.
        *count = count.checked_add(added).filter(|&sum| sum < u64::MAX).ok_or_else(|| Errno::EAGAIN.here())?;
        drop(count);
        self.queue.notify(READABLE);
        Ok(8)
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        Ok((0, self.write_at(buf, 0)?))
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let count = *self.count.lock();
        let mut events = PollEvents::empty();
        events.set(PollEvents::POLLIN, count > 0);
        events.set(PollEvents::POLLOUT, count < u64::MAX - 1);
        events
    }

    fn is_read_in_turn(&self) -> bool {
        true
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn fdinfo(&self) -> String {
        let count = *self.count.lock();
        let (id, semaphore) = (self.id, u8::from(self.semaphore));
        format!("eventfd-count: {count:16x}\neventfd-id: {id}\neventfd-semaphore: {semaphore}\n")
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[eventfd]".to_owned())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_limits() {
        let event = EventFd::new(&Vfs::new(), 0, 3, false);
        let mut buf = [0; 8];
        assert_eq!(event.read_at(&mut buf, 0), Ok(8));
        assert_eq!(u64::from_ne_bytes(buf), 3);
        assert_eq!(event.read_at(&mut buf, 0), Err(Errno::EAGAIN));
        assert_eq!(event.write_at(&u64::MAX.to_ne_bytes(), 0), Err(Errno::EINVAL));
        assert_eq!(event.write_at(&(u64::MAX - 1).to_ne_bytes(), 0), Ok(8));
        assert_eq!(event.write_at(&1u64.to_ne_bytes(), 0), Err(Errno::EAGAIN));
        assert_eq!(event.poll(), PollEvents::POLLIN);
        assert_eq!(event.read_at(&mut buf[..7], 0), Err(Errno::EINVAL));
    }

    #[test]
    fn a_semaphore_gives_one() {
        let event = EventFd::new(&Vfs::new(), 0, 2, true);
        let mut buf = [0; 8];
        assert_eq!(event.read_at(&mut buf, 0), Ok(8));
        assert_eq!(u64::from_ne_bytes(buf), 1);
        assert_eq!(event.poll(), PollEvents::POLLIN | PollEvents::POLLOUT);
    }
}
