//! The timeouts of the calls that wait for descriptors: read once, and what remains written back.

use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::time::{Timespec, Timeval};

use crate::clock::{self, deadline_of};
use crate::error::{Restart, SysError, SysResult};
use crate::task::TaskContext;

/// In which form the guest has its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// `struct timespec`.
    Timespec,
    /// `struct timeval`.
    Timeval,
}

/// A timeout in guest memory, relative to the start of the call.
pub struct Timeout {
    address: u64,
    /// Its end in nanoseconds of CLOCK_MONOTONIC; none to wait for ever.
    until: Option<u64>,
    /// It was zero: the call does not wait, and writes nothing back.
    is_zero: bool,
}

impl Timeout {
    fn new(address: u64, time: Timespec) -> Result<Timeout, Errno> {
        if !time.is_valid() {
            return Err(Errno::EINVAL.here());
        }
        let nanos = time.to_nanos().unsigned_abs();
        Ok(Timeout { address, until: Some(clock::monotonic().saturating_add(nanos)), is_zero: nanos == 0 })
    }

    /// Reads a `struct timespec`; NULL means for ever.
    ///
    /// # Errors
    /// `EFAULT`; `EINVAL` if it is negative or has a second's worth of nanoseconds.
    pub fn read_timespec(ctx: &TaskContext, address: u64) -> Result<Timeout, Errno> {
        if address == 0 {
            return Ok(Timeout { address, until: None, is_zero: false });
        }
        Self::new(address, ctx.read_object(address)?)
    }

    /// Reads a `struct timeval`, which may have more than a second's worth of microseconds; NULL means for ever.
    ///
    /// # Errors
    /// `EFAULT`; `EINVAL` if it is negative.
    pub fn read_timeval(ctx: &TaskContext, address: u64) -> Result<Timeout, Errno> {
        if address == 0 {
            return Ok(Timeout { address, until: None, is_zero: false });
        }
        let time: Timeval = ctx.read_object(address)?;
        let tv_sec = time.tv_sec.saturating_add(time.tv_usec / 1_000_000);
        Self::new(address, Timespec { tv_sec, tv_nsec: time.tv_usec % 1_000_000 * 1000 })
    }

    /// When the wait ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.until.and_then(deadline_of)
    }

    /// Writes back what remains, and returns the call's result. Where that cannot be written, the call cannot be
    /// restarted either.
    pub fn finish(&self, ctx: &TaskContext, form: Remaining, result: SysResult) -> SysResult {
        let Some(until) = self.until.filter(|_| !self.is_zero) else {
            return result;
        };
        let nanos = i64::try_from(until.saturating_sub(clock::monotonic())).unwrap_or(i64::MAX);
        let written = match form {
            Remaining::Timespec => ctx.write_object(self.address, &Timespec::from_nanos(nanos)),
            Remaining::Timeval => ctx.write_object(self.address, &Timeval::from_nanos(nanos)),
        };
        match result {
            Err(SysError::Restart(Restart::UnlessHandled)) if written.is_err() => Err(Errno::EINTR.here().into()),
            result => result,
        }
    }
}
