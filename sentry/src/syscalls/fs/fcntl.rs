//! fcntl(2) and flock(2).

use std::sync::Arc;

use amber_abi::Signal;
use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::open::{
    FOwnerEx, FcntlCommand, FdFlags, Flock, FlockOperation, LockType, OpenFlags, OwnerType, Seals, Whence,
};
use amber_abi::poll::PollEvents;
use amber_abi::stat::FileType;

use super::support::descriptor_limit;
use crate::error::{Restart, SysError, SysResult};
use crate::signal;
use crate::syscalls::args::Fd;
use crate::task::TaskContext;
use crate::vfs::locks::{Owner, Record, Wanted};
use crate::vfs::{FileDescription, access, sigio};

/// fcntl(2).
pub(crate) fn fcntl(ctx: &mut TaskContext, fd: Fd, command: FcntlCommand, argument: u64) -> SysResult {
    let files = ctx.files();
    let description = files.get_any(fd.0)?;
    let allowed_on_paths = matches!(
        command,
        FcntlCommand::F_DUPFD
            | FcntlCommand::F_DUPFD_CLOEXEC
            | FcntlCommand::F_DUPFD_QUERY
            | FcntlCommand::F_GETFD
            | FcntlCommand::F_SETFD
            | FcntlCommand::F_GETFL
    );
    if description.is_path_only() && !allowed_on_paths {
        return Err(Errno::EBADF.here().into());
    }
    match command {
        FcntlCommand::F_DUPFD | FcntlCommand::F_DUPFD_CLOEXEC => {
            let reserved = files.reserve(argument as i32, descriptor_limit(ctx))?;
            Ok(reserved.install(description, command == FcntlCommand::F_DUPFD_CLOEXEC) as u64)
        }
        FcntlCommand::F_DUPFD_QUERY => {
            let other = files.get_any(argument as i32)?;
            Ok(u64::from(Arc::ptr_eq(&other, &description)))
        }
        FcntlCommand::F_CREATED_QUERY => Ok(0),
        FcntlCommand::F_GETFD => Ok(files.close_on_exec(fd.0)?.into()),
        FcntlCommand::F_SETFD => {
            let flags = FdFlags::from_bits_truncate(argument as u32);
            files.set_close_on_exec(fd.0, flags.contains(FdFlags::FD_CLOEXEC))?;
            Ok(0)
        }
        FcntlCommand::F_GETFL => Ok(description.flags().bits().into()),
        FcntlCommand::F_SETFL => set_flags(ctx, fd, &description, OpenFlags::from_bits_truncate(argument as u32)),
        FcntlCommand::F_GETLK | FcntlCommand::F_OFD_GETLK => get_lock(ctx, &description, command, argument),
        FcntlCommand::F_SETLK | FcntlCommand::F_SETLKW | FcntlCommand::F_OFD_SETLK | FcntlCommand::F_OFD_SETLKW => {
            set_lock(ctx, &description, command, argument)
        }
        FcntlCommand::F_GETLEASE => Ok(LockType::F_UNLCK.raw() as u64),
        FcntlCommand::F_SETLEASE => set_lease(ctx, &description, argument),
        // As on a Linux without directory notification.
        FcntlCommand::F_NOTIFY => Err(Errno::EINVAL.here().into()),
        FcntlCommand::F_SETPIPE_SZ => {
            let size = u32::try_from(argument).map_err(|_| Errno::EINVAL.here())?;
            let privileged = ctx.credentials().has(Capability::CAP_SYS_RESOURCE);
            Ok(description.file().set_pipe_size(size, privileged)?.into())
        }
        FcntlCommand::F_GETPIPE_SZ => Ok(description.file().pipe_size()?.into()),
        FcntlCommand::F_ADD_SEALS => {
            let seals = Seals::from_bits(argument as u32).ok_or_else(|| Errno::EINVAL.here())?;
            if !description.is_writable() {
                return Err(Errno::EPERM.here().into());
            }
            description.file().add_seals(seals)?;
            Ok(0)
        }
        FcntlCommand::F_GET_SEALS => Ok(description.file().seals()?.bits().into()),
        FcntlCommand::F_GETOWN => Ok(i64::from(sigio::signed_owner(&description)) as u64),
        FcntlCommand::F_SETOWN => {
            signal::io::set_signed_owner(ctx, &description, argument as i32)?;
            Ok(0)
        }
        FcntlCommand::F_GETOWN_EX => {
            ctx.write_object(argument, &sigio::owner(&description))?;
            Ok(0)
        }
        FcntlCommand::F_SETOWN_EX => {
            let owner: FOwnerEx = ctx.read_object(argument)?;
            let kind = OwnerType::from_raw(owner.type_);
            if !matches!(kind, OwnerType::F_OWNER_TID | OwnerType::F_OWNER_PID | OwnerType::F_OWNER_PGRP) {
                return Err(Errno::EINVAL.here().into());
            }
            signal::io::set_owner(ctx, &description, kind, owner.pid)?;
            Ok(0)
        }
        FcntlCommand::F_GETSIG => Ok(description.owner_signal().map_or(0, |signal| signal.raw() as u64)),
        FcntlCommand::F_SETSIG => {
            let signal = match argument {
                0 => None,
                number => {
                    Some(i32::try_from(number).ok().and_then(Signal::from_raw).ok_or_else(|| Errno::EINVAL.here())?)
                }
            };
            description.set_owner_signal(signal);
            Ok(0)
        }
        FcntlCommand::F_GETOWNER_UIDS => {
            ctx.write_object(argument, &sigio::owner_users(&description))?;
            Ok(0)
        }
        FcntlCommand::F_GET_RW_HINT | FcntlCommand::F_GET_FILE_RW_HINT => {
            ctx.write_object(argument, &description.write_hint())?;
            Ok(0)
        }
        FcntlCommand::F_SET_RW_HINT | FcntlCommand::F_SET_FILE_RW_HINT => {
            let hint: u64 = ctx.read_object(argument)?;
            if hint > 5 {
                return Err(Errno::EINVAL.here().into());
            }
            description.set_write_hint(hint);
            Ok(0)
        }
        _ => Err(Errno::EINVAL.here().into()),
    }
}

