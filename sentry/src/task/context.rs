//! What a system call handler works with: the calling task, its registers and its guest memory.

use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_platform::{Context, Registers};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::sync::assert_none_held;
use crate::task::Task;
use crate::wait::{WaitEnd, WaitQueue, Waiter};

/// A task as its own host thread sees it: the only way to its registers and its platform context.
/// Everything else is reached through [`Task`], to which this dereferences.
pub struct TaskContext {
    task: Arc<Task>,
    /// The guest's registers, as they will be when it runs again.
    pub registers: Registers,
    /// Where the guest's code runs.
    pub platform: Box<dyn Context>,
}

impl Deref for TaskContext {
    type Target = Arc<Task>;
    fn deref(&self) -> &Arc<Task> {
        &self.task
    }
}

impl TaskContext {
    /// The context of `task`, for its own host thread.
    pub fn new(task: Arc<Task>, registers: Registers, platform: Box<dyn Context>) -> Self {
        TaskContext { task, registers, platform }
    }

    /// Reads a structure from the guest.
    ///
    /// # Errors
    /// `EFAULT` if any of it cannot be read.
    pub fn read_object<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        let mut object = T::new_zeroed();
        self.read_bytes(address, object.as_mut_bytes())?;
        Ok(object)
    }

    /// Writes a structure to the guest.
    ///
    /// # Errors
    /// `EFAULT` if any of it cannot be written.
    pub fn write_object<T: IntoBytes + Immutable>(&self, address: u64, object: &T) -> Result<(), Errno> {
        self.write_bytes(address, object.as_bytes())
    }

    /// Reads an array of `count` structures from the guest. The caller bounds `count`.
    pub fn read_array<T: FromBytes + IntoBytes>(&self, address: u64, count: usize) -> Result<Vec<T>, Errno> {
        let size = size_of::<T>();
        let mut bytes = vec![0; count.checked_mul(size).ok_or(Errno::EFAULT)?];
        self.read_bytes(address, &mut bytes)?;
        Ok(bytes.chunks_exact(size).filter_map(|c| T::read_from_bytes(c).ok()).collect())
    }

    /// Reads bytes from the guest, all or `EFAULT`.
    pub fn read_bytes(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        assert_none_held();
        self.mm().read(address, buf)
    }

    /// Writes bytes to the guest, all or `EFAULT`.
    pub fn write_bytes(&self, address: u64, buf: &[u8]) -> Result<(), Errno> {
        assert_none_held();
        self.mm().write(address, buf)
    }

    /// Reads a string that ends with a zero byte, which is not part of the result.
    ///
    /// # Errors
    /// `EFAULT` if memory ends first; `ENAMETOOLONG` if `most` bytes hold no zero.
    pub fn read_string(&self, address: u64, most: usize) -> Result<Vec<u8>, Errno> {
        assert_none_held();
        let mm = self.mm();
        let mut text = Vec::new();
        let mut chunk = [0; 256];
        while text.len() < most {
            let at = address.checked_add(text.len() as u64).ok_or(Errno::EFAULT)?;
            // Stop at the end of a chunk-aligned block, so that a string just before unmapped memory is read whole.
            let want = (256 - (at % 256) as usize).min(most - text.len());
            let got = mm.read_partial(at, &mut chunk[..want]);
            if let Some(end) = chunk[..got].iter().position(|&b| b == 0) {
                text.extend_from_slice(&chunk[..end]);
                return Ok(text);
            }
            if got < want {
                return Err(Errno::EFAULT);
            }
            text.extend_from_slice(&chunk[..got]);
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads a path: a string of at most PATH_MAX (4096) bytes with its zero.
    pub fn read_path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        self.read_string(address, 4096)
    }

    /// Sleeps until `ready` answers something. It is asked first, and again whenever one of the queues notifies one of
    /// its events; a pending signal, stop or exit ends the wait.
    ///
    /// # Errors
    /// Why it ended without an answer; a ready answer wins over both.
    pub fn wait<T>(
        &self,
        queues: &[(&WaitQueue, PollEvents)],
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitEnd> {
        assert_none_held();
        if let Some(answer) = ready() {
            return Ok(answer);
        }
        let parker: Arc<dyn Waiter> = self.parker().clone();
        let waiter: Weak<dyn Waiter> = Arc::downgrade(&parker);
        let _registrations: Vec<_> =
            queues.iter().map(|(queue, events)| queue.register(waiter.clone(), *events, 0)).collect();
        loop {
            // Asked after registering, so that nothing between the first look and now is missed.
            if let Some(answer) = ready() {
                return Ok(answer);
            }
            if self.is_interrupted() {
                return Err(WaitEnd::Interrupted);
            }
            if !self.parker().park(deadline) {
                return ready().ok_or(WaitEnd::TimedOut);
            }
        }
    }
}
