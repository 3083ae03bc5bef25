//! Sockets: creation, addresses, connections, shutdown.

use std::sync::Arc;
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, ShutdownHow, SocketFlags, SocketKind, SocketType};

use super::{Opened, descriptor_limit, find};
use crate::error::{Restart, SysError, SysResult};
use crate::net::socket::{Directions, Socket, SocketFile};
use crate::net::unix::UnixSocket;
use crate::net::{self};
use crate::syscalls::args::{Fd, FdPair, PtrOut, SockaddrIn, SockaddrOut};
use crate::syscalls::fs::support::check_open_files;
use crate::task::TaskContext;
use crate::vfs::FileDescription;
use crate::wait::{WaitEnd, deadline_in};

/// Maximum length of an address of any family (`struct sockaddr_storage`).
const MOST_ADDRESS: i32 = 128;

fn check_flags(flags: SocketFlags) -> Result<(), Errno> {
    if SocketFlags::all().contains(flags) { Ok(()) } else { Err(Errno::EINVAL.here()) }
}

fn describe(ctx: &TaskContext, socket: Arc<dyn Socket>, flags: SocketFlags) -> Arc<FileDescription> {
    let credentials = ctx.credentials();
    let file = SocketFile::new(&ctx.kernel().vfs, socket, credentials.fsuid, credentials.fsgid);
    let nonblocking = flags.contains(SocketFlags::SOCK_NONBLOCK);
    let status = if nonblocking { OpenFlags::O_NONBLOCK } else { OpenFlags::empty() };
    FileDescription::new(&ctx.kernel().vfs, file, None, OpenFlags::O_RDWR | status)
}

/// socket(2).
pub(crate) fn socket(ctx: &mut TaskContext, domain: AddressFamily, kind: SocketType, protocol: i32) -> SysResult {
    check_flags(kind.flags())?;
    check_open_files(ctx)?;
    let socket = net::create(ctx, domain, kind.kind(), protocol)?;
    let description = describe(ctx, socket, kind.flags());
    let close_on_exec = kind.flags().contains(SocketFlags::SOCK_CLOEXEC);
    Ok(ctx.files().insert(description, close_on_exec, descriptor_limit(ctx))? as u64)
}

/// socketpair(2).
pub(crate) fn socketpair(
    ctx: &mut TaskContext,
    domain: AddressFamily,
    kind: SocketType,
    protocol: i32,
    pair: FdPair,
) -> SysResult {
    check_flags(kind.flags())?;
    if domain != AddressFamily::AF_UNIX {
        // Other families have sockets, but no pairs.
        net::create(ctx, domain, kind.kind(), protocol)?;
        return Err(Errno::EOPNOTSUPP.here().into());
    }
    let first = UnixSocket::create(ctx, kind.kind(), protocol)?;
    let second = UnixSocket::create(ctx, kind.kind(), protocol)?;
    UnixSocket::join(&first, &second);
    let (files, limit) = (ctx.files(), descriptor_limit(ctx));
    check_open_files(ctx)?;
    let (one, other) = (files.reserve(0, limit)?, files.reserve(0, limit)?);
    ctx.write_object(pair.0, &[one.fd(), other.fd()])?;
    let close_on_exec = kind.flags().contains(SocketFlags::SOCK_CLOEXEC);
    one.install(describe(ctx, first, kind.flags()), close_on_exec);
    other.install(describe(ctx, second, kind.flags()), close_on_exec);
    Ok(0)
}

/// Reads an address from the guest.
pub(super) fn read_address(ctx: &TaskContext, address: u64, len: i32) -> Result<Vec<u8>, Errno> {
    if !(0..=MOST_ADDRESS).contains(&len) {
        return Err(Errno::EINVAL.here());
    }
    let mut bytes = vec![0; len as usize];
    ctx.read_bytes(address, &mut bytes)?;
    Ok(bytes)
}

/// Writes an address to the guest, truncated to its buffer, and the full length to the variable with the buffer's
/// length.
pub(super) fn write_address(ctx: &TaskContext, bytes: &[u8], address: u64, len_address: u64) -> Result<(), Errno> {
    let room = ctx.read_object::<i32>(len_address)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL.here())?;
    ctx.write_bytes(address, bytes.get(..room).unwrap_or(bytes))?;
    ctx.write_object(len_address, &(bytes.len() as u32))
}

