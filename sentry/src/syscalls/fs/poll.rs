//! poll(2) and ppoll(2).

use std::sync::Arc;
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::poll::{PollEvents, PollFd};
use amber_abi::signal::{SIGSET_SIZE, SignalSet};
use amber_abi::time::Timespec;

use crate::error::{Restart, Resume, SysError, SysResult};
use crate::syscalls::args::{In, Pollfds};
use crate::syscalls::fs::support::descriptor_limit;
use crate::syscalls::time::timeout::{Remaining, Timeout};
use crate::task::TaskContext;
use crate::time::clock::{self, deadline_of};
use crate::vfs::FileDescription;
use crate::wait::WaitEnd;

/// One entry of the guest's array.
struct Watched {
    description: Option<Arc<FileDescription>>,
    wanted: PollEvents,
    /// `revents` before and after.
    old: u16,
    new: PollEvents,
}

impl Watched {
    fn look(&mut self) {
        if let Some(description) = &self.description {
            self.new = description.file().poll() & self.wanted;
        }
    }
}

/// When a timeout in milliseconds ends, in nanoseconds of CLOCK_MONOTONIC; none for a negative one, which never does.
pub fn milliseconds(timeout: i32) -> Option<u64> {
    u64::try_from(timeout).ok().map(|ms| clock::monotonic().saturating_add(ms * 1_000_000))
}

/// Sets the signal mask a call asks for while it waits, if it does.
///
/// # Errors
/// `EINVAL` for a size that is not the kernel's; `EFAULT`.
pub fn mask_for_call(ctx: &mut TaskContext, mask: In<SignalSet>, size: usize) -> Result<(), Errno> {
    if mask.is_null() {
        return Ok(());
    }
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let mask = mask.read(ctx)?;
    ctx.set_temporary_mask(mask);
    Ok(())
}

/// poll(2).
pub fn poll(ctx: &mut TaskContext, fds: Pollfds, count: u32, timeout: i32) -> SysResult {
    poll_until(ctx, fds.0, count, milliseconds(timeout))
}

/// Goes on with a poll(2) that a signal interrupted.
pub fn resume(ctx: &mut TaskContext, fds: u64, count: u32, until: Option<u64>) -> SysResult {
    poll_until(ctx, fds, count, until)
}

fn poll_until(ctx: &mut TaskContext, fds: u64, count: u32, until: Option<u64>) -> SysResult {
    match wait_for_events(ctx, fds, count, until.and_then(deadline_of)) {
        Err(SysError::Restart(_)) => Err(Restart::Resume(Resume::Poll { fds, count, until }).into()),
        result => result,
    }
}

/// ppoll(2).
pub fn ppoll(
    ctx: &mut TaskContext,
    fds: Pollfds,
    count: u32,
    timeout: In<Timespec>,
    mask: In<SignalSet>,
    mask_size: usize,
) -> SysResult {
    let timeout = Timeout::read_timespec(ctx, timeout.0)?;
    mask_for_call(ctx, mask, mask_size)?;
    let result = wait_for_events(ctx, fds.0, count, timeout.deadline());
    timeout.finish(ctx, Remaining::Timespec, result)
}

/// The common part: returns how many entries have events.
fn wait_for_events(ctx: &TaskContext, fds: u64, count: u32, deadline: Option<Instant>) -> SysResult {
    if u64::from(count) > descriptor_limit(ctx) {
        return Err(Errno::EINVAL.into());
    }
    let files = ctx.files();
    let mut watched: Vec<Watched> = Vec::with_capacity(count as usize);
    for entry in ctx.read_array::<PollFd>(fds, count as usize)? {
        let always = PollEvents::POLLERR | PollEvents::POLLHUP;
        let wanted = PollEvents::from_bits_retain(u32::from(entry.events)) | always;
        let description = files.get(entry.fd).ok();
        let bad = entry.fd >= 0 && description.is_none();
        let new = if bad { PollEvents::POLLNVAL } else { PollEvents::empty() };
        watched.push(Watched { description, wanted, old: entry.revents, new });
    }
    let descriptions: Vec<_> = watched.iter().map(|w| (w.description.clone(), w.wanted)).collect();
    let queues: Vec<_> = descriptions
        .iter()
        .filter_map(|(description, wanted)| Some((description.as_ref()?.file().wait_queue()?, *wanted)))
        .collect();
    let result = ctx.wait(&queues, deadline, || {
        watched.iter_mut().for_each(Watched::look);
        let ready = watched.iter().filter(|w| !w.new.is_empty()).count();
        (ready > 0).then_some(ready as u64)
    });
    for (index, entry) in watched.iter().enumerate() {
        let new = entry.new.bits() as u16;
        if new != entry.old {
            // `revents` are the last two of an entry's eight bytes. The array was readable, so this does not wrap.
            ctx.write_object(fds.wrapping_add(index as u64 * 8 + 6), &new)?;
        }
    }
    match result {
        Ok(ready) => Ok(ready),
        Err(WaitEnd::TimedOut) => Ok(0),
        Err(WaitEnd::Interrupted) => Err(Restart::UnlessHandled.into()),
    }
}
