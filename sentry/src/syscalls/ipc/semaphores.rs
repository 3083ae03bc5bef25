//! Semaphores: semget(2), semop(2), semctl(2).

use std::time::{Duration, Instant};

use amber_abi::errno::Errno;
use amber_abi::ipc::{IpcFlags, SEMVMX, SemCommand, Sembuf, SemidDs, Seminfo};
use amber_abi::poll::PollEvents;
use amber_abi::time::Timespec;
use zerocopy::IntoBytes;

use super::plain;
use crate::clock::realtime;
use crate::error::{SysError, SysResult};
use crate::ipc::{Attempt, Limit, Object, SemaphoreSet};
use crate::syscalls::args::{In, PtrIn};
use crate::task::TaskContext;
use crate::wait::{WaitEnd, deadline_in};

/// Size of Linux's undo structure, for `semusz`.
const UNDO_SIZE: i32 = 20;

/// semget(2).
pub(crate) fn semget(ctx: &mut TaskContext, key: i32, count: i32, flags: IpcFlags) -> SysResult {
    Ok(ctx.kernel().ipc.semaphores.find_or_make(&ctx.credentials(), key, count, flags.bits())? as u64)
}

/// semop(2).
pub(crate) fn semop(ctx: &mut TaskContext, id: i32, operations: PtrIn, count: usize) -> SysResult {
    operate(ctx, id, operations, count, None)
}

/// semtimedop(2).
pub(crate) fn semtimedop(
    ctx: &mut TaskContext,
    id: i32,
    operations: PtrIn,
    count: usize,
    timeout: In<Timespec>,
) -> SysResult {
    let deadline = match timeout.read_if_given(ctx)? {
        None => None,
        Some(time) if time.is_valid() => {
            // A deadline that the clock cannot represent never comes.
            deadline_in(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32))
        }
        Some(_) => return Err(Errno::EINVAL.here().into()),
    };
    operate(ctx, id, operations, count, deadline)
}

fn operate(ctx: &TaskContext, id: i32, address: PtrIn, count: usize, deadline: Option<Instant>) -> SysResult {
    if count == 0 || id < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    if count as u64 > ctx.kernel().ipc.limits.semopm.get() {
        return Err(Errno::E2BIG.here().into());
    }
    let mut operations = ctx.kernel().mm.frames.filled(count, Sembuf::default())?;
    ctx.read_bytes(address.0, operations.as_mut_slice().as_mut_bytes())?;
    let semaphores = &ctx.kernel().ipc.semaphores;
    let credentials = ctx.credentials();
    let pid = ctx.group().pid();
    let sleeper = {
        let mut state = semaphores.lock();
        let set = state.sets.get(id)?;
        if operations.iter().any(|op| usize::from(op.sem_num) >= set.semaphores.len()) {
            return Err(Errno::EFBIG.here().into());
        }
        let alters = operations.iter().any(|op| op.sem_op != 0);
        set.permissions().check(&credentials, if alters { 0o2 } else { 0o4 })?;
        match state.attempt(id, &operations, pid, None)? {
            Attempt::Done(ready) => {
                drop(state);
                ready.wake();
                return Ok(0);
            }
            Attempt::Blocked(true) => return Err(Errno::EAGAIN.here().into()),
            Attempt::Blocked(false) => state.sleeper(),
        }
    };
    let attempt = || match semaphores.lock().attempt(id, &operations, pid, Some(&sleeper)) {
        Ok(Attempt::Done(ready)) => Some(Ok(ready)),
        Ok(Attempt::Blocked(true)) => Some(Err(Errno::EAGAIN.here())),
        Ok(Attempt::Blocked(false)) => None,
        Err(Errno::EINVAL) => Some(Err(Errno::EIDRM.here())),
        Err(errno) => Some(Err(errno)),
    };
    let end = ctx.wait(&[(sleeper.queue(), PollEvents::all())], deadline, attempt);
    if !matches!(end, Ok(Ok(_))) {
        let ready = semaphores.lock().stop_waiting(id, &sleeper);
        ready.wake();
    }
    match end {
        Ok(Ok(ready)) => {
            ready.wake();
            Ok(0)
        }
        Ok(Err(errno)) => Err(errno.into()),
        Err(WaitEnd::TimedOut) => Err(Errno::EAGAIN.here().into()),
        // Never restarted: see signal(7).
        Err(WaitEnd::Interrupted) => Err(Errno::EINTR.here().into()),
    }
}

fn shown(set: &SemaphoreSet) -> SemidDs {
    SemidDs {
        sem_perm: set.permissions().shown(),
        sem_otime: set.operated,
        sem_ctime: set.changed_at,
        sem_nsems: set.semaphores.len() as u64,
        ..SemidDs::default()
    }
}