/// bind(2).
pub(crate) fn bind(ctx: &mut TaskContext, fd: Fd, address: SockaddrIn, len: i32) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let address = read_address(ctx, address.0, len)?;
    opened.socket.bind(ctx, &address)?;
    Ok(0)
}

/// listen(2).
pub(crate) fn listen(ctx: &mut TaskContext, fd: Fd, backlog: i32) -> SysResult {
    // As on Linux, a negative backlog is a large one.
    let most = ctx.kernel().tunables.somaxconn.count();
    let backlog = u64::from(backlog as u32).min(most) as u32;
    find(ctx, fd.0)?.socket.listen(ctx, backlog)?;
    Ok(0)
}

/// accept(2).
pub(crate) fn accept(ctx: &mut TaskContext, fd: Fd, address: SockaddrOut, len: PtrOut) -> SysResult {
    accept4(ctx, fd, address, len, SocketFlags::empty())
}

/// accept4(2).
pub(crate) fn accept4(
    ctx: &mut TaskContext,
    fd: Fd,
    address: SockaddrOut,
    len: PtrOut,
    flags: SocketFlags,
) -> SysResult {
    check_flags(flags)?;
    let opened = find(ctx, fd.0)?;
    let reserved = ctx.files().reserve(0, descriptor_limit(ctx))?;
    check_open_files(ctx)?;
    let nonblocking = opened.description.is_nonblocking();
    let accepted = opened.wait_in_turn(ctx, nonblocking, || opened.socket.accept())?;
    if !address.is_null() {
        // A disconnected peer has no address.
        let peer = accepted.peer_address().map_err(|_| Errno::ECONNABORTED.here());
        if let Err(errno) = peer.and_then(|peer| write_address(ctx, &peer, address.0, len.0)) {
            accepted.close();
            return Err(errno.into());
        }
    }
    Ok(reserved.install(describe(ctx, accepted, flags), flags.contains(SocketFlags::SOCK_CLOEXEC)) as u64)
}

/// connect(2).
pub(crate) fn connect(ctx: &mut TaskContext, fd: Fd, address: SockaddrIn, len: i32) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let address = read_address(ctx, address.0, len)?;
    let begun = match opened.socket.connect(ctx, &address) {
        // The listener's backlog is full. Its queue is notified when a connection is accepted.
        Err(Errno::EAGAIN) => opened.wait_for_listener(ctx, &address),
        other => other.map_err(SysError::from),
    };
    match begun {
        // A blocking call also waits for a connection that a non-blocking one has begun.
        Err(SysError::Errno(Errno::EINPROGRESS | Errno::EALREADY)) if !opened.description.is_nonblocking() => {
            let wait = opened.wait(ctx, true, PollEvents::POLLOUT, || match opened.socket.connected() {
                Err(Errno::EINPROGRESS) => Err(Errno::EAGAIN.here()),
                ended => ended,
            });
            match wait {
                // At the timeout, the connection attempt continues.
                Err(SysError::Errno(Errno::EAGAIN)) => Err(Errno::EINPROGRESS.here().into()),
                Err(error) => Err(error),
                Ok(()) => Ok(0),
            }
        }
        Err(error) => Err(error),
        Ok(()) => Ok(0),
    }
}

/// getsockname(2).
pub(crate) fn getsockname(ctx: &mut TaskContext, fd: Fd, address: SockaddrOut, len: PtrOut) -> SysResult {
    let name = find(ctx, fd.0)?.socket.local_address();
    write_address(ctx, &name, address.0, len.0)?;
    Ok(0)
}

/// getpeername(2).
pub(crate) fn getpeername(ctx: &mut TaskContext, fd: Fd, address: SockaddrOut, len: PtrOut) -> SysResult {
    let name = find(ctx, fd.0)?.socket.peer_address()?;
    write_address(ctx, &name, address.0, len.0)?;
    Ok(0)
}

