//! Limits on the number and size of objects: `kernel.sem`, `kernel.msg*` and `kernel.shm*`.

use std::sync::atomic::{AtomicU64, Ordering};

use amber_abi::errno::Errno;
use amber_abi::ipc::{MSGMAX, MSGMNB, MSGMNI, SEMMNI, SEMMNS, SEMMSL, SEMOPM, SHMALL, SHMMAX, SHMMNI};

/// Maximum number of objects of a kind, bounded by the bits of an ID.
const MOST_OBJECTS: u64 = 32768;
const INT: u64 = i32::MAX as u64;

/// A limit, shown and changed in `/proc/sys`.
#[derive(Debug)]
pub(crate) struct Limit {
    value: AtomicU64,
    most: u64,
}

impl Limit {
    fn new(value: u64, most: u64) -> Self {
        Limit { value: AtomicU64::new(value), most }
    }

    fn int(value: i32, most: u64) -> Self {
        Limit::new(u64::from(value.unsigned_abs()), most)
    }

    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// The value of a limit of 32 bits.
    pub(crate) fn int_value(&self) -> i32 {
        i32::try_from(self.get()).unwrap_or(i32::MAX)
    }

    /// Sets the value.
    ///
    /// # Errors
    /// `EINVAL` if it is too large.
    pub(crate) fn set(&self, value: u64) -> Result<(), Errno> {
        if value > self.most {
            return Err(Errno::EINVAL.here());
        }
        self.value.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// All limits.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Bytes in a message.
    pub msgmax: Limit,
    /// Bytes in a new message queue.
    pub msgmnb: Limit,
    /// Message queues.
    pub msgmni: Limit,
    /// Semaphores in a set.
    pub semmsl: Limit,
    /// Semaphores in all sets.
    pub semmns: Limit,
    /// Operations in a semop(2).
    pub semopm: Limit,
    /// Semaphore sets.
    pub semmni: Limit,
    /// Bytes in a segment.
    pub shmmax: Limit,
    /// Pages in all segments.
    pub shmall: Limit,
    /// Segments.
    pub shmmni: Limit,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            msgmax: Limit::int(MSGMAX, INT),
            msgmnb: Limit::int(MSGMNB, INT),
            msgmni: Limit::int(MSGMNI, MOST_OBJECTS),
            semmsl: Limit::int(SEMMSL, INT),
            semmns: Limit::int(SEMMNS, INT),
            semopm: Limit::int(SEMOPM, INT),
            semmni: Limit::int(SEMMNI, MOST_OBJECTS),
            shmmax: Limit::new(SHMMAX, u64::MAX),
            shmall: Limit::new(SHMALL, u64::MAX),
            shmmni: Limit::int(SHMMNI, MOST_OBJECTS),
        }
    }
}

impl Limits {
    /// The four values of `kernel.sem`, in order.
    pub(crate) fn of_semaphores(&self) -> [&Limit; 4] {
        [&self.semmsl, &self.semmns, &self.semopm, &self.semmni]
    }
}
