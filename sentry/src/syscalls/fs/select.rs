//! select(2) and pselect6(2).

use std::sync::Arc;
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::time::{Timespec, Timeval};
use zerocopy::IntoBytes;

use crate::error::{Restart, SysError, SysResult};
use crate::syscalls::args::{FdSet, In, PtrIn};
use crate::syscalls::fs::poll::mask_for_call;
use crate::syscalls::time::timeout::{Remaining, Timeout};
use crate::task::TaskContext;
use crate::vfs::FileDescription;
use crate::wait::WaitEnd;

/// The events of each of the three sets.
const READY: [PollEvents; 3] = [
    PollEvents::POLLIN
        .union(PollEvents::POLLRDNORM)
        .union(PollEvents::POLLRDBAND)
        .union(PollEvents::POLLHUP)
        .union(PollEvents::POLLERR),
    PollEvents::POLLOUT.union(PollEvents::POLLWRNORM).union(PollEvents::POLLWRBAND).union(PollEvents::POLLERR),
    PollEvents::POLLPRI,
];

/// The bits of an `fd_set` that the call uses.
#[derive(Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn contains(&self, fd: usize) -> bool {
        self.0.get(fd / 64).is_some_and(|word| word & (1 << (fd % 64)) != 0)
    }

    fn insert(&mut self, fd: usize) {
        if let Some(word) = self.0.get_mut(fd / 64) {
            *word |= 1 << (fd % 64);
        }
    }
}

/// A descriptor in at least one set.
struct Watched {
    fd: usize,
    description: Arc<FileDescription>,
    /// The sets it is in.
    sets: [bool; 3],
}

/// select(2).
pub(crate) fn select(
    ctx: &mut TaskContext,
    count: i32,
    readable: FdSet,
    writable: FdSet,
    exceptional: FdSet,
    timeout: In<Timeval>,
) -> SysResult {
    let timeout = Timeout::read_timeval(ctx, timeout.0)?;
    let result = wait_for_sets(ctx, count, [readable.0, writable.0, exceptional.0], timeout.deadline());
    timeout.finish(ctx, Remaining::Timeval, result)
}

/// pselect6(2). The last argument points to the address and the size of a signal mask.
pub(crate) fn pselect6(
    ctx: &mut TaskContext,
    count: i32,
    readable: FdSet,
    writable: FdSet,
    exceptional: FdSet,
    timeout: In<Timespec>,
    mask: PtrIn,
) -> SysResult {
    let [mask, mask_size] = if mask.is_null() { [0; 2] } else { ctx.read_object(mask.0)? };
    let timeout = Timeout::read_timespec(ctx, timeout.0)?;
    mask_for_call(ctx, In::new(mask), mask_size as usize)?;
    let result = wait_for_sets(ctx, count, [readable.0, writable.0, exceptional.0], timeout.deadline());
    timeout.finish(ctx, Remaining::Timespec, result)
}

/// The common part. Returns the number of bits set in the results.
fn wait_for_sets(ctx: &TaskContext, count: i32, addresses: [u64; 3], deadline: Option<Instant>) -> SysResult {
    let files = ctx.files();
    // Descriptors beyond the table are neither read nor written.
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL.here())?.min(files.size());
    let words = count.div_ceil(64);
    let mut wanted: [Bits; 3] = Default::default();
    for (set, address) in wanted.iter_mut().zip(addresses) {
        if address != 0 {
            set.0 = ctx.read_array(address, words)?;
        }
    }
    let memory = &ctx.kernel().mm.frames;
    let mut watched = Vec::new();
    for fd in 0..count {
        let sets = wanted.each_ref().map(|set| set.contains(fd));
        if sets.contains(&true) {
            memory.reserve(&mut watched, 1)?;
            watched.push(Watched { fd, description: files.get(fd as i32)?, sets });
        }
    }
    let mut queues = memory.list(watched.len())?;
    queues.extend(watched.iter().filter_map(|w: &Watched| Some((w.description.file().wait_queue()?, w.events()))));
    let mut found: [Bits; 3] = Default::default();
    for bits in &mut found {
        bits.0 = memory.filled(words, 0)?;
    }
    let result = ctx.wait_for_many(&queues, deadline, || {
        found.iter_mut().for_each(|bits| bits.0.fill(0));
        let mut bits = 0;
        for entry in &watched {
            let events = entry.description.file().poll();
            for ((is_in, ready), found) in entry.sets.into_iter().zip(READY).zip(&mut found) {
                if is_in && events.intersects(ready) {
                    found.insert(entry.fd);
                    bits += 1;
                }
            }
        }
        (bits > 0).then_some(bits)
    })?;
    let bits = match result {
        Ok(bits) => bits,
        Err(WaitEnd::TimedOut) => 0,
        Err(WaitEnd::Interrupted) => return Err(SysError::Restart(Restart::UnlessHandled)),
    };
    for (set, address) in found.iter().zip(addresses) {
        if address != 0 {
            ctx.write_bytes(address, set.0.as_slice().as_bytes())?;
        }
    }
    Ok(bits)
}

impl Watched {
    fn events(&self) -> PollEvents {
        let ready = self.sets.into_iter().zip(READY).filter(|(is_in, _)| *is_in);
        ready.fold(PollEvents::empty(), |events, (_, ready)| events | ready)
    }
}