fn set_flags(ctx: &TaskContext, fd: Fd, description: &Arc<FileDescription>, flags: OpenFlags) -> SysResult {
    if flags.contains(OpenFlags::O_NOATIME) && !description.flags().contains(OpenFlags::O_NOATIME) {
        let owner = description.file().inode().settled_ownership()?.uid;
        if !access::is_owner(&ctx.credentials(), owner) {
            return Err(Errno::EPERM.here().into());
        }
    }
    signal::io::switch(ctx, description, fd.0, flags.contains(OpenFlags::FASYNC));
    let asynchronous = description.flags() & OpenFlags::FASYNC;
    description.set_flags((flags & !OpenFlags::FASYNC) | asynchronous);
    Ok(0)
}

fn set_lease(ctx: &TaskContext, description: &FileDescription, argument: u64) -> SysResult {
    let inode = description.file().inode();
    if inode.settled_ownership()?.uid != ctx.credentials().fsuid && !ctx.credentials().has(Capability::CAP_LEASE) {
        return Err(Errno::EACCES.here().into());
    }
    if inode.kind() != FileType::Regular {
        return Err(Errno::EINVAL.here().into());
    }
    match LockType::from_raw(argument as i16) {
        // There is no lease to release.
        LockType::F_UNLCK => Err(Errno::EAGAIN.here().into()),
        // As on file systems without leases.
        LockType::F_RDLCK | LockType::F_WRLCK => Err(Errno::EINVAL.here().into()),
        _ => Err(Errno::EINVAL.here().into()),
    }
}

fn is_of_description(command: FcntlCommand) -> bool {
    matches!(command, FcntlCommand::F_OFD_GETLK | FcntlCommand::F_OFD_SETLK | FcntlCommand::F_OFD_SETLKW)
}

/// The record that a `struct flock` describes, and the kind of lock.
fn record(
    ctx: &TaskContext,
    description: &FileDescription,
    command: FcntlCommand,
    flock: &Flock,
) -> Result<(Record, LockType), Errno> {
    let kind = LockType::from_raw(flock.l_type);
    if !matches!(kind, LockType::F_RDLCK | LockType::F_WRLCK | LockType::F_UNLCK) {
        return Err(Errno::EINVAL.here());
    }
    let base = match Whence::from_raw(flock.l_whence as u16 as u32) {
        Whence::SEEK_SET => 0,
        Whence::SEEK_CUR => *description.position() as i64,
        Whence::SEEK_END => description.file().inode().metadata()?.size as i64,
        _ => return Err(Errno::EINVAL.here()),
    };
    let at = base.checked_add(flock.l_start).ok_or_else(|| Errno::EOVERFLOW.here())?;
    let (start, last) = match flock.l_len {
        0 => (at, i64::MAX),
        len if len > 0 => (at, at.checked_add(len - 1).ok_or_else(|| Errno::EOVERFLOW.here())?),
        len => (
            at.checked_add(len).ok_or_else(|| Errno::EINVAL.here())?,
            at.checked_sub(1).ok_or_else(|| Errno::EINVAL.here())?,
        ),
    };
    if start < 0 {
        return Err(Errno::EINVAL.here());
    }
    let (owner, pid) = if is_of_description(command) {
        if flock.l_pid != 0 {
            return Err(Errno::EINVAL.here());
        }
        (Owner::Description(description.id()), -1)
    } else {
        (Owner::Process(ctx.files().id()), ctx.group().pid())
    };
    let exclusive = kind == LockType::F_WRLCK;
    Ok((Record { owner, pid, exclusive, start: start as u64, last: last as u64 }, kind))
}

