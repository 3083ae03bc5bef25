//! The read(2) and write(2) family, with the loop in which all of these calls wait.

use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::open::{OpenFlags, RwFlags};
use amber_abi::poll::PollEvents;
use amber_abi::stat::FileType;

use super::buffers::{DIRECT, Memory, with_bounce};
use crate::error::{Restart, SysError, SysResult};
use crate::slices::{at_most, at_most_mut, filled};
use crate::syscalls::args::{BufIn, BufOut, Fd, IovecIn, IovecOut};
use crate::task::TaskContext;
use crate::vfs::notify::{self, mask};
use crate::vfs::{FileDescription, MountOptions, access};
use crate::wait::{WaitEnd, deadline_in};

/// read(2).
pub(crate) fn read(ctx: &mut TaskContext, fd: Fd, buf: BufOut, count: usize) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    check_readable(&description)?;
    let mut memory = Memory::plain(ctx, buf.0, count)?;
    Transfer::new(&description, None, RwFlags::empty())?.read(ctx, &mut memory)
}

/// write(2).
pub(crate) fn write(ctx: &mut TaskContext, fd: Fd, buf: BufIn, count: usize) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    check_writable(&description)?;
    let mut memory = Memory::plain(ctx, buf.0, count)?;
    Transfer::new(&description, None, RwFlags::empty())?.write(ctx, &mut memory)
}

/// pread64(2).
pub(crate) fn pread64(ctx: &mut TaskContext, fd: Fd, buf: BufOut, count: usize, offset: i64) -> SysResult {
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL.here())?;
    let description = ctx.files().get(fd.0)?;
    let transfer = Transfer::new(&description, Some(offset), RwFlags::empty())?;
    check_readable(&description)?;
    transfer.read(ctx, &mut Memory::plain(ctx, buf.0, count)?)
}

/// pwrite64(2).
pub(crate) fn pwrite64(ctx: &mut TaskContext, fd: Fd, buf: BufIn, count: usize, offset: i64) -> SysResult {
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL.here())?;
    let description = ctx.files().get(fd.0)?;
    let transfer = Transfer::new(&description, Some(offset), RwFlags::empty())?;
    check_writable(&description)?;
    transfer.write(ctx, &mut Memory::plain(ctx, buf.0, count)?)
}

/// readv(2).
pub(crate) fn readv(ctx: &mut TaskContext, fd: Fd, iov: IovecOut, count: usize) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    let transfer = Transfer::new(&description, None, RwFlags::empty())?;
    check_readable(&description)?;
    transfer.read(ctx, &mut Memory::vector(ctx, iov.0, count)?)
}

/// writev(2).
pub(crate) fn writev(ctx: &mut TaskContext, fd: Fd, iov: IovecIn, count: usize) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    let transfer = Transfer::new(&description, None, RwFlags::empty())?;
    check_writable(&description)?;
    transfer.write(ctx, &mut Memory::vector(ctx, iov.0, count)?)
}

/// preadv(2). On 64-bit machines the upper half of the offset is ignored.
pub(crate) fn preadv(ctx: &mut TaskContext, fd: Fd, iov: IovecOut, count: usize, offset: u64, _high: u64) -> SysResult {
    let offset = check_offset(offset)?;
    vector_read(ctx, fd, iov, count, Some(offset), RwFlags::empty())
}

/// pwritev(2).
pub(crate) fn pwritev(ctx: &mut TaskContext, fd: Fd, iov: IovecIn, count: usize, offset: u64, _high: u64) -> SysResult {
    let offset = check_offset(offset)?;
    vector_write(ctx, fd, iov, count, Some(offset), RwFlags::empty())
}

/// preadv2(2). The offset -1 is the file position.
pub(crate) fn preadv2(
    ctx: &mut TaskContext,
    fd: Fd,
    iov: IovecOut,
    count: usize,
    offset: u64,
    _high: u64,
    flags: RwFlags,
) -> SysResult {
    let offset = if offset == u64::MAX { None } else { Some(check_offset(offset)?) };
    vector_read(ctx, fd, iov, count, offset, flags)
}

/// pwritev2(2).
pub(crate) fn pwritev2(
    ctx: &mut TaskContext,
    fd: Fd,
    iov: IovecIn,
    count: usize,
    offset: u64,
    _high: u64,
    flags: RwFlags,
) -> SysResult {
    let offset = if offset == u64::MAX { None } else { Some(check_offset(offset)?) };
    vector_write(ctx, fd, iov, count, offset, flags)
}

