//! Asynchronous I/O: io_setup(2), io_submit(2), io_getevents(2) and related calls.

use std::time::{Duration, Instant};

use amber_abi::aio::{AioSigset, IOCB_FLAG_IOPRIO, IOCB_FLAG_RESFD, IoEvent, Iocb, IocbCommand};
use amber_abi::errno::Errno;
use amber_abi::open::RwFlags;
use amber_abi::poll::PollEvents;
use amber_abi::time::{NSEC_PER_SEC, Timespec};
use zerocopy::IntoBytes;

use super::buffers::Memory;
use super::poll::mask_for_call;
use super::rw;
use crate::aio::AioContext;
use crate::error::{SysError, SysResult};
use crate::fs::eventfd::EventFd;
use crate::syscalls::args::{In, PtrIn, PtrOut};
use crate::task::TaskContext;
use crate::vfs::FileDescription;
use crate::wait::{WaitEnd, deadline_in};

/// The offset of the key in a request.
const KEY_OFFSET: u64 = 8;

/// io_setup(2).
pub(crate) fn io_setup(ctx: &mut TaskContext, count: u32, number_at: PtrOut) -> SysResult {
    let old: u64 = ctx.read_object(number_at.0)?;
    if old != 0 || count == 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let kernel = ctx.kernel();
    let (mm, limit) = (ctx.mm().clone(), kernel.tunables.aio_requests.count());
    let cpus = u32::try_from(kernel.cpus).unwrap_or(u32::MAX);
    let number = mm.aio().make(&mm, count, cpus, &kernel.mm.aio_requests, limit)?;
    if let Err(errno) = ctx.write_object(number_at.0, &number) {
        mm.aio().destroy(&mm, number)?;
        return Err(errno.into());
    }
    Ok(0)
}

/// io_destroy(2).
pub(crate) fn io_destroy(ctx: &mut TaskContext, number: u64) -> SysResult {
    let mm = ctx.mm();
    mm.aio().destroy(mm, number)?;
    Ok(0)
}

/// io_submit(2).
pub(crate) fn io_submit(ctx: &mut TaskContext, number: u64, count: i64, requests: PtrIn) -> SysResult {
    let context = ctx.mm().aio().get(number)?;
    let count = u64::try_from(count).map_err(|_| Errno::EINVAL.here())?.min(context.most());
    for done in 0..count {
        let at = requests.0.wrapping_add(done * 8);
        let submitted = ctx.read_object(at).map_err(SysError::from).and_then(|request| submit(ctx, &context, request));
        match submitted {
            Ok(()) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done),
        }
        if ctx.is_killed() {
            return Ok(done + 1);
        }
    }
    Ok(count)
}

/// Performs one request and adds its completion event.
fn submit(ctx: &mut TaskContext, context: &AioContext, address: u64) -> Result<(), SysError> {
    let request: Iocb = ctx.read_object(address)?;
    if request.aio_reserved2 != 0 || request.aio_nbytes > i64::MAX as u64 {
        return Err(Errno::EINVAL.here().into());
    }
    let mm = ctx.mm().clone();
    if !context.has_room(&mm) {
        return Err(Errno::EAGAIN.here().into());
    }
    let files = ctx.files();
    let description = files.get(request.aio_fildes)?;
    let counter = match request.aio_flags & IOCB_FLAG_RESFD {
        0 => None,
        _ => {
            let counter = files.get(request.aio_resfd)?;
            counter.downcast::<EventFd>().ok_or_else(|| Errno::EINVAL.here())?;
            Some(counter)
        }
    };
    ctx.write_object(address.wrapping_add(KEY_OFFSET), &0u32)?;
    let result = perform(ctx, &description, &request)?;
    let res = match result {
        Ok(count) => count as i64,
        Err(SysError::Errno(errno)) => -i64::from(errno.raw()),
        // Interrupted requests are not restarted.
        Err(SysError::Restart(_)) => -i64::from(Errno::EINTR.raw()),
    };
    context.complete(&mm, &IoEvent { data: request.aio_data, obj: address, res, res2: 0 });
    if let Some(counter) = counter {
        // If the counter is full, the eventfd is readable already.
        let _ = counter.file().write_at(&1u64.to_ne_bytes(), 0);
    }
    Ok(())
}

