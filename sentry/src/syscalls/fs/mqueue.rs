//! POSIX message queues: see mq_overview(7).

use std::sync::Arc;
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::ipc::{MQ_PRIO_MAX, MqAttr};
use amber_abi::open::OpenFlags;
use amber_abi::signal::{SigEvent, SigevNotify, Signal};
use amber_abi::stat::FileMode;
use amber_abi::task::Resource;
use amber_abi::time::Timespec;

use super::support::{check_open_files, descriptor_limit};
use crate::clock::{Clock, deadline_of};
use crate::error::{Restart, SysError, SysResult};
use crate::fs::mqueue::{self, MqFile, Registration, Size};
use crate::syscalls::args::{BufIn, BufOut, Fd, In, PtrIn, PtrOut, Str};
use crate::task::TaskContext;
use crate::vfs::access::{self, Access};
use crate::vfs::attributes::Attributes;
use crate::vfs::{FileDescription, Inode, Path};
use crate::wait::WaitEnd;

/// The name of a queue, without the slash, which the C library removes.
fn name(ctx: &TaskContext, address: u64) -> Result<Vec<u8>, Errno> {
    let name = ctx.read_path(address)?;
    match name.as_slice() {
        b"" => Err(Errno::ENOENT.here()),
        b"." | b".." => Err(Errno::EACCES.here()),
        name if name.contains(&b'/') => Err(Errno::EACCES.here()),
        name if name.len() > 255 => Err(Errno::ENAMETOOLONG.here()),
        _ => Ok(name),
    }
}

/// The requested size; none for the default.
fn requested_size(ctx: &TaskContext, address: u64) -> Result<Option<Size>, Errno> {
    if address == 0 {
        return Ok(None);
    }
    let attributes: MqAttr = ctx.read_object(address)?;
    // Negative numbers become too large, and are refused.
    Ok(Some(Size { messages: attributes.mq_maxmsg as u64, bytes: attributes.mq_msgsize as u64 }))
}

/// mq_open(2).
pub(crate) fn mq_open(ctx: &mut TaskContext, name_at: Str, flags: OpenFlags, mode: FileMode, attr: PtrIn) -> SysResult {
    let size = requested_size(ctx, attr.0)?;
    let name = name(ctx, name_at.0)?;
    let reserved = ctx.files().reserve(0, descriptor_limit(ctx))?;
    check_open_files(ctx)?;
    let mount = ctx.kernel().fs.mqueues.clone();
    let root = mount.root.inode()?;
    let credentials = ctx.credentials();
    let found = match root.lookup(&name) {
        Ok(inode) => existing(&credentials, inode, flags)?,
        Err(Errno::ENOENT) if flags.contains(OpenFlags::O_CREAT) => {
            access::check(&credentials, &**root, Access::WRITE | Access::EXECUTE)?;
            let tunables = &ctx.kernel().tunables;
            let size = size.unwrap_or_else(|| Size::usual(tunables)).check(&credentials, tunables)?;
            let permissions = mode.0 as u16 & 0o777 & !ctx.fs().umask();
            let queues = mqueue::queues_of(root).ok_or_else(|| Errno::EIO.here())?;
            let limit = ctx.group().limits().soft(Resource::RLIMIT_MSGQUEUE);
            let attributes = Attributes::new(permissions, credentials.fsuid, credentials.fsgid);
            match queues.create(&name, attributes, size, Some((&credentials, limit))) {
                // Another task has created the queue meanwhile.
                Err(Errno::EEXIST) => existing(&credentials, root.lookup(&name)?, flags)?,
                made => made?,
            }
        }
        Err(errno) => return Err(errno.into()),
    };
    let dentry = mount.root.lookup(&name)?;
    let path = dentry.inode().is_ok_and(|inode| Arc::ptr_eq(inode, &found)).then_some(Path { mount, dentry });
    let kept = flags & (OpenFlags::O_ACCMODE | OpenFlags::O_NONBLOCK);
    let file = found.open(flags)?;
    Ok(reserved.install(FileDescription::new(&ctx.kernel().vfs, file, path, kept), true) as u64)
}

