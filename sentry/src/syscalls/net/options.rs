//! getsockopt(2) and setsockopt(2).

use amber_abi::errno::Errno;
use amber_abi::sockopt::{SocketLevel, SocketOption};

use super::{descriptor_limit, find};
use crate::error::SysResult;
use crate::net::control::open_process;
use crate::net::option_rules;
use crate::net::socket::Socket;
use crate::syscalls::args::{Fd, PtrIn, PtrOut};
use crate::task::TaskContext;

/// Maximum length of a value.
const MOST_VALUE: i32 = 4096;

/// getsockopt(2). The value is truncated to the guest's buffer.
pub(crate) fn getsockopt(
    ctx: &mut TaskContext,
    fd: Fd,
    level: SocketLevel,
    name: i32,
    value: PtrOut,
    len: PtrOut,
) -> SysResult {
    let socket = find(ctx, fd.0)?.socket;
    let room = usize::try_from(ctx.read_object::<i32>(len.0)?).map_err(|_| Errno::EINVAL.here())?;
    if (level, SocketOption::from_raw(name)) == (SocketLevel::SOL_SOCKET, SocketOption::SO_PEERPIDFD) {
        return peer_pidfd(ctx, &*socket, value, len, room);
    }
    let found = match level {
        SocketLevel::SOL_SOCKET => option_rules::get(&*socket, name)?,
        _ => socket.option(ctx, level, name)?,
    };
    let groups = (level, SocketOption::from_raw(name)) == (SocketLevel::SOL_SOCKET, SocketOption::SO_PEERGROUPS);
    if groups && found.len() > room {
        ctx.write_object(len.0, &(found.len() as i32))?;
        return Err(Errno::ERANGE.here().into());
    }
    let cut = found.get(..room).unwrap_or(&found);
    ctx.write_bytes(value.0, cut)?;
    ctx.write_object(len.0, &(cut.len() as i32))?;
    Ok(0)
}

/// `SO_PEERPIDFD`: opens a pidfd for the peer's process.
fn peer_pidfd(ctx: &TaskContext, socket: &dyn Socket, value: PtrOut, len: PtrOut, room: usize) -> SysResult {
    let peer = socket.peer_credentials().ok_or_else(|| Errno::ENODATA.here())?;
    let description = open_process(ctx, &peer.process)?;
    let place = ctx.files().reserve(0, descriptor_limit(ctx))?;
    let bytes = place.fd().to_ne_bytes();
    let cut = bytes.get(..room).unwrap_or(&bytes);
    ctx.write_bytes(value.0, cut)?;
    ctx.write_object(len.0, &(cut.len() as i32))?;
    place.install(description, true);
    Ok(0)
}

/// setsockopt(2).
pub(crate) fn setsockopt(
    ctx: &mut TaskContext,
    fd: Fd,
    level: SocketLevel,
    name: i32,
    value: PtrIn,
    len: i32,
) -> SysResult {
    let socket = find(ctx, fd.0)?.socket;
    if len < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let mut bytes = vec![0; len.min(MOST_VALUE) as usize];
    ctx.read_bytes(value.0, &mut bytes)?;
    match level {
        SocketLevel::SOL_SOCKET => option_rules::set(ctx, &*socket, name, &bytes)?,
        _ => socket.set_option(ctx, level, name, &bytes)?,
    }
    Ok(0)
}