/// Performs a request. The outer error refuses the request itself.
fn perform(ctx: &mut TaskContext, description: &FileDescription, request: &Iocb) -> Result<SysResult, SysError> {
    let writes = match IocbCommand::from_raw(request.aio_lio_opcode) {
        IocbCommand::IOCB_CMD_PREAD | IocbCommand::IOCB_CMD_PREADV => false,
        IocbCommand::IOCB_CMD_PWRITE | IocbCommand::IOCB_CMD_PWRITEV => true,
        command @ (IocbCommand::IOCB_CMD_FSYNC | IocbCommand::IOCB_CMD_FDSYNC) => {
            if request.aio_buf != 0 || request.aio_offset != 0 || request.aio_nbytes != 0 || request.aio_rw_flags != 0 {
                return Err(Errno::EINVAL.here().into());
            }
            let synced = description.file().sync(command == IocbCommand::IOCB_CMD_FDSYNC);
            return match synced {
                Err(Errno::EINVAL) => Err(Errno::EINVAL.here().into()),
                answer => Ok(answer.map(|()| 0).map_err(SysError::from)),
            };
        }
        // IOCB_CMD_POLL is not supported, as before Linux 4.18.
        _ => return Err(Errno::EINVAL.here().into()),
    };
    if request.aio_flags & IOCB_FLAG_IOPRIO != 0 && request.aio_reqprio as u16 >> 13 > 3 {
        return Err(Errno::EINVAL.here().into());
    }
    if request.aio_offset < 0 && description.file().is_seekable() {
        return Err(Errno::EINVAL.here().into());
    }
    let vector = request.aio_lio_opcode >= IocbCommand::IOCB_CMD_PREADV.raw();
    let count = request.aio_nbytes as usize;
    let mut memory =
        if vector { Memory::vector(ctx, request.aio_buf, count)? } else { Memory::plain(ctx, request.aio_buf, count)? };
    let flags = RwFlags::from_bits_retain(request.aio_rw_flags);
    Ok(rw::transfer(ctx, description, request.aio_offset as u64, flags, writes, &mut memory)?)
}

/// The deadline of a wait. As on Linux, invalid times are accepted.
fn deadline(ctx: &TaskContext, timeout: In<Timespec>) -> Result<Option<Instant>, Errno> {
    let Some(time) = timeout.read_if_given(ctx)? else { return Ok(None) };
    let nanos = i128::from(time.tv_sec) * i128::from(NSEC_PER_SEC) + i128::from(time.tv_nsec);
    Ok(deadline_in(Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))))
}

/// io_getevents(2).
pub(crate) fn io_getevents(
    ctx: &mut TaskContext,
    number: u64,
    least: i64,
    most: i64,
    events: PtrOut,
    timeout: In<Timespec>,
) -> SysResult {
    let deadline = deadline(ctx, timeout)?;
    get_events(ctx, number, least, most, events, deadline)
}

/// io_pgetevents(2).
pub(crate) fn io_pgetevents(
    ctx: &mut TaskContext,
    number: u64,
    least: i64,
    most: i64,
    events: PtrOut,
    timeout: In<Timespec>,
    mask: PtrIn,
) -> SysResult {
    let deadline = deadline(ctx, timeout)?;
    if !mask.is_null() {
        let set: AioSigset = ctx.read_object(mask.0)?;
        mask_for_call(ctx, In::new(set.sigmask), set.sigsetsize as usize)?;
    }
    get_events(ctx, number, least, most, events, deadline)
}

fn get_events(
    ctx: &TaskContext,
    number: u64,
    least: i64,
    most: i64,
    events: PtrOut,
    deadline: Option<Instant>,
) -> SysResult {
    /// Maximum number of events taken at once, which bounds the vector.
    const AT_ONCE: i64 = 1 << 16;
    let context = ctx.mm().aio().get(number)?;
    if least < 0 || least > most {
        return Err(Errno::EINVAL.here().into());
    }
    let mut found: Vec<IoEvent> = Vec::new();
    let most = most.min(AT_ONCE.max(least)) as usize;
    let end = ctx.wait(&[(context.arrived(), PollEvents::all())], deadline, || {
        found.extend(context.take(ctx.mm(), most.saturating_sub(found.len())));
        (found.len() as i64 >= least || context.has_ended()).then_some(())
    });
    if end == Err(WaitEnd::Interrupted) && found.is_empty() {
        return Err(Errno::EINTR.here().into());
    }
    let bytes = found.as_slice().as_bytes();
    let written = ctx.mm().write_partial(events.0, bytes) / size_of::<IoEvent>();
    if written == 0 && !found.is_empty() {
        return Err(Errno::EFAULT.here().into());
    }
    Ok(written as u64)
}

/// io_cancel(2). Submitted requests are always complete.
pub(crate) fn io_cancel(ctx: &mut TaskContext, number: u64, request: PtrIn, _result: PtrOut) -> SysResult {
    let _key: u32 = ctx.read_object(request.0.wrapping_add(KEY_OFFSET))?;
    ctx.mm().aio().get(number)?;
    Err(Errno::EINVAL.here().into())
}