/// Checks that an existing queue may be opened with these flags.
fn existing(
    credentials: &crate::credentials::Credentials,
    inode: Arc<dyn Inode>,
    flags: OpenFlags,
) -> Result<Arc<dyn Inode>, Errno> {
    if flags.contains(OpenFlags::O_CREAT | OpenFlags::O_EXCL) {
        return Err(Errno::EEXIST.here());
    }
    let mut wanted = Access::empty();
    match (flags.reads(), flags.writes()) {
        (false, false) => return Err(Errno::EINVAL.here()),
        (reads, writes) => {
            wanted.set(Access::READ, reads);
            wanted.set(Access::WRITE, writes);
        }
    }
    access::check(credentials, &*inode, wanted)?;
    Ok(inode)
}

/// mq_unlink(2).
pub(crate) fn mq_unlink(ctx: &mut TaskContext, name_at: Str) -> SysResult {
    let name = name(ctx, name_at.0)?;
    let directory = &ctx.kernel().fs.mqueues.root;
    let root = directory.inode()?.clone();
    mqueue::queues_of(&root).ok_or_else(|| Errno::EIO.here())?.unlink_as(&root, &name, &ctx.credentials())?;
    // The look-up drops the dentry of the removed queue; its error is expected.
    let _ = directory.lookup(&name);
    Ok(0)
}

/// The deadline, given in CLOCK_REALTIME.
fn deadline(ctx: &TaskContext, timeout: In<Timespec>) -> Result<Option<Instant>, Errno> {
    let Some(until) = timeout.read_if_given(ctx)? else { return Ok(None) };
    if !until.is_valid() {
        return Err(Errno::EINVAL.here());
    }
    let until = Clock::Realtime.to_monotonic(until.to_nanos().unsigned_abs());
    // A time that the host's type cannot represent never comes.
    Ok(deadline_of(until))
}

fn open_queue(ctx: &TaskContext, fd: Fd) -> Result<Arc<FileDescription>, Errno> {
    let description = ctx.files().get(fd.0)?;
    if description.downcast::<MqFile>().is_some() { Ok(description) } else { Err(Errno::EBADF.here()) }
}

fn ended(end: WaitEnd) -> SysError {
    match end {
        WaitEnd::Interrupted => Restart::ByFlag.into(),
        WaitEnd::TimedOut => Errno::ETIMEDOUT.here().into(),
    }
}

/// mq_timedsend(2).
pub(crate) fn mq_timedsend(
    ctx: &mut TaskContext,
    fd: Fd,
    message: BufIn,
    len: usize,
    priority: u32,
    timeout: In<Timespec>,
) -> SysResult {
    let deadline = deadline(ctx, timeout)?;
    if u64::from(priority) >= MQ_PRIO_MAX {
        return Err(Errno::EINVAL.here().into());
    }
    let description = open_queue(ctx, fd)?;
    let queue = description.downcast::<MqFile>().ok_or_else(|| Errno::EBADF.here())?.queue();
    if !description.is_writable() {
        return Err(Errno::EBADF.here().into());
    }
    if len as u64 > queue.size().bytes {
        return Err(Errno::EMSGSIZE.here().into());
    }
    ctx.kernel().mm.frames.admit_lasting(len as u64).map_err(Errno::from)?;
    let mut bytes = ctx.buffer(len)?;
    ctx.read_bytes(message.0, &mut bytes)?;
    let sender = (ctx.group().pid(), ctx.credentials().uid);
    let mut waiting = Some(bytes);
    let mut attempt = || match queue.send(waiting.take()?, priority, sender) {
        Ok(()) => Some(()),
        Err(back) => {
            waiting = Some(back);
            None
        }
    };
    if description.is_nonblocking() {
        attempt().ok_or_else(|| Errno::EAGAIN.here())?;
        return Ok(0);
    }
    ctx.wait(&[(queue.changed(), amber_abi::poll::PollEvents::POLLOUT)], deadline, attempt).map_err(ended)?;
    Ok(0)
}

