//! signalfd(2): the pending signals of the reading task.

use std::any::Any;
use std::sync::{Arc, Weak};

use amber_abi::SignalSet;
use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::siginfo::SignalfdSiginfo;
use zerocopy::IntoBytes;

use crate::sync::{Mutex, Rank};
use crate::task::{Task, ThreadGroup, current};
use crate::vfs::{File, Inode, Vfs};
use crate::wait::{Registration, WaitQueue, Waiter};

/// A signalfd: the signals to read, and its waiters.
pub(crate) struct SignalFd {
    me: Weak<SignalFd>,
    inode: Arc<dyn Inode>,
    mask: Mutex<SignalSet>,
    /// Processes that have read or polled it, whose signals wake its waiters.
    watched: Mutex<Vec<(Weak<ThreadGroup>, Registration)>>,
    queue: WaitQueue,
}

impl SignalFd {
    /// Makes a signalfd for the signals of `mask`, without SIGKILL and SIGSTOP.
    pub(crate) fn new(vfs: &Vfs, mask: SignalSet) -> Arc<SignalFd> {
        Arc::new_cyclic(|me| SignalFd {
            me: me.clone(),
            inode: vfs.anonymous.inode(),
            mask: Mutex::new(Rank::Leaf, mask.difference(SignalSet::UNBLOCKABLE)),
            watched: Mutex::new(Rank::Buffer, Vec::new()),
            queue: WaitQueue::new(),
        })
    }

    /// Replaces the signals to read.
    pub(crate) fn set_mask(&self, mask: SignalSet) {
        *self.mask.lock() = mask.difference(SignalSet::UNBLOCKABLE);
        self.queue.notify(PollEvents::POLLIN);
    }

    /// From now on, signals of this task's process notify the waiters.
    fn watch(&self, task: &Task) {
        let group = Arc::downgrade(task.group());
        let mut watched = self.watched.lock();
        if watched.iter().any(|(other, _)| other.ptr_eq(&group)) {
            return;
        }
        watched.retain(|(other, _)| other.strong_count() > 0);
        let waiter: Weak<dyn Waiter> = self.me.clone();
        watched.push((group, task.group().signal_queued().register(waiter, PollEvents::POLLIN, 0)));
    }
}

impl Waiter for SignalFd {
    fn notify(&self, _: PollEvents, _: u64) {
        self.queue.notify(PollEvents::POLLIN);
    }
}

impl File for SignalFd {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        const SIZE: usize = size_of::<SignalfdSiginfo>();
        if buf.len() < SIZE {
            return Err(Errno::EINVAL.here());
        }
        let task = current().ok_or_else(|| Errno::EAGAIN.here())?;
        let mask = *self.mask.lock();
        let mut done = 0;
        for place in buf.chunks_exact_mut(SIZE) {
            let Some(info) = task.take_signal(mask) else { break };
            place.copy_from_slice(info.to_signalfd().as_bytes());
            done += SIZE;
        }
        if done == 0 {
            self.watch(&task);
            return Err(Errno::EAGAIN.here());
        }
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let Some(task) = current() else { return PollEvents::empty() };
        self.watch(&task);
        let mask = *self.mask.lock();
        if task.pending_signals().intersects(mask) { PollEvents::POLLIN } else { PollEvents::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn fdinfo(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.mask.lock().0)
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[signalfd]".to_owned())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
