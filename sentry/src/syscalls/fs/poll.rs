//! poll(2) and ppoll(2).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::poll::{PollEvents, PollFd};
use amber_abi::signal::{SIGSET_SIZE, SignalSet};
use amber_abi::time::Timespec;

use crate::clock::{self, deadline_of};
use crate::error::{Restart, Resume, SysError, SysResult};
use crate::syscalls::args::{In, Pollfds};
use crate::syscalls::fs::support::descriptor_limit;
use crate::syscalls::time::timeout::{Remaining, Timeout};
use crate::task::TaskContext;
use crate::vfs::FileDescription;
use crate::wait::WaitEnd;

/// Number of entries of the guest's array that are read at once.
const PIECE: usize = 512;

/// An entry of the guest's array with a descriptor.
struct Watched {
    /// None if the descriptor is not open.
    description: Option<Arc<FileDescription>>,
    index: u32,
    wanted: PollEvents,
    /// The previous and the new `revents`.
    old: u16,
    new: Cell<PollEvents>,
}

impl Watched {
    fn update(&self) {
        if let Some(description) = &self.description {
            self.new.set(description.file().poll() & self.wanted);
        }
    }
}

/// The deadline of a timeout in milliseconds, in nanoseconds of CLOCK_MONOTONIC; none for a negative one, which waits
/// forever.
pub(crate) fn milliseconds(timeout: i32) -> Option<u64> {
    u64::try_from(timeout).ok().map(|ms| clock::monotonic().saturating_add(ms * 1_000_000))
}

/// Sets the signal mask of a call for the duration of its wait, if there is one.
///
/// # Errors
/// `EINVAL` for another size than the kernel's; `EFAULT`.
pub(crate) fn mask_for_call(ctx: &mut TaskContext, mask: In<SignalSet>, size: usize) -> Result<(), Errno> {
    if mask.is_null() {
        return Ok(());
    }
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL.here());
    }
    let mask = mask.read(ctx)?;
    ctx.set_temporary_mask(mask);
    Ok(())
}

/// poll(2).
pub(crate) fn poll(ctx: &mut TaskContext, fds: Pollfds, count: u32, timeout: i32) -> SysResult {
    poll_until(ctx, fds.0, count, milliseconds(timeout))
}

/// Continues a poll(2) that a signal interrupted.
pub(crate) fn resume(ctx: &mut TaskContext, fds: u64, count: u32, until: Option<u64>) -> SysResult {
    poll_until(ctx, fds, count, until)
}

fn poll_until(ctx: &mut TaskContext, fds: u64, count: u32, until: Option<u64>) -> SysResult {
    match wait_for_events(ctx, fds, count, until.and_then(deadline_of)) {
        Err(SysError::Restart(_)) => Err(Restart::Resume(Resume::Poll { fds, count, until }).into()),
        result => result,
    }
}

/// Reads the guest's array in pieces, and calls `work` with each and the index of its first entry.
fn for_pieces(
    ctx: &TaskContext,
    fds: u64,
    count: u32,
    mut each: impl FnMut(u32, &[PollFd]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    for first in (0..count).step_by(PIECE) {
        let len = (count - first).min(PIECE as u32);
        let address = fds.checked_add(u64::from(first) * 8).ok_or_else(|| Errno::EFAULT.here())?;
        each(first, &ctx.read_array(address, len as usize)?)?;
    }
    Ok(())
}

/// Writes `revents`, the last two of an entry's eight bytes. The array was readable, so the address does not wrap.
fn write_revents(ctx: &TaskContext, fds: u64, index: u32, revents: u16) -> Result<(), Errno> {
    ctx.write_object(fds.wrapping_add(u64::from(index) * 8 + 6), &revents)
}

/// ppoll(2).
pub(crate) fn ppoll(
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

/// The common part. Returns the number of entries with events.
fn wait_for_events(ctx: &TaskContext, fds: u64, count: u32, deadline: Option<Instant>) -> SysResult {
    if u64::from(count) > descriptor_limit(ctx) {
        return Err(Errno::EINVAL.here().into());
    }
    let files = ctx.files();
    let memory = &ctx.kernel().mm.frames;
    let mut watched: Vec<Watched> = Vec::new();
    let mut clears_unused = false;
    for_pieces(ctx, fds, count, |first, piece| {
        memory.reserve(&mut watched, piece.len())?;
        for (index, entry) in (first..).zip(piece) {
            if entry.fd < 0 {
                clears_unused |= entry.revents != 0;
                continue;
            }
            let always = PollEvents::POLLERR | PollEvents::POLLHUP;
            let wanted = PollEvents::from_bits_retain(u32::from(entry.events)) | always;
            let description = files.get(entry.fd).ok();
            let new = if description.is_none() { PollEvents::POLLNVAL } else { PollEvents::empty() };
            watched.push(Watched { description, index, wanted, old: entry.revents, new: Cell::new(new) });
        }
        Ok(())
    })?;
    let mut queues = memory.list(watched.len())?;
    queues.extend(watched.iter().filter_map(|w| Some((w.description.as_ref()?.file().wait_queue()?, w.wanted))));
    let result = ctx.wait_for_many(&queues, deadline, || {
        watched.iter().for_each(Watched::update);
        let ready = watched.iter().filter(|w| !w.new.get().is_empty()).count();
        (ready > 0).then_some(ready as u64)
    })?;
    for entry in &watched {
        let new = entry.new.get().bits() as u16;
        if new != entry.old {
            write_revents(ctx, fds, entry.index, new)?;
        }
    }
    if clears_unused {
        for_pieces(ctx, fds, count, |first, piece| {
            let unused = (first..).zip(piece).filter(|(_, entry)| entry.fd < 0 && entry.revents != 0);
            unused.map(|(index, _)| index).try_for_each(|index| write_revents(ctx, fds, index, 0))
        })?;
    }
    match result {
        Ok(ready) => Ok(ready),
        Err(WaitEnd::TimedOut) => Ok(0),
        Err(WaitEnd::Interrupted) => Err(Restart::UnlessHandled.into()),
    }
}