/// shutdown(2).
pub(crate) fn shutdown(ctx: &mut TaskContext, fd: Fd, how: ShutdownHow) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let directions = match how {
        ShutdownHow::SHUT_RD => Directions { receive: true, send: false },
        ShutdownHow::SHUT_WR => Directions { receive: false, send: true },
        ShutdownHow::SHUT_RDWR => Directions { receive: true, send: true },
        _ => return Err(Errno::EINVAL.here().into()),
    };
    opened.socket.shutdown(directions)?;
    Ok(0)
}

/// An attempt in a wait; none to keep waiting.
type Ready<'a, T> = dyn FnMut() -> Option<Result<T, Errno>> + 'a;

impl Opened {
    /// Attempts an operation until it does not return `EAGAIN`, unless the socket is non-blocking or its timeout
    /// expires.
    pub(super) fn wait<T>(
        &self,
        ctx: &TaskContext,
        writing: bool,
        events: PollEvents,
        attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, SysError> {
        self.wait_unless(ctx, self.description.is_nonblocking(), writing, events, attempt)
    }

    /// Like [`wait`](Self::wait), with the given blocking mode.
    pub(super) fn wait_unless<T>(
        &self,
        ctx: &TaskContext,
        nonblocking: bool,
        writing: bool,
        events: PollEvents,
        attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, SysError> {
        self.wait_as(nonblocking, writing, attempt, |deadline, ready| {
            ctx.wait(&[(self.socket.queue(), events)], deadline, ready)
        })
    }

    /// Like [`wait_unless`](Self::wait_unless), for single items such as connections and datagrams: each wakes one
    /// waiter.
    pub(super) fn wait_in_turn<T>(
        &self,
        ctx: &TaskContext,
        nonblocking: bool,
        attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, SysError> {
        self.wait_as(nonblocking, false, attempt, |deadline, ready| {
            ctx.wait_in_turn(self.socket.queue(), PollEvents::POLLIN, deadline, ready)
        })
    }

    fn wait_as<T>(
        &self,
        nonblocking: bool,
        writing: bool,
        mut attempt: impl FnMut() -> Result<T, Errno>,
        wait: impl FnOnce(Option<Instant>, &mut Ready<'_, T>) -> Result<Result<T, Errno>, WaitEnd>,
    ) -> Result<T, SysError> {
        let first = attempt();
        if nonblocking || !matches!(first, Err(Errno::EAGAIN)) {
            return Ok(first?);
        }
        let timeout = self.socket.options().timeout(writing);
        let mut ready = || match attempt() {
            Err(Errno::EAGAIN) => None,
            answer => Some(answer),
        };
        match wait(timeout.and_then(deadline_in), &mut ready) {
            Ok(answer) => Ok(answer?),
            Err(WaitEnd::TimedOut) => Err(Errno::EAGAIN.here().into()),
            // A wait with a timeout cannot be continued after a signal.
            Err(WaitEnd::Interrupted) if timeout.is_some() => Err(Errno::EINTR.here().into()),
            Err(WaitEnd::Interrupted) => Err(Restart::ByFlag.into()),
        }
    }

    fn wait_for_listener(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), SysError> {
        if self.description.is_nonblocking() || self.socket.identity().1 == SocketKind::SOCK_DGRAM {
            return Err(Errno::EAGAIN.here().into());
        }
        let listener = ctx.kernel().network.unix.find(ctx, self.socket.identity().1, address)?;
        let timeout = self.socket.options().timeout(true);
        // Each attempt looks the path up again, which may lead to another socket then.
        let ready = || match self.socket.connect(ctx, address) {
            Err(Errno::EAGAIN) => None,
            answer => Some(answer),
        };
        let queues = [(listener.queue(), PollEvents::POLLOUT)];
        match ctx.wait(&queues, timeout.and_then(deadline_in), ready) {
            Ok(answer) => Ok(answer?),
            Err(WaitEnd::TimedOut) => Err(Errno::EAGAIN.here().into()),
            Err(WaitEnd::Interrupted) if timeout.is_some() => Err(Errno::EINTR.here().into()),
            Err(WaitEnd::Interrupted) => Err(Restart::ByFlag.into()),
        }
    }
}