fn get_lock(ctx: &TaskContext, description: &FileDescription, command: FcntlCommand, address: u64) -> SysResult {
    let mut flock: Flock = ctx.read_object(address)?;
    let (wanted, kind) = record(ctx, description, command, &flock)?;
    if kind == LockType::F_UNLCK {
        return Err(Errno::EINVAL.here().into());
    }
    match ctx.kernel().vfs.locks.blocker(&*description.file().inode(), &wanted)? {
        None => flock.l_type = LockType::F_UNLCK.raw(),
        Some(other) => {
            flock.l_type = if other.exclusive { LockType::F_WRLCK } else { LockType::F_RDLCK }.raw();
            flock.l_whence = Whence::SEEK_SET.raw() as i16;
            flock.l_start = other.start as i64;
            flock.l_len = if other.last == i64::MAX as u64 { 0 } else { (other.last - other.start + 1) as i64 };
            flock.l_pid = other.pid;
        }
    }
    ctx.write_object(address, &flock)?;
    Ok(0)
}

fn set_lock(ctx: &TaskContext, description: &FileDescription, command: FcntlCommand, address: u64) -> SysResult {
    let flock: Flock = ctx.read_object(address)?;
    let (wanted, kind) = record(ctx, description, command, &flock)?;
    let inode = description.file().inode();
    let locks = &ctx.kernel().vfs.locks;
    match kind {
        LockType::F_UNLCK => {
            locks.clear_record(&*inode, wanted)?;
            return Ok(0);
        }
        LockType::F_RDLCK if !description.is_readable() => return Err(Errno::EBADF.here().into()),
        LockType::F_WRLCK if !description.is_writable() => return Err(Errno::EBADF.here().into()),
        _ => {}
    }
    let waits = matches!(command, FcntlCommand::F_SETLKW | FcntlCommand::F_OFD_SETLKW);
    let mut waiting = None;
    let mut attempt = || match locks.set_record(&*inode, wanted) {
        Err(Errno::EAGAIN) if waits => {
            // The owners of conflicting locks may have changed.
            drop(waiting.take());
            match locks.begin_wait(&*inode, wanted) {
                Ok(begun) => waiting = Some(begun),
                Err(errno) => return Some(Err(errno)),
            }
            None
        }
        answer => Some(answer),
    };
    if !waits {
        return Ok(attempt().map_or(Ok(()), |answer| answer).map(|()| 0)?);
    }
    let events = PollEvents::POLLIN;
    let end = locks.while_waiting(&*inode, Wanted::Record(wanted), attempt, |queue, attempt| {
        ctx.wait(&[(queue, events)], None, attempt)
    })?;
    end.map_err(|_| SysError::from(Restart::ByFlag))??;
    Ok(0)
}

/// flock(2).
pub(crate) fn flock(ctx: &mut TaskContext, fd: Fd, operation: FlockOperation) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    let inode = description.file().inode();
    let locks = &ctx.kernel().vfs.locks;
    let wait = !operation.contains(FlockOperation::LOCK_NB);
    let exclusive = match operation - FlockOperation::LOCK_NB {
        FlockOperation::LOCK_UN => {
            locks.clear_whole(&*inode, description.id())?;
            return Ok(0);
        }
        FlockOperation::LOCK_SH => false,
        FlockOperation::LOCK_EX => true,
        _ => return Err(Errno::EINVAL.here().into()),
    };
    let pid = ctx.group().pid();
    let attempt = || match locks.set_whole(&*inode, description.id(), pid, exclusive) {
        Err(Errno::EAGAIN) if wait => None,
        answer => Some(answer),
    };
    if let Some(answer) = attempt() {
        return Ok(answer.map(|()| 0)?);
    }
    let events = PollEvents::POLLIN;
    let end = locks.while_waiting(&*inode, Wanted::Whole { exclusive }, attempt, |queue, attempt| {
        ctx.wait(&[(queue, events)], None, attempt)
    })?;
    end.map_err(|_| SysError::from(Restart::ByFlag))??;
    Ok(0)
}
