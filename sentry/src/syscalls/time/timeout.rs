//! Timeouts of the calls that wait for descriptors, with the write-back of the remaining time.

use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::time::{Timespec, Timeval};

use crate::clock::{self, deadline_of};
use crate::error::{Restart, SysError, SysResult};
use crate::task::TaskContext;

/// The format of the guest's timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// `struct timespec`.
    Timespec,
    /// `struct timeval`.
    Timeval,
}

/// A timeout in guest memory, relative to the start of the call.
pub(crate) struct Timeout {
    address: u64,
    /// The deadline in nanoseconds of CLOCK_MONOTONIC; none to wait forever.
    until: Option<u64>,
    /// A zero timeout: the call does not wait, and writes nothing back.
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

    /// Reads a `struct timespec`; NULL means forever.
    ///
    /// # Errors
    /// `EFAULT`; `EINVAL` if it is negative or has 10⁹ nanoseconds or more.
    pub(crate) fn read_timespec(ctx: &TaskContext, address: u64) -> Result<Timeout, Errno> {
        if address == 0 {
            return Ok(Timeout { address, until: None, is_zero: false });
        }
        Self::new(address, ctx.read_object(address)?)
    }

    /// Reads a `struct timeval`, whose microseconds may exceed a second; NULL means forever.
    ///
    /// # Errors
    /// `EFAULT`; `EINVAL` if it is negative.
    pub(crate) fn read_timeval(ctx: &TaskContext, address: u64) -> Result<Timeout, Errno> {
        if address == 0 {
            return Ok(Timeout { address, until: None, is_zero: false });
        }
        let time: Timeval = ctx.read_object(address)?;
        let tv_sec = time.tv_sec.saturating_add(time.tv_usec / 1_000_000);
        Self::new(address, Timespec { tv_sec, tv_nsec: time.tv_usec % 1_000_000 * 1000 })
    }

    /// The deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until.and_then(deadline_of)
    }

    /// Writes the remaining time back, and returns the call's result. If the write fails, the call is not restarted
    /// either.
    pub(crate) fn finish(&self, ctx: &TaskContext, form: Remaining, result: SysResult) -> SysResult {
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
