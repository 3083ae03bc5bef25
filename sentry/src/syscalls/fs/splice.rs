//! splice(2), tee(2) and vmsplice(2): transfers from and to pipes.

use amber_abi::Signal;
use amber_abi::errno::Errno;
use amber_abi::open::{MAX_RW_COUNT, OpenFlags, SpliceFlags};
use amber_abi::poll::PollEvents;
use amber_abi::stat::FileType;

use crate::error::{Restart, SysError, SysResult};
use crate::fs::pipe::{PAGE, Pipe, PipeEnd, Slot};
use crate::slices::{at_most, at_most_mut, filled};
use crate::syscalls::args::{Fd, IovecIn, PtrOut};
use crate::syscalls::fs::buffers::{Memory, with_bounce};
use crate::syscalls::fs::content::Place;
use crate::syscalls::fs::support::{room_at, send_signal};
use crate::task::TaskContext;
use crate::vfs::notify::{self, mask};
use crate::vfs::{File, FileDescription, access};
use crate::wait::{READABLE, WRITABLE, WaitQueue};

/// Maximum number of bytes moved between pipes at a time, with both locked. Larger requests are truncated.
const MOST_BETWEEN_PIPES: usize = 1 << 20;

/// splice(2).
pub(crate) fn splice(
    ctx: &mut TaskContext,
    input: Fd,
    offset_in: PtrOut,
    out: Fd,
    offset_out: PtrOut,
    len: usize,
    flags: SpliceFlags,
) -> SysResult {
    if len == 0 {
        return Ok(0);
    }
    check_flags(flags)?;
    let (from, to) = (ctx.files().get(input.0)?, ctx.files().get(out.0)?);
    let (source, sink) = (from.downcast::<PipeEnd>(), to.downcast::<PipeEnd>());
    if (source.is_some() && !offset_in.is_null()) || (sink.is_some() && !offset_out.is_null()) {
        return Err(Errno::ESPIPE.here().into());
    }
    let (in_place, out_place) = (Place::new(ctx, &from, offset_in)?, Place::new(ctx, &to, offset_out)?);
    if !from.is_readable() || !to.is_writable() {
        return Err(Errno::EBADF.here().into());
    }
    let len = len.min(MAX_RW_COUNT);
    let nonblocking = flags.contains(SpliceFlags::SPLICE_F_NONBLOCK);
    match (source, sink) {
        (Some(source), Some(sink)) => {
            let may_block = !(nonblocking || from.is_nonblocking() || to.is_nonblocking());
            between_pipes(ctx, source.pipe(), sink.pipe(), may_block, |source, sink| {
                let mut moved = 0;
                let len = len.min(MOST_BETWEEN_PIPES);
                while moved < len && sink.room() > 0 {
                    let Some(slot) = source.split_front(len - moved) else { break };
                    moved += slot.bytes().len();
                    sink.push(slot);
                }
                moved
            })
        }
        (Some(source), None) => {
            if !offset_out.is_null() && !to.file().is_seekable() || to.flags().contains(OpenFlags::O_APPEND) {
                return Err(Errno::EINVAL.here().into());
            }
            let may_block = !(nonblocking || from.is_nonblocking());
            let done = from_pipe(ctx, source.pipe(), &to, out_place.at(), len, may_block)?;
            out_place.finish(ctx, &to, done)?;
            Ok(done)
        }
        (None, Some(sink)) => {
            if !offset_in.is_null() && !from.file().is_seekable() || from.kind() == FileType::Directory {
                return Err(Errno::EINVAL.here().into());
            }
            let may_block = !(nonblocking || to.is_nonblocking());
            let done = to_pipe(ctx, &from, in_place.at(), sink.pipe(), len, may_block, nonblocking)?;
            in_place.finish(ctx, &from, done)?;
            Ok(done)
        }
        (None, None) => Err(Errno::EINVAL.here().into()),
    }
}

/// tee(2).
pub(crate) fn tee(ctx: &mut TaskContext, input: Fd, out: Fd, len: usize, flags: SpliceFlags) -> SysResult {
    check_flags(flags)?;
    if len == 0 {
        return Ok(0);
    }
    let (from, to) = (ctx.files().get(input.0)?, ctx.files().get(out.0)?);
    if !from.is_readable() || !to.is_writable() {
        return Err(Errno::EBADF.here().into());
    }
    let (Some(source), Some(sink)) = (from.downcast::<PipeEnd>(), to.downcast::<PipeEnd>()) else {
        return Err(Errno::EINVAL.here().into());
    };
    let may_block = !(flags.contains(SpliceFlags::SPLICE_F_NONBLOCK) || from.is_nonblocking() || to.is_nonblocking());
    between_pipes(ctx, source.pipe(), sink.pipe(), may_block, |source, sink| {
        let mut copied = 0;
        let len = len.min(MOST_BETWEEN_PIPES);
        for slot in source.slots() {
            if copied == len || sink.room() == 0 {
                break;
            }
            let copy = slot.copy(len - copied);
            copied += copy.bytes().len();
            sink.push(copy);
        }
        copied
    })
}

