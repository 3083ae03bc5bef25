//! The memory of other processes: process_vm_readv(2), process_vm_writev(2), process_madvise(2).

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::mm::MemoryAdvice;
use amber_abi::open::Iovec;

use crate::error::SysResult;
use crate::mm::MemoryManager;
use crate::slices::{at_most_mut, filled};
use crate::syscalls::args::{Fd, IovecIn, IovecOut, PtrIn};
use crate::task::pidfd::PidFd;
use crate::task::{Task, TaskContext};

/// Maximum number of ranges in a list.
const IOV_MAX: u64 = 1024;
/// Maximum number of bytes per call.
const MOST_BYTES: u64 = 0x7fff_f000;
/// Bytes copied at a time.
const CHUNK: usize = 64 << 10;

/// The memory of a task that the caller may trace.
fn memory_of(ctx: &TaskContext, task: &Arc<Task>) -> Result<Arc<MemoryManager>, Errno> {
    if Arc::ptr_eq(task.group(), ctx.group()) {
        return Ok(ctx.mm().clone());
    }
    task.attach(ctx.task(), || task.memory())?.ok_or_else(|| Errno::ESRCH.here())
}

/// The memory of a task that the caller may inspect, for process_madvise(2).
fn advised_memory(ctx: &TaskContext, task: &Arc<Task>) -> Result<Arc<MemoryManager>, Errno> {
    if Arc::ptr_eq(task.group(), ctx.group()) {
        return Ok(ctx.mm().clone());
    }
    task.inspect(&ctx.credentials(), ctx.task(), || task.memory())?.ok_or_else(|| Errno::ESRCH.here())
}

fn ranges(ctx: &TaskContext, address: u64, count: u64) -> Result<Vec<Iovec>, Errno> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL.here());
    }
    let list: Vec<Iovec> = ctx.read_array(address, count as usize)?;
    if list.iter().any(|range| range.iov_len > i64::MAX as u64) {
        return Err(Errno::EINVAL.here());
    }
    Ok(list)
}

/// A position in a list of ranges.
struct Cursor<'a> {
    ranges: std::slice::Iter<'a, Iovec>,
    at: u64,
    left: u64,
}

impl<'a> Cursor<'a> {
    fn new(ranges: &'a [Iovec]) -> Self {
        Cursor { ranges: ranges.iter(), at: 0, left: 0 }
    }

    /// Address and length of the next non-empty range.
    fn peek(&mut self) -> Option<(u64, u64)> {
        while self.left == 0 {
            let range = self.ranges.next()?;
            (self.at, self.left) = (range.iov_base, range.iov_len);
        }
        Some((self.at, self.left))
    }

    fn advance(&mut self, bytes: u64) {
        self.at = self.at.wrapping_add(bytes);
        self.left -= bytes;
    }
}

fn transfer(ctx: &TaskContext, pid: i32, local: (u64, u64), remote: (u64, u64), flags: u64, write: bool) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let local = ranges(ctx, local.0, local.1)?;
    if local.iter().all(|range| range.iov_len == 0) {
        return Ok(0);
    }
    let remote = ranges(ctx, remote.0, remote.1)?;
    let task = ctx.kernel().processes.lock().task(pid).cloned().ok_or_else(|| Errno::ESRCH.here())?;
    let theirs = memory_of(ctx, &task)?;
    let mine = ctx.mm();
    let (mut here, mut there) = (Cursor::new(&local), Cursor::new(&remote));
    let mut buf = vec![0; CHUNK];
    let mut done = 0;
    while done < MOST_BYTES
        && let (Some((here_at, here_left)), Some((there_at, there_left))) = (here.peek(), there.peek())
    {
        let want = here_left.min(there_left).min(MOST_BYTES - done).min(CHUNK as u64) as usize;
        let part = at_most_mut(&mut buf, want);
        let (source, from) = if write { (mine, here_at) } else { (&theirs, there_at) };
        let (sink, to) = if write { (&theirs, there_at) } else { (mine, here_at) };
        let got = source.read_partial(from, part);
        let put = sink.write_partial(to, filled(part, got)?) as u64;
        done += put;
        here.advance(put);
        there.advance(put);
        if put < want as u64 || ctx.is_killed() {
            break;
        }
    }
    let wanted = remote.iter().any(|range| range.iov_len > 0);
    if done == 0 && wanted { Err(Errno::EFAULT.here().into()) } else { Ok(done) }
}

/// process_vm_readv(2).
pub(crate) fn process_vm_readv(
    ctx: &mut TaskContext,
    pid: i32,
    local: IovecOut,
    local_count: u64,
    remote: PtrIn,
    remote_count: u64,
    flags: u64,
) -> SysResult {
    transfer(ctx, pid, (local.0, local_count), (remote.0, remote_count), flags, false)
}

/// process_vm_writev(2).
pub(crate) fn process_vm_writev(
    ctx: &mut TaskContext,
    pid: i32,
    local: IovecIn,
    local_count: u64,
    remote: PtrIn,
    remote_count: u64,
    flags: u64,
) -> SysResult {
    transfer(ctx, pid, (local.0, local_count), (remote.0, remote_count), flags, true)
}

/// process_madvise(2).
pub(crate) fn process_madvise(
    ctx: &mut TaskContext,
    pidfd: Fd,
    list: PtrIn,
    count: usize,
    advice: MemoryAdvice,
    flags: u32,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let list = ranges(ctx, list.0, count as u64)?;
    let description = ctx.files().get(pidfd.0)?;
    let task = description.downcast::<PidFd>().ok_or_else(|| Errno::EBADF.here())?.task().clone();
    let memory = advised_memory(ctx, &task)?;
    let remote = !Arc::ptr_eq(&memory, ctx.mm());
    // Advice that could change data of another process is refused.
    let harmless =
        [MemoryAdvice::MADV_COLD, MemoryAdvice::MADV_PAGEOUT, MemoryAdvice::MADV_WILLNEED, MemoryAdvice::MADV_COLLAPSE];
    if remote && !harmless.contains(&advice) {
        return Err(Errno::EINVAL.here().into());
    }
    if remote && !ctx.credentials().has(Capability::CAP_SYS_NICE) {
        return Err(Errno::EPERM.here().into());
    }
    let mut done = 0;
    for range in list {
        match memory.advise(range.iov_base, range.iov_len, advice) {
            Ok(()) => done += range.iov_len,
            Err(errno) if done == 0 => return Err(errno.into()),
            Err(_) => break,
        }
        if ctx.is_killed() {
            break;
        }
    }
    Ok(done)
}