/// semctl(2).
pub(crate) fn semctl(ctx: &mut TaskContext, id: i32, number: i32, command: SemCommand, argument: u64) -> SysResult {
    let command = SemCommand::from_raw(plain(command.raw()));
    if id < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let credentials = ctx.credentials();
    let semaphores = &ctx.kernel().ipc.semaphores;
    match command {
        SemCommand::IPC_INFO | SemCommand::SEM_INFO => information(ctx, command == SemCommand::SEM_INFO, argument),
        SemCommand::IPC_STAT | SemCommand::SEM_STAT | SemCommand::SEM_STAT_ANY => {
            let (value, state) = {
                let state = semaphores.lock();
                let (value, set) = match command {
                    SemCommand::IPC_STAT => (0, state.sets.get(id)?),
                    _ => state.sets.in_place(id)?,
                };
                if command != SemCommand::SEM_STAT_ANY {
                    set.permissions().check(&credentials, 0o4)?;
                }
                (value, shown(set))
            };
            ctx.write_object(argument, &state)?;
            Ok(value as u64)
        }
        SemCommand::GETALL => {
            let values: Vec<u16> = {
                let state = semaphores.lock();
                let set = state.sets.get(id)?;
                set.permissions().check(&credentials, 0o4)?;
                let mut values = ctx.kernel().mm.frames.list(set.semaphores.len())?;
                values.extend(set.semaphores.iter().map(|s| s.value as u16));
                values
            };
            ctx.write_bytes(argument, values.as_slice().as_bytes())?;
            Ok(0)
        }
        SemCommand::GETVAL | SemCommand::GETPID | SemCommand::GETNCNT | SemCommand::GETZCNT => {
            let state = semaphores.lock();
            let set = state.sets.get(id)?;
            set.permissions().check(&credentials, 0o4)?;
            let number = usize::try_from(number).map_err(|_| Errno::EINVAL.here())?;
            let semaphore = set.semaphores.get(number).ok_or_else(|| Errno::EINVAL.here())?;
            Ok(match command {
                SemCommand::GETVAL => semaphore.value as u64,
                SemCommand::GETPID => semaphore.pid as u64,
                command => set.waiters(number, command == SemCommand::GETZCNT),
            })
        }
        SemCommand::SETVAL => set_one(ctx, id, number, argument as i32),
        SemCommand::SETALL => set_all(ctx, id, argument),
        SemCommand::IPC_SET => {
            let new: SemidDs = ctx.read_object(argument)?;
            let mut state = semaphores.lock();
            let set = state.sets.get_mut(id)?;
            set.permissions().check_owner(&credentials)?;
            set.permissions_mut().change(&new.sem_perm, &ctx.kernel().id_maps)?;
            set.changed_at = realtime().tv_sec;
            Ok(0)
        }
        SemCommand::IPC_RMID => {
            semaphores.remove(&credentials, id)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.here().into()),
    }
}

/// `IPC_INFO` or, with present usage, `SEM_INFO`.
fn information(ctx: &TaskContext, in_use: bool, address: u64) -> SysResult {
    let (sets, total, highest) = {
        let state = ctx.kernel().ipc.semaphores.lock();
        (state.sets.count() as i32, state.total() as i32, state.sets.highest())
    };
    let [semmsl, semmns, semopm, semmni] = ctx.kernel().ipc.limits.of_semaphores().map(Limit::int_value);
    let info = Seminfo {
        semmap: semmns,
        semmni,
        semmns,
        semmnu: semmns,
        semmsl,
        semopm,
        semume: semopm,
        semusz: if in_use { sets } else { UNDO_SIZE },
        semvmx: SEMVMX,
        semaem: if in_use { total } else { SEMVMX },
    };
    ctx.write_object(address, &info)?;
    Ok(highest)
}

/// `SETVAL`.
fn set_one(ctx: &TaskContext, id: i32, number: i32, value: i32) -> SysResult {
    if !(0..=SEMVMX).contains(&value) {
        return Err(Errno::ERANGE.here().into());
    }
    let credentials = ctx.credentials();
    let ready = {
        let mut state = ctx.kernel().ipc.semaphores.lock();
        let set = state.sets.get(id)?;
        let number = u16::try_from(number).ok().filter(|&n| usize::from(n) < set.semaphores.len());
        let number = number.ok_or_else(|| Errno::EINVAL.here())?;
        set.permissions().check(&credentials, 0o2)?;
        state.assign(id, std::iter::once((number, value)), ctx.group().pid())?
    };
    ready.wake();
    Ok(0)
}

/// `SETALL`.
fn set_all(ctx: &TaskContext, id: i32, address: u64) -> SysResult {
    let credentials = ctx.credentials();
    let count = {
        let state = ctx.kernel().ipc.semaphores.lock();
        let set = state.sets.get(id)?;
        set.permissions().check(&credentials, 0o2)?;
        set.semaphores.len()
    };
    let mut values = ctx.kernel().mm.frames.filled(count, 0_u16)?;
    ctx.read_bytes(address, values.as_mut_slice().as_mut_bytes())?;
    if values.iter().any(|&value| i32::from(value) > SEMVMX) {
        return Err(Errno::ERANGE.here().into());
    }
    let ready = {
        let mut state = ctx.kernel().ipc.semaphores.lock();
        let values = (0..).zip(values.into_iter().map(i32::from));
        state.assign(id, values, ctx.group().pid()).map_err(|_| Errno::EIDRM.here())?
    };
    ready.wake();
    Ok::<u64, SysError>(0)
}
