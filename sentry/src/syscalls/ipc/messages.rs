//! Message queues: msgget(2), msgop(2), msgctl(2).

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::ipc::{IpcFlags, MsgCommand, Msginfo, MsqidDs};
use amber_abi::poll::PollEvents;

use super::plain;
use crate::clock::realtime;
use crate::error::{Restart, SysResult};
use crate::ipc::{Message, MessageQueue, Object, Receiver, Selection};
use crate::syscalls::args::{PtrIn, PtrOut};
use crate::task::TaskContext;

/// Size of the type before the text.
const TYPE_SIZE: u64 = size_of::<i64>() as u64;
/// Size of a segment of Linux's former message pool, which is still reported.
const SEGMENT_SIZE: i32 = 16;

/// msgget(2).
pub(crate) fn msgget(ctx: &mut TaskContext, key: i32, flags: IpcFlags) -> SysResult {
    Ok(ctx.kernel().ipc.messages.find_or_make(&ctx.credentials(), key, flags.bits())? as u64)
}

/// The errno for a removed queue: `EIDRM` if the caller has waited for it.
fn gone(errno: Errno, waited: bool) -> Errno {
    if waited && errno == Errno::EINVAL { Errno::EIDRM.here() } else { errno }
}

/// msgsnd(2).
pub(crate) fn msgsnd(ctx: &mut TaskContext, id: i32, message: PtrIn, len: usize, flags: IpcFlags) -> SysResult {
    let kind: i64 = ctx.read_object(message.0)?;
    if len as u64 > ctx.kernel().ipc.limits.msgmax.get() || id < 0 || kind < 1 {
        return Err(Errno::EINVAL.here().into());
    }
    let mut text = ctx.buffer(len)?;
    ctx.read_bytes(message.0.wrapping_add(TYPE_SIZE), &mut text)?;
    let messages = &ctx.kernel().ipc.messages;
    messages.admit(len)?;
    let credentials = ctx.credentials();
    let (queue, pid) = (messages.lock().get(id)?.queue(), ctx.group().pid());
    let impatient = flags.contains(IpcFlags::IPC_NOWAIT);
    let mut waiting = Some(Message { kind, text });
    let mut waited = false;
    let attempt = || {
        let mut queues = messages.lock();
        let queue = match queues.get_mut(id) {
            Ok(queue) => queue,
            Err(errno) => return Some(Err(gone(errno, waited))),
        };
        if let Err(errno) = queue.permissions().check(&credentials, 0o2) {
            return Some(Err(errno));
        }
        match queue.push(waiting.take()?, pid) {
            Ok(()) => Some(Ok(queue.receiver_for(kind))),
            Err(_) if impatient => Some(Err(Errno::EAGAIN.here())),
            Err(back) => {
                (waiting, waited) = (Some(back), true);
                None
            }
        }
    };
    let end = ctx.wait(&[(&queue, PollEvents::POLLOUT)], None, attempt);
    if let Some(receiver) = end.map_err(|_| Restart::UnlessHandled)?? {
        receiver.notify(PollEvents::POLLIN);
    }
    Ok(0)
}

/// The message that a receiver selects.
fn selection(kind: i64, flags: IpcFlags) -> Result<Selection, Errno> {
    if flags.contains(IpcFlags::MSG_COPY) {
        let sound = flags.contains(IpcFlags::IPC_NOWAIT) && !flags.contains(IpcFlags::MSG_EXCEPT);
        return if sound { Ok(Selection::Copy(kind)) } else { Err(Errno::EINVAL.here()) };
    }
    Ok(match kind {
        0 => Selection::First,
        ..0 => Selection::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
        _ if flags.contains(IpcFlags::MSG_EXCEPT) => Selection::Except(kind),
        _ => Selection::Of(kind),
    })
}