/// vmsplice(2): from memory to the write end of a pipe, or from its read end to memory.
pub(crate) fn vmsplice(ctx: &mut TaskContext, fd: Fd, iov: IovecIn, count: usize, flags: SpliceFlags) -> SysResult {
    check_flags(flags)?;
    let description = ctx.files().get(fd.0)?;
    let mut memory = Memory::vector(ctx, iov.0, count)?;
    if memory.left() == 0 {
        return Ok(0);
    }
    let end = description.downcast::<PipeEnd>().ok_or_else(|| Errno::EBADF.here())?;
    let may_block = !flags.contains(SpliceFlags::SPLICE_F_NONBLOCK);
    if description.is_writable() {
        let room = wait_for_room(ctx, end.pipe(), may_block)?;
        fill_pipe(ctx, &mut memory, end.pipe(), room * PAGE)
    } else {
        if !wait_for_bytes(ctx, end.pipe(), may_block)? {
            return Ok(0);
        }
        with_bounce(ctx, memory.left() as usize, |buffer| {
            let got = match end.read_at(buffer, 0) {
                Ok(got) => got,
                Err(errno) => return Err(errno.into()),
            };
            match memory.put(ctx, filled(buffer, got)?) {
                0 if got > 0 => Err(Errno::EFAULT.here().into()),
                put => Ok(put as u64),
            }
        })
    }
}

/// Copies memory to a pipe with this much room, in full slots except for the last.
fn fill_pipe(ctx: &TaskContext, memory: &mut Memory, pipe: &Pipe, room: usize) -> SysResult {
    let len = room.min(memory.left() as usize);
    with_bounce(ctx, len, |buffer| {
        let mut done = 0;
        while done < len {
            let want = (len - done).min(buffer.len());
            let got = memory.peek(ctx, at_most_mut(buffer, want));
            match push(pipe, filled(buffer, got)?) {
                _ if got == 0 && done == 0 => return Err(Errno::EFAULT.here().into()),
                Err(errno) if done == 0 => return Err(errno.into()),
                Err(_) => break,
                Ok(pushed) => done += pushed,
            }
            memory.use_up(got);
            if got < want || ctx.is_killed() {
                break;
            }
        }
        Ok(done as u64)
    })
}

fn check_flags(flags: SpliceFlags) -> Result<(), Errno> {
    if SpliceFlags::all().contains(flags) { Ok(()) } else { Err(Errno::EINVAL.here()) }
}

/// Waits until `ready` returns a result, unless the caller is non-blocking.
fn wait_on<T>(
    ctx: &TaskContext,
    queue: Option<&WaitQueue>,
    events: PollEvents,
    may_block: bool,
    mut ready: impl FnMut() -> Option<Result<T, Errno>>,
) -> Result<T, SysError> {
    if let Some(answer) = ready() {
        return Ok(answer?);
    }
    let Some(queue) = queue.filter(|_| may_block) else {
        return Err(Errno::EAGAIN.here().into());
    };
    Ok(ctx.wait(&[(queue, events)], None, ready).map_err(|_| Restart::ByFlag)??)
}

/// Waits until a pipe has data; returns false at its end.
fn wait_for_bytes(ctx: &TaskContext, pipe: &Pipe, may_block: bool) -> Result<bool, SysError> {
    wait_on(ctx, Some(pipe.queue()), READABLE, may_block, || match pipe.is_empty_and_over() {
        (false, _) => Some(Ok(true)),
        (true, true) => Some(Ok(false)),
        (true, false) => None,
    })
}

/// Waits until a pipe has free slots, and returns their number. A pipe without readers also raises SIGPIPE.
fn wait_for_room(ctx: &TaskContext, pipe: &Pipe, may_block: bool) -> Result<usize, SysError> {
    let room = wait_on(ctx, Some(pipe.queue()), WRITABLE, may_block, || match pipe.room() {
        Ok(0) => None,
        answer => Some(answer),
    });
    note_broken(ctx, room)
}

fn note_broken<T>(ctx: &TaskContext, result: Result<T, SysError>) -> Result<T, SysError> {
    if matches!(result, Err(SysError::Errno(Errno::EPIPE))) {
        send_signal(ctx, Signal::SIGPIPE);
    }
    result
}