fn check_offset(offset: u64) -> Result<u64, Errno> {
    if offset > i64::MAX as u64 { Err(Errno::EINVAL.here()) } else { Ok(offset) }
}

fn vector_read(
    ctx: &mut TaskContext,
    fd: Fd,
    iov: IovecOut,
    count: usize,
    offset: Option<u64>,
    flags: RwFlags,
) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    let transfer = Transfer::new(&description, offset, flags)?;
    check_readable(&description)?;
    let mut memory = Memory::vector(ctx, iov.0, count)?;
    transfer.check_flags(false)?;
    transfer.read(ctx, &mut memory)
}

fn vector_write(
    ctx: &mut TaskContext,
    fd: Fd,
    iov: IovecIn,
    count: usize,
    offset: Option<u64>,
    flags: RwFlags,
) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    let transfer = Transfer::new(&description, offset, flags)?;
    check_writable(&description)?;
    let mut memory = Memory::vector(ctx, iov.0, count)?;
    transfer.check_flags(true)?;
    transfer.write(ctx, &mut memory)
}

/// A read or write for another call, at an offset if the file is seekable.
///
/// # Errors
/// The outer error if the file or the flags do not permit the transfer, the inner one if it fails.
pub(super) fn transfer(
    ctx: &TaskContext,
    description: &FileDescription,
    offset: u64,
    flags: RwFlags,
    writes: bool,
    memory: &mut Memory,
) -> Result<SysResult, Errno> {
    let offset = description.file().is_seekable().then_some(offset);
    let transfer = Transfer::new(description, offset, flags)?;
    if writes { check_writable(description) } else { check_readable(description) }?;
    transfer.check_flags(writes)?;
    Ok(if writes { transfer.write(ctx, memory) } else { transfer.read(ctx, memory) })
}

fn check_readable(description: &FileDescription) -> Result<(), Errno> {
    if description.is_readable() { Ok(()) } else { Err(Errno::EBADF.here()) }
}

fn check_writable(description: &FileDescription) -> Result<(), Errno> {
    if description.is_writable() { Ok(()) } else { Err(Errno::EBADF.here()) }
}

/// The parameters of a read or write.
struct Transfer<'a> {
    description: &'a FileDescription,
    /// None for the file position.
    offset: Option<u64>,
    flags: RwFlags,
}

impl<'a> Transfer<'a> {
    fn new(description: &'a FileDescription, offset: Option<u64>, flags: RwFlags) -> Result<Self, Errno> {
        if offset.is_some() && !description.file().is_seekable() {
            return Err(Errno::ESPIPE.here());
        }
        Ok(Transfer { description, offset, flags })
    }

    fn check_flags(&self, writing: bool) -> Result<(), Errno> {
        let mut known = RwFlags::RWF_HIPRI | RwFlags::RWF_DSYNC | RwFlags::RWF_SYNC | RwFlags::RWF_NOWAIT;
        known |= RwFlags::RWF_APPEND | RwFlags::RWF_NOAPPEND;
        if !known.contains(self.flags) || self.flags.contains(RwFlags::RWF_APPEND | RwFlags::RWF_NOAPPEND) {
            return Err(Errno::EOPNOTSUPP.here());
        }
        if !writing && self.flags.contains(RwFlags::RWF_APPEND) {
            return Err(Errno::EOPNOTSUPP.here());
        }
        Ok(())
    }

    /// Returns `EINVAL` for a range that extends beyond the maximum offset.
    fn check_end(offset: u64, memory: &Memory) -> Result<(), Errno> {
        match offset.checked_add(memory.left()) {
            Some(end) if end <= i64::MAX as u64 => Ok(()),
            _ => Err(Errno::EINVAL.here()),
        }
    }

    fn is_nonblocking(&self) -> bool {
        self.description.is_nonblocking() || self.flags.contains(RwFlags::RWF_NOWAIT)
    }

    fn read(&self, ctx: &TaskContext, memory: &mut Memory) -> SysResult {
        let result = self.read_all(ctx, memory);
        ctx.stats().count_read(*result.as_ref().unwrap_or(&0));
        result
    }