/// msgrcv(2).
pub(crate) fn msgrcv(
    ctx: &mut TaskContext,
    id: i32,
    message: PtrOut,
    most: usize,
    kind: i64,
    flags: IpcFlags,
) -> SysResult {
    if id < 0 || (most as i64) < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let selection = selection(kind, flags)?;
    let messages = &ctx.kernel().ipc.messages;
    let credentials = ctx.credentials();
    let (queue, pid) = (messages.lock().get(id)?.queue(), ctx.group().pid());
    let impatient = flags.contains(IpcFlags::IPC_NOWAIT);
    let cut = flags.contains(IpcFlags::MSG_NOERROR);
    let attempt = |waiting: Option<&Receiver>| {
        let mut queues = messages.lock();
        let queue = match queues.get_mut(id) {
            Ok(queue) => queue,
            Err(errno) => return Some(Err(gone(errno, waiting.is_some()))),
        };
        if let Err(errno) = queue.permissions().check(&credentials, 0o4) {
            return Some(Err(errno));
        }
        if let Some(receiver) = waiting {
            queue.begin_check(receiver);
        }
        match queue.take(selection, most, cut, pid) {
            Ok(Some(message)) => Some(Ok(message)),
            Ok(None) if impatient => Some(Err(Errno::ENOMSG.here())),
            Ok(None) => None,
            Err(errno) => Some(Err(errno)),
        }
    };
    let found = match attempt(None) {
        Some(answer) => answer?,
        None => {
            let receiver = messages.lock().get_mut(id).map_err(|errno| gone(errno, true))?.receiver(selection);
            let end = ctx.wait(&[(receiver.queue(), PollEvents::POLLIN)], None, || attempt(Some(&receiver)));
            let next = messages.lock().get_mut(id).ok().and_then(|queue| queue.leave(&receiver));
            if let Some(next) = next {
                next.notify(PollEvents::POLLIN);
            }
            end.map_err(|_| Restart::UnlessHandled)??
        }
    };
    queue.notify(PollEvents::POLLOUT);
    ctx.write_object(message.0, &found.kind)?;
    ctx.write_bytes(message.0.wrapping_add(TYPE_SIZE), &found.text)?;
    Ok(found.text.len() as u64)
}

fn shown(queue: &MessageQueue) -> MsqidDs {
    MsqidDs {
        msg_perm: queue.permissions().shown(),
        msg_stime: queue.sent_at,
        msg_rtime: queue.received_at,
        msg_ctime: queue.changed_at,
        msg_cbytes: queue.bytes,
        msg_qnum: queue.count(),
        msg_qbytes: queue.most_bytes,
        msg_lspid: queue.sender,
        msg_lrpid: queue.receiver,
        ..MsqidDs::default()
    }
}

/// msgctl(2).
pub(crate) fn msgctl(ctx: &mut TaskContext, id: i32, command: MsgCommand, buffer: PtrOut) -> SysResult {
    let command = MsgCommand::from_raw(plain(command.raw()));
    if id < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let credentials = ctx.credentials();
    let messages = &ctx.kernel().ipc.messages;
    match command {
        MsgCommand::IPC_INFO | MsgCommand::MSG_INFO => {
            let (count, waiting, bytes, highest) = {
                let queues = messages.lock();
                let sum = |of: fn(&MessageQueue) -> u64| queues.iter().map(|(_, queue)| of(queue)).sum::<u64>() as i32;
                (queues.count() as i32, sum(MessageQueue::count), sum(|queue| queue.bytes), queues.highest())
            };
            let in_use = command == MsgCommand::MSG_INFO;
            let limits = &ctx.kernel().ipc.limits;
            let info = Msginfo {
                msgpool: if in_use {
                    count
                } else {
                    limits.msgmni.int_value().saturating_mul(limits.msgmnb.int_value()) / 1024
                },
                msgmap: if in_use { waiting } else { limits.msgmnb.int_value() },
                msgmax: limits.msgmax.int_value(),
                msgmnb: limits.msgmnb.int_value(),
                msgmni: limits.msgmni.int_value(),
                msgssz: SEGMENT_SIZE,
                msgtql: if in_use { bytes } else { limits.msgmnb.int_value() },
                msgseg: u16::MAX,
                ..Msginfo::default()
            };
            ctx.write_object(buffer.0, &info)?;
            Ok(highest)
        }
        MsgCommand::IPC_STAT | MsgCommand::MSG_STAT | MsgCommand::MSG_STAT_ANY => {
            let (value, state) = {
                let queues = messages.lock();
                let (value, queue) = match command {
                    MsgCommand::IPC_STAT => (0, queues.get(id)?),
                    _ => queues.in_place(id)?,
                };
                if command != MsgCommand::MSG_STAT_ANY {
                    queue.permissions().check(&credentials, 0o4)?;
                }
                (value, shown(queue))
            };
            ctx.write_object(buffer.0, &state)?;
            Ok(value as u64)
        }
        MsgCommand::IPC_SET => {
            let new: MsqidDs = ctx.read_object(buffer.0)?;
            let changed = {
                let mut queues = messages.lock();
                let queue = queues.get_mut(id)?;
                queue.permissions().check_owner(&credentials)?;
                if new.msg_qbytes > ctx.kernel().ipc.limits.msgmnb.get()
                    && !credentials.has(Capability::CAP_SYS_RESOURCE)
                {
                    return Err(Errno::EPERM.here().into());
                }
                queue.permissions_mut().change(&new.msg_perm, &ctx.kernel().id_maps)?;
                queue.most_bytes = new.msg_qbytes;
                queue.changed_at = realtime().tv_sec;
                queue.all_queues()
            };
            // There may be room, or no permission any more.
            changed.iter().for_each(|queue| queue.notify_all());
            Ok(0)
        }
        MsgCommand::IPC_RMID => {
            messages.remove(&credentials, id)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.here().into()),
    }
}