/// mq_timedreceive(2).
pub(crate) fn mq_timedreceive(
    ctx: &mut TaskContext,
    fd: Fd,
    buffer: BufOut,
    len: usize,
    priority_at: PtrOut,
    timeout: In<Timespec>,
) -> SysResult {
    let deadline = deadline(ctx, timeout)?;
    let description = open_queue(ctx, fd)?;
    let queue = description.downcast::<MqFile>().ok_or_else(|| Errno::EBADF.here())?.queue();
    if !description.is_readable() {
        return Err(Errno::EBADF.here().into());
    }
    if (len as u64) < queue.size().bytes {
        return Err(Errno::EMSGSIZE.here().into());
    }
    let (message, priority) = match queue.receive() {
        Some(found) => found,
        None if description.is_nonblocking() => return Err(Errno::EAGAIN.here().into()),
        None => {
            let _waiting = queue.begin_waiting();
            let readable = amber_abi::poll::PollEvents::POLLIN;
            ctx.wait_in_turn(queue.changed(), readable, deadline, || queue.receive()).map_err(ended)?
        }
    };
    if !priority_at.is_null() {
        ctx.write_object(priority_at.0, &priority)?;
    }
    ctx.write_bytes(buffer.0, &message)?;
    Ok(message.len() as u64)
}

/// mq_notify(2). `SIGEV_THREAD` needs a netlink socket that the C library creates, and is refused as without netlink.
pub(crate) fn mq_notify(ctx: &mut TaskContext, fd: Fd, event: PtrIn) -> SysResult {
    let event: Option<SigEvent> = if event.is_null() { None } else { Some(ctx.read_object(event.0)?) };
    let signal = match &event {
        None => None,
        Some(event) => match SigevNotify::from_raw(event.sigev_notify) {
            SigevNotify::SIGEV_NONE => None,
            SigevNotify::SIGEV_SIGNAL => {
                let signal = Signal::from_raw(event.sigev_signo).ok_or_else(|| Errno::EINVAL.here())?;
                Some((signal, event.sigev_value))
            }
            SigevNotify::SIGEV_THREAD => return Err(Errno::EBADF.here().into()),
            _ => return Err(Errno::EINVAL.here().into()),
        },
    };
    let description = open_queue(ctx, fd)?;
    let file = description.downcast::<MqFile>().ok_or_else(|| Errno::EBADF.here())?;
    if event.is_none() {
        file.queue().unregister(ctx.group());
        return Ok(0);
    }
    let (group, program) = (Arc::downgrade(ctx.group()), ctx.group().programs());
    file.queue().register(Registration { group, signal, program })?;
    Ok(0)
}

/// mq_getsetattr(2). Only `O_NONBLOCK` can be changed.
pub(crate) fn mq_getsetattr(ctx: &mut TaskContext, fd: Fd, new: PtrIn, old: PtrOut) -> SysResult {
    let nonblock = i64::from(OpenFlags::O_NONBLOCK.bits());
    let new: Option<MqAttr> = if new.is_null() { None } else { Some(ctx.read_object(new.0)?) };
    if new.as_ref().is_some_and(|new| new.mq_flags & !nonblock != 0) {
        return Err(Errno::EINVAL.here().into());
    }
    let description = open_queue(ctx, fd)?;
    let queue = description.downcast::<MqFile>().ok_or_else(|| Errno::EBADF.here())?.queue();
    let before = MqAttr {
        mq_flags: i64::from(description.flags().bits()) & nonblock,
        mq_maxmsg: queue.size().messages as i64,
        mq_msgsize: queue.size().bytes as i64,
        mq_curmsgs: queue.count() as i64,
        ..MqAttr::default()
    };
    if let Some(new) = new {
        let mut flags = description.flags();
        flags.set(OpenFlags::O_NONBLOCK, new.mq_flags & nonblock != 0);
        description.set_flags(flags);
    }
    if !old.is_null() {
        ctx.write_object(old.0, &before)?;
    }
    Ok(0)
}