    fn read_all(&self, ctx: &TaskContext, memory: &mut Memory) -> SysResult {
        check_readable(self.description)?;
        let file = self.description.file();
        if file.inode().kind() == FileType::Directory {
            return Err(Errno::EISDIR.here().into());
        }
        let done = match (file.is_seekable(), self.offset) {
            (false, _) => self.read_stream(ctx, memory)?,
            (true, None) if file.own_position().is_some() => self.read_stream(ctx, memory)?,
            (true, Some(offset)) => self.read_at(ctx, memory, offset)?,
            (true, None) => {
                let mut position = self.description.position();
                let done = self.read_at(ctx, memory, *position)?;
                *position += done;
                done
            }
        };
        if done > 0 {
            self.note_read();
        }
        Ok(done)
    }

    fn note_read(&self) {
        if let Some(path) = self.description.path() {
            touch(self.description, path);
            notify::happened(path, mask::IN_ACCESS);
        }
    }

    fn read_at(&self, ctx: &TaskContext, memory: &mut Memory, offset: u64) -> Result<u64, SysError> {
        let file = self.description.file();
        Self::check_end(offset, memory)?;
        if memory.left() == 0 {
            return Ok(file.read_at(&mut [], offset)? as u64);
        }
        with_bounce(ctx, memory.left() as usize, |buffer| {
            let mut done = 0;
            while memory.left() > 0 {
                let want = (memory.left() as usize).min(buffer.len());
                let got = match file.read_at(at_most_mut(buffer, want), offset + done) {
                    Ok(0) => break,
                    Ok(got) => got,
                    Err(_) if done > 0 => break,
                    Err(errno) => return Err(errno.into()),
                };
                let put = memory.put(ctx, filled(buffer, got)?);
                done += put as u64;
                if put < got && done == 0 {
                    return Err(Errno::EFAULT.here().into());
                }
                if put < want || self.is_cut_short(ctx) {
                    break;
                }
            }
            Ok(done)
        })
    }

    /// Whether a transfer ends early: on devices after any signal, on other files only after a kill.
    fn is_cut_short(&self, ctx: &TaskContext) -> bool {
        ctx.is_killed() || (ctx.is_interrupted() && self.description.kind() == FileType::CharacterDevice)
    }

    fn read_stream(&self, ctx: &TaskContext, memory: &mut Memory) -> Result<u64, SysError> {
        let file = self.description.file();
        let low = (file.low_water() as u64).min(memory.left());
        if let Some(socket) = file.host_stream().filter(|_| memory.left() >= DIRECT && low <= 1) {
            let attempt = |full: bool| {
                let answer = full.then(|| memory.receive(ctx, socket));
                answer.filter(|answer| *answer != Err(Errno::EAGAIN))
            };
            return Ok(self.wait_for(ctx, false, false, attempt)? as u64);
        }
        with_bounce(ctx, memory.left() as usize, |buffer| {
            let mut done = 0;
            loop {
                let want = (memory.left() as usize).min(buffer.len());
                // Data that cannot be delivered must stay in the stream.
                if memory.room(ctx, want) < want {
                    if done == 0 {
                        return Err(Errno::EFAULT.here().into());
                    }
                    break;
                }
                let read = |buf: &mut [u8]| match file.own_position() {
                    Some(own) => own.read(buf),
                    None => file.read_at(buf, 0),
                };
                let attempt = |full| {
                    let place = at_most_mut(buffer, want);
                    match if full { read(place) } else { file.read_partial(place) } {
                        Err(Errno::EAGAIN) => None,
                        answer => Some(answer),
                    }
                };
                let got = match self.wait_for(ctx, false, done > 0 && done >= low, attempt) {
                    Ok(0) => break,
                    Ok(got) => got,
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                };
                let put = memory.put(ctx, filled(buffer, got)?);
                done += put as u64;
                if put < got && done == 0 {
                    return Err(Errno::EFAULT.here().into());
                }
                if (put < buffer.len() && done >= low) || memory.left() == 0 || self.is_cut_short(ctx) {
                    break;
                }
            }
            Ok(done)
        })
    }