/// Appends bytes to a pipe that had room for them.
fn push(pipe: &Pipe, data: &[u8]) -> Result<usize, Errno> {
    pipe.with_ring(true, |ring| {
        data.chunks(PAGE).for_each(|chunk| ring.push(Slot::new(chunk)));
        Ok(data.len())
    })
}

fn between_pipes(
    ctx: &TaskContext,
    source: &Pipe,
    sink: &Pipe,
    may_block: bool,
    work: impl Fn(&mut crate::fs::pipe::Ring, &mut crate::fs::pipe::Ring) -> usize,
) -> SysResult {
    if std::ptr::eq(source, sink) {
        return Err(Errno::EINVAL.here().into());
    }
    loop {
        if !wait_for_bytes(ctx, source, may_block)? {
            return Ok(0);
        }
        wait_for_room(ctx, sink, may_block)?;
        let moved = Pipe::with_rings(source, sink, |source, sink| Ok(work(source, sink)));
        match note_broken(ctx, moved.map_err(SysError::from))? {
            // Another task was faster.
            0 => {}
            moved => return Ok(moved as u64),
        }
    }
}

/// Moves bytes from a file to a pipe. `may_block` applies to the pipe; a stream is waited for unless it or the input is
/// non-blocking.
fn to_pipe(
    ctx: &TaskContext,
    from: &FileDescription,
    offset: u64,
    pipe: &Pipe,
    len: usize,
    may_block: bool,
    nonblocking_input: bool,
) -> SysResult {
    let room = wait_for_room(ctx, pipe, may_block)?;
    let file = from.file();
    let may_block = !(nonblocking_input || from.is_nonblocking());
    with_bounce(ctx, len.min(room * PAGE), |buffer| {
        let got = wait_on(ctx, file.wait_queue(), READABLE | PollEvents::POLLRDHUP, may_block, || {
            match file.read_at(buffer, offset) {
                Err(Errno::EAGAIN) => None,
                answer => Some(answer),
            }
        })?;
        if got == 0 {
            return Ok(0);
        }
        let pushed = note_broken(ctx, push(pipe, filled(buffer, got)?).map_err(SysError::from))?;
        if let Some(path) = from.path() {
            notify::happened(path, mask::IN_ACCESS);
        }
        Ok(pushed as u64)
    })
}

/// Moves available bytes from a pipe to a file, after waiting for the first.
fn from_pipe(
    ctx: &TaskContext,
    pipe: &Pipe,
    to: &FileDescription,
    offset: u64,
    len: usize,
    may_block: bool,
) -> SysResult {
    if !wait_for_bytes(ctx, pipe, may_block)? {
        return Ok(0);
    }
    let regular = to.kind() == FileType::Regular;
    if regular {
        access::drop_privileges(&ctx.kernel().vfs, &ctx.credentials(), &*to.file().inode())?;
    }
    let mut total = 0;
    let mut failure = None;
    // As on Linux, any signal ends the transfer between two slots.
    while total < len && failure.is_none() && !(total > 0 && ctx.is_interrupted()) {
        let Some(mut slot) = pipe.with_ring(false, |ring| Ok(ring.split_front(len - total)))? else { break };
        let at = offset.saturating_add(total as u64);
        match write_out(ctx, to, slot.bytes(), at, regular, total > 0) {
            Ok(0) => failure = Some(SysError::Errno(Errno::EIO.here())),
            Ok(done) => {
                slot.consume(done);
                total += done;
            }
            Err(error) => failure = Some(error),
        }
        if !slot.bytes().is_empty() {
            pipe.with_ring(false, |ring| {
                ring.unpop(slot);
                Ok(())
            })?;
        }
    }
    if total > 0
        && let Some(path) = to.path()
    {
        notify::happened(path, mask::IN_MODIFY);
    }
    match failure {
        Some(error) if total == 0 => note_broken(ctx, Err(error)),
        _ => Ok(total as u64),
    }
}

fn write_out(
    ctx: &TaskContext,
    to: &FileDescription,
    bytes: &[u8],
    at: u64,
    regular: bool,
    more: bool,
) -> Result<usize, SysError> {
    let len = if regular { room_at(ctx, at, bytes.len() as u64, more)? as usize } else { bytes.len() };
    let (file, bytes) = (to.file(), at_most(bytes, len));
    wait_on(ctx, file.wait_queue(), WRITABLE, !to.is_nonblocking(), || match file.write_at(bytes, at) {
        Err(Errno::EAGAIN) => None,
        answer => Some(answer),
    })
}