    /// Attempts a transfer, and waits until an attempt returns a result, unless the caller or the file is non-blocking.
    /// `attempt(true)` is to transfer in full, `attempt(false)` to accept a partial transfer.
    fn wait_for(
        &self,
        ctx: &TaskContext,
        writing: bool,
        nonblocking: bool,
        mut attempt: impl FnMut(bool) -> Option<Result<usize, Errno>>,
    ) -> Result<usize, SysError> {
        let file = self.description.file();
        file.admit(ctx, writing)?;
        if let Some(answer) = attempt(true) {
            return Ok(answer?);
        }
        let (false, false, Some(queue)) = (self.is_nonblocking(), nonblocking, file.wait_queue()) else {
            return Ok(attempt(false).unwrap_or(Err(Errno::EAGAIN.here()))?);
        };
        let events = if writing {
            PollEvents::POLLOUT | PollEvents::POLLWRNORM
        } else {
            PollEvents::POLLIN | PollEvents::POLLRDNORM | PollEvents::POLLRDHUP
        };
        let timeout = file.timeout(writing);
        let limit = timeout.and_then(deadline_in);
        let began = Instant::now();
        let pause = || if writing { None } else { file.read_deadline(began) };
        loop {
            let until = pause();
            let check = || match attempt(true) {
                Some(answer) => Some(Some(answer)),
                None => (pause() != until).then_some(None),
            };
            let end = if !writing && file.is_read_in_turn() {
                ctx.wait_in_turn(queue, events, until.or(limit), check)
            } else {
                ctx.wait(&[(queue, events)], until.or(limit), check)
            };
            let end = match end {
                Ok(Some(answer)) => return Ok(answer?),
                // The deadline has changed.
                Ok(None) => continue,
                Err(end) => end,
            };
            return match (end, attempt(false)) {
                (_, Some(answer)) => Ok(answer?),
                (WaitEnd::TimedOut, None) if until.is_some() => Ok(0),
                (WaitEnd::TimedOut, None) => Err(Errno::EAGAIN.here().into()),
                // A wait with a timeout cannot be continued after a signal.
                (WaitEnd::Interrupted, None) if timeout.is_some() => Err(Errno::EINTR.here().into()),
                (WaitEnd::Interrupted, None) => Err(Restart::ByFlag.into()),
            };
        }
    }

    fn write(&self, ctx: &TaskContext, memory: &mut Memory) -> SysResult {
        let result = self.write_all(ctx, memory);
        ctx.stats().count_write(*result.as_ref().unwrap_or(&0));
        result
    }

    fn write_all(&self, ctx: &TaskContext, memory: &mut Memory) -> SysResult {
        check_writable(self.description)?;
        let file = self.description.file();
        if let Some(answer) = file.discard(memory.left() as usize) {
            return Ok(answer? as u64);
        }
        let stream = !file.is_seekable() || (self.offset.is_none() && file.own_position().is_some());
        let result = if stream { self.write_stream(ctx, memory) } else { self.write_stored(ctx, memory) };
        match result {
            Ok(0) => Ok(0),
            Ok(done) => {
                if let Some(path) = self.description.path() {
                    notify::happened(path, mask::IN_MODIFY);
                }
                self.synchronize()?;
                Ok(done)
            }
            Err(SysError::Errno(Errno::EPIPE)) if file.signals_broken_pipe() => {
                super::support::send_signal(ctx, amber_abi::Signal::SIGPIPE);
                Err(Errno::EPIPE.here().into())
            }
            Err(error) => Err(error),
        }
    }

    fn synchronize(&self) -> Result<(), Errno> {
        let flags = self.description.flags();
        let whole = flags.contains(OpenFlags::O_SYNC) || self.flags.contains(RwFlags::RWF_SYNC);
        let data = flags.contains(OpenFlags::O_DSYNC) || self.flags.contains(RwFlags::RWF_DSYNC);
        if (whole || data) && self.description.file().is_seekable() {
            match self.description.file().sync(!whole) {
                // Devices have no pages to write back.
                Err(Errno::EINVAL) => {}
                answer => answer?,
            }
        }
        Ok(())
    }

    fn write_stored(&self, ctx: &TaskContext, memory: &mut Memory) -> SysResult {
        let appends = self.description.flags().contains(OpenFlags::O_APPEND)
            && !self.flags.contains(RwFlags::RWF_NOAPPEND)
            || self.flags.contains(RwFlags::RWF_APPEND);
        if memory.left() == 0 {
            return Ok(0);
        }
        match self.offset {
            Some(offset) => self.write_from(ctx, memory, offset, appends).map(|(_, done)| done),
            None => {
                let mut position = self.description.position();
                let (end, done) = self.write_from(ctx, memory, *position, appends)?;
                *position = end;
                Ok(done)
            }
        }
    }

    /// Writes from an offset on, or at the end. Returns the offset after the written bytes, and their number.
    fn write_from(
        &self,
        ctx: &TaskContext,
        memory: &mut Memory,
        offset: u64,
        appends: bool,
    ) -> Result<(u64, u64), SysError> {
        let file = self.description.file();
        Self::check_end(offset, memory)?;
        let regular = file.inode().kind() == FileType::Regular;
        if regular {
            access::drop_privileges(&ctx.kernel().vfs, &ctx.credentials(), &*file.inode())?;
        }
        with_bounce(ctx, memory.left() as usize, |buffer| {
            let (mut at, mut done) = (offset, 0);
            while memory.left() > 0 {
                let want = (memory.left() as usize).min(buffer.len());
                let got = memory.peek(ctx, at_most_mut(buffer, want));
                if got == 0 {
                    return if done > 0 { Ok((at, done)) } else { Err(Errno::EFAULT.here().into()) };
                }
                let start = if appends && regular { file.inode().metadata()?.size } else { at };
                let room =
                    if regular { super::support::room_at(ctx, start, got as u64, done > 0)? } else { got as u64 };
                if room == 0 {
                    break;
                }
                let data = at_most(buffer, room as usize);
                let written = match if appends { file.append(data) } else { file.write_at(data, at).map(|n| (at, n)) } {
                    Ok((start, n)) => {
                        at = start + n as u64;
                        n
                    }
                    Err(_) if done > 0 => break,
                    Err(errno) => return Err(errno.into()),
                };
                memory.use_up(written);
                done += written as u64;
                if written < want || self.is_cut_short(ctx) {
                    break;
                }
            }
            Ok((at, done))
        })
    }

    fn write_stream(&self, ctx: &TaskContext, memory: &mut Memory) -> SysResult {
        let file = self.description.file();
        let kind = self.description.kind();
        if let Some(socket) = file.host_stream().filter(|_| memory.left() >= DIRECT) {
            let mut done = 0;
            while memory.left() > 0 && !(done > 0 && ctx.is_killed()) {
                let attempt = |full: bool| {
                    let answer = full.then(|| memory.send(ctx, socket));
                    answer.filter(|answer| *answer != Err(Errno::EAGAIN))
                };
                match self.wait_for(ctx, true, false, attempt) {
                    Ok(written) => {
                        ctx.kernel().mm.frames.add_unsettled(written as u64);
                        done += written as u64;
                    }
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            return Ok(done);
        }
        with_bounce(ctx, memory.left() as usize, |buffer| {
            let mut done = 0;
            loop {
                let want = (memory.left() as usize).min(buffer.len());
                let got = memory.peek(ctx, at_most_mut(buffer, want));
                if got == 0 && want > 0 {
                    // As on Linux, a broken pipe precedes an inaccessible buffer.
                    let broken = kind == FileType::Fifo && file.poll().contains(PollEvents::POLLERR);
                    let errno = if broken { Errno::EPIPE.here() } else { Errno::EFAULT.here() };
                    return if done > 0 { Ok(done) } else { Err(errno.into()) };
                }
                let write = |buf: &[u8]| match file.own_position() {
                    Some(own) => own.write(buf),
                    None => file.write_at(buf, 0),
                };
                let data = filled(buffer, got)?;
                // Only full attempts: a write is never partial.
                let attempt = |full: bool| {
                    let answer = full.then(|| write(data));
                    answer.filter(|answer| *answer != Err(Errno::EAGAIN))
                };
                let written = match self.wait_for(ctx, true, false, attempt) {
                    Ok(written) => written,
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                };
                memory.use_up(written);
                done += written as u64;
                // Eventfds and the like take one value per call.
                let takes_one = kind == FileType::Anonymous;
                if memory.left() == 0 || written == 0 || takes_one || self.is_cut_short(ctx) {
                    break;
                }
            }
            Ok(done)
        })
    }
}

/// Updates the access time, depending on the options of the mount.
pub(crate) fn touch(description: &FileDescription, path: &crate::vfs::Path) {
    let options = path.mount.options();
    if options.contains(MountOptions::NO_ATIME)
        || description.flags().contains(OpenFlags::O_NOATIME)
        || (options.contains(MountOptions::NO_DIRECTORY_ATIME) && path.dentry.is_directory())
        || path.mount.is_read_only()
    {
        return;
    }
    if let Ok(inode) = path.inode() {
        inode.touch_accessed(options.contains(MountOptions::RELATIVE_ATIME));
    }
}
