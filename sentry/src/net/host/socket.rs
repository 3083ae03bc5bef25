//! Sockets of the guest that are sockets of the host.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use amber_abi::errno::Errno;
use amber_abi::ioctl::IoctlRequest as Io;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, IpProtocol, MessageFlags, SocketKind, TcpState};
use amber_abi::sockopt::{SocketLevel, SocketOption, TcpOption};
use amber_host::fs as files;
use amber_host::poller::readiness;
use amber_host::socket as host;

use super::handshakes::Requests;
use super::kept::{Kept, MESSAGE_BYTES};
use super::waiting::{Waiting, ends};
use super::{Sockets, control};
use crate::error::SysResult;
use crate::net::inet::Endpoint;
use crate::net::inet::ports::check_port;
use crate::net::options::SharedOptions;
use crate::net::socket::{Directions, Outgoing, Received, Socket};
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;
use crate::vfs::Caller;
use crate::wait::WaitQueue;

/// Flags that are passed to the host with a sent message.
const SENT: MessageFlags = MessageFlags::MSG_OOB
    .union(MessageFlags::MSG_DONTROUTE)
    .union(MessageFlags::MSG_EOR)
    .union(MessageFlags::MSG_CONFIRM)
    .union(MessageFlags::MSG_MORE)
    .union(MessageFlags::MSG_PROBE)
    .union(MessageFlags::MSG_FASTOPEN);
/// Flags that are passed to the host for a receive.
const TAKEN: MessageFlags = MessageFlags::MSG_OOB.union(MessageFlags::MSG_PEEK).union(MessageFlags::MSG_ERRQUEUE);
/// Flags of a received message that are passed to the guest.
const TOLD: MessageFlags = MessageFlags::MSG_TRUNC
    .union(MessageFlags::MSG_EOR)
    .union(MessageFlags::MSG_OOB)
    .union(MessageFlags::MSG_CTRUNC)
    .union(MessageFlags::MSG_ERRQUEUE);

/// A socket.
pub(super) struct HostSocket {
    pub(super) sockets: Arc<Sockets>,
    pub(super) number: u64,
    file: Arc<OwnedFd>,
    identity: (AddressFamily, SocketKind, i32),
    /// The owner's user ID, for `/proc/net`.
    pub(super) uid: u32,
    pub(super) options: SharedOptions,
    queue: WaitQueue,
    /// The address of a connect in progress.
    connecting: Mutex<Option<Vec<u8>>>,
    /// The peer's address from accept(2), which can no longer be queried after the peer is gone.
    accepted_from: Mutex<Option<Vec<u8>>>,
    /// Whether data of a stream may come with control messages.
    pub(super) has_control: AtomicBool,
    /// The charge for the host kernel's memory.
    pub(super) kept: Kept,
    /// Whether processes outside the sandbox may have the socket as well.
    pub(super) handed: bool,
    /// Whether it may share a port (`SO_REUSEPORT`).
    pub(super) shares_port: AtomicBool,
    /// The bytes charged for programs of other, closed sockets.
    pub(super) inherited: AtomicU64,
    /// Connections accepted by the sentry but not yet by the guest.
    pub(super) waiting: Waiting,
    /// Connections in a handshake.
    pub(super) requests: Requests,
}

/// Initial state of a socket that depends on its origin.
#[derive(Default)]
struct Origin {
    options: SharedOptions,
    accepted_from: Option<Vec<u8>>,
    has_control: bool,
    shares_port: bool,
    handed: bool,
}

/// The state of a connection; none for sockets without connections.
pub(super) fn tcp_state(socket: BorrowedFd<'_>) -> Option<TcpState> {
    let info = host::option(socket, SocketLevel::SOL_TCP.raw(), TcpOption::TCP_INFO.raw(), 1);
    info.ok()?.first().map(|state| TcpState::from_raw(*state))
}

impl HostSocket {
    /// Makes a socket from one that was opened on the host, for a user.
    pub(super) fn create(
        sockets: Arc<Sockets>,
        file: Arc<OwnedFd>,
        identity: (AddressFamily, SocketKind, i32),
        uid: u32,
    ) -> Arc<Self> {
        let kept = Kept::new(&sockets.memory, identity.1);
        Self::new(sockets, file, identity, uid, kept, Origin::default())
    }

    /// Makes a socket from one that was passed to Amber, for a user.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for families other than internet and unix; errors of the host.
    pub(super) fn adopt(sockets: Arc<Sockets>, file: Arc<OwnedFd>, uid: u32) -> Result<Arc<Self>, Errno> {
        let ask = |option: SocketOption| -> Result<i32, Errno> {
            let value = host::option(file.as_fd(), SocketLevel::SOL_SOCKET.raw(), option.raw(), size_of::<i32>())?;
            Ok(i32::from_ne_bytes(*value.first_chunk().ok_or_else(|| Errno::EINVAL.here())?))
        };
        let family = AddressFamily::from_raw(ask(SocketOption::SO_DOMAIN)? as u16);
        if ![AddressFamily::AF_INET, AddressFamily::AF_INET6, AddressFamily::AF_UNIX].contains(&family) {
            return Err(Errno::EAFNOSUPPORT.here());
        }
        let kind = SocketKind::from_raw(ask(SocketOption::SO_TYPE)? as u32);
        let identity = (family, kind, ask(SocketOption::SO_PROTOCOL)?);
        if ask(SocketOption::SO_ACCEPTCONN)? != 0 {
            // accept(2) has no non-blocking flag, and another process may accept first.
            files::set_nonblocking(file.as_fd())?;
        }
        let kept = Kept::new(&sockets.memory, identity.1);
        Ok(Self::new(sockets, file, identity, uid, kept, Origin { handed: true, ..Origin::default() }))
    }

    /// Whether it is an AF_UNIX socket, whose peer and address are on the host. It only transfers bytes: nothing of the
    /// guest can be named or sent over it.
    fn is_unix(&self) -> bool {
        self.identity.0 == AddressFamily::AF_UNIX
    }

    /// The error of a unix socket for another destination address.
    fn has_its_place(&self) -> Errno {
        if host::peer_address(self.fd()).is_ok() { Errno::EISCONN.here() } else { Errno::ECONNREFUSED.here() }
    }

    fn new(
        sockets: Arc<Sockets>,
        file: Arc<OwnedFd>,
        identity: (AddressFamily, SocketKind, i32),
        uid: u32,
        kept: Kept,
        origin: Origin,
    ) -> Arc<Self> {
        let number = sockets.number();
        let socket = Arc::new(HostSocket {
            sockets,
            number,
            queue: WaitQueue::of_host(file.clone()),
            file,
            identity,
            uid,
            options: origin.options,
            connecting: Mutex::new(Rank::Leaf, None),
            accepted_from: Mutex::new(Rank::Leaf, origin.accepted_from),
            has_control: AtomicBool::new(origin.has_control),
            kept,
            handed: origin.handed,
            shares_port: AtomicBool::new(origin.shares_port),
            inherited: AtomicU64::new(0),
            waiting: Waiting::default(),
            requests: Requests::default(),
        });
        socket.sockets.add(number, &socket);
        socket
    }

    /// The socket of a connection that the host accepted.
    pub(super) fn child(&self, file: OwnedFd, peer: Vec<u8>) -> Arc<Self> {
        let origin = Origin {
            options: self.options.inherit(),
            accepted_from: Some(peer),
            has_control: self.has_control.load(Ordering::Relaxed),
            shares_port: self.shares_port.load(Ordering::Relaxed),
            handed: false,
        };
        let kept = self.kept.of_child(self.saved_packet_bytes(file.as_fd()));
        Self::new(self.sockets.clone(), Arc::new(file), self.identity, self.uid, kept, origin)
    }

    pub(super) fn file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    pub(super) fn kind(&self) -> SocketKind {
        self.identity.1
    }

    /// The host's descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn is_stream(&self) -> bool {
        self.identity.1 == SocketKind::SOCK_STREAM
    }

    pub(super) fn number_option(&self, level: SocketLevel, name: i32) -> Result<i32, Errno> {
        let value = host::option(self.fd(), level.raw(), name, size_of::<i32>())?;
        Ok(i32::from_ne_bytes(*value.first_chunk().ok_or_else(|| Errno::EINVAL.here())?))
    }

    fn number(&self, command: Io) -> Result<i32, Errno> {
        host::number(self.fd(), command.raw())
    }

    /// Sends a message on the host.
    fn pass_on(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno> {
        if self.is_unix() && !message.control.has_no_files() {
            // Open files of the guest do not exist on the host.
            return Err(Errno::EOPNOTSUPP.here());
        }
        let flags = (message.flags & SENT).bits();
        if message.address.is_none() && message.control.others.is_empty() {
            return host::send(self.fd(), message.data, flags);
        }
        if self.is_unix() {
            return match message.address {
                Some(_) => Err(self.has_its_place()),
                None => host::send(self.fd(), message.data, flags),
            };
        }
        let control = control::encode(ctx, &message.control.others)?;
        let sent = host::send_message(self.fd(), message.data, message.address.unwrap_or_default(), &control, flags);
        if let (Err(Errno::EINPROGRESS), Some(address)) = (sent, message.address) {
            *self.connecting.lock() = Some(address.to_vec());
        }
        sent
    }

    /// Receives a message of a unix socket. The host closes files that are passed with it.
    fn receive_unix(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        let told = (flags & MessageFlags::MSG_PEEK) | MessageFlags::MSG_TRUNC;
        let full_len = host::receive(self.fd(), buf, told.bits())?;
        let mut received = Received { len: full_len.min(buf.len()), full_len, ..Received::default() };
        received.flags.set(MessageFlags::MSG_TRUNC, full_len > buf.len());
        Ok(received)
    }

    /// Receives from a stream without control messages.
    fn receive_bytes(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        let told = flags & (TAKEN | MessageFlags::MSG_TRUNC);
        let len = host::receive(self.fd(), buf, told.bits())?;
        Ok(Received { len, full_len: len, flags: flags & MessageFlags::MSG_OOB, ..Received::default() })
    }
}

impl Socket for HostSocket {
    fn identity(&self) -> (AddressFamily, SocketKind, i32) {
        self.identity
    }

    fn options(&self) -> &SharedOptions {
        &self.options
    }

    fn bind(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        if self.is_unix() {
            return Err(Errno::EINVAL.here());
        }
        let has_ports = self.identity.0 != AddressFamily::AF_PACKET && self.identity.1 != SocketKind::SOCK_RAW;
        if let (Some(port), true) = (address.get(2..).and_then(|rest| rest.first_chunk()), has_ports) {
            // The host would check Amber's privileges.
            check_port(ctx, u16::from_be_bytes(*port))?;
        }
        self.kept.moving(|| host::bind(self.fd(), address))
    }

    fn listen(&self, _ctx: &TaskContext, backlog: u32) -> Result<(), Errno> {
        self.kept.moving(|| self.begin_to_listen(backlog))
    }

    fn connect(&self, _ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        if self.is_unix() {
            return Err(self.has_its_place());
        }
        // O_ASYNC reports that the socket is writable once it is connected.
        self.queue.signals().note_full();
        let connect = || self.kept.moving(|| host::connect(self.fd(), address));
        let begun = if ends(address) { self.stop_listening(connect) } else { connect() };
        match begun {
            Err(Errno::EINPROGRESS) => *self.connecting.lock() = Some(address.to_vec()),
            Err(Errno::EALREADY) => {}
            _ => *self.connecting.lock() = None,
        }
        begun
    }

    fn connected(&self) -> Result<(), Errno> {
        let Some(address) = self.connecting.lock().clone() else { return Ok(()) };
        let over = PollEvents::POLLOUT | PollEvents::POLLERR | PollEvents::POLLHUP;
        if !self.poll().intersects(over) {
            return Err(Errno::EINPROGRESS.here());
        }
        // A second connect returns the result of the first one and clears it.
        let ended = match host::connect(self.fd(), &address) {
            Err(Errno::EALREADY | Errno::EINPROGRESS) => return Err(Errno::EINPROGRESS.here()),
            Err(Errno::EISCONN) => Ok(()),
            answer => answer,
        };
        *self.connecting.lock() = None;
        ended
    }

    fn accept(&self) -> Result<Arc<dyn Socket>, Errno> {
        Ok(self.accept_next()?)
    }

    fn local_address(&self) -> Vec<u8> {
        let family = self.identity.0;
        host::local_address(self.fd()).unwrap_or_else(|_| Endpoint::unspecified(family).encode(family))
    }

    fn peer_address(&self) -> Result<Vec<u8>, Errno> {
        let accepted = self.accepted_from.lock().take();
        accepted.map_or_else(|| host::peer_address(self.fd()), Ok)
    }

    fn send(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno> {
        let sent = self.pass_on(ctx, message);
        if let Ok(sent) = sent {
            self.sockets.memory.add_unsettled(sent as u64 + MESSAGE_BYTES);
        }
        sent
    }

    fn receive(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        let errors = flags.contains(MessageFlags::MSG_ERRQUEUE);
        if self.is_stream() && !errors && !self.has_control.load(Ordering::Relaxed) {
            return self.receive_bytes(buf, flags);
        }
        if self.is_unix() {
            return self.receive_unix(buf, flags);
        }
        let told = flags & (TAKEN | MessageFlags::MSG_TRUNC);
        let message = host::receive_message(self.fd(), buf, told.bits())?;
        // For a stream, the length may exceed the buffer because MSG_TRUNC discards data; for a message it is the full
        // length.
        let len = if self.is_stream() { message.len } else { message.len.min(buf.len()) };
        let mut received = Received { len, full_len: message.len, ..Received::default() };
        received.flags = MessageFlags::from_bits_retain(message.flags) & TOLD;
        received.address = (!message.address.is_empty()).then_some(message.address);
        received.control.others = control::decode(&message.control);
        Ok(received)
    }

    fn host_stream(&self) -> Option<BorrowedFd<'_>> {
        if !self.is_stream() || self.has_control.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.fd())
    }

    fn keeps_borders(&self) -> bool {
        !self.is_stream()
    }

    fn shutdown(&self, directions: Directions) -> Result<(), Errno> {
        let how = match (directions.receive, directions.send) {
            (true, true) => 2,
            (false, _) => 1,
            (true, false) => 0,
        };
        let shutdown = || self.kept.moving(|| host::shutdown(self.fd(), how));
        if directions.receive { self.stop_listening(shutdown) } else { shutdown() }
    }

    fn poll(&self) -> PollEvents {
        readiness(self.fd()) | self.waiting.events()
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn option(&self, _ctx: &TaskContext, level: SocketLevel, name: i32) -> Result<Vec<u8>, Errno> {
        self.read_option(level, name)
    }

    fn set_option(&self, ctx: &TaskContext, level: SocketLevel, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.change_option(ctx, level, name, value)
    }

    fn socket_option(&self, name: i32) -> Option<Result<Vec<u8>, Errno>> {
        self.read_common_option(name)
    }

    fn set_socket_option(&self, ctx: &TaskContext, name: i32, value: &[u8]) -> Option<Result<(), Errno>> {
        self.change_common_option(ctx, name, value)
    }

    fn take_error(&self) -> Option<Errno> {
        let error = self.number_option(SocketLevel::SOL_SOCKET, SocketOption::SO_ERROR.raw()).ok()?;
        (error != 0).then(|| Errno::from_host(std::io::Error::from_raw_os_error(error)))
    }

    fn is_listening(&self) -> bool {
        self.number_option(SocketLevel::SOL_SOCKET, SocketOption::SO_ACCEPTCONN.raw()).is_ok_and(|on| on != 0)
    }

    fn readable_bytes(&self) -> usize {
        self.number(Io::FIONREAD).map_or(0, |bytes| bytes.max(0) as usize)
    }

    fn kept_bytes(&self) -> u64 {
        let inherited = self.inherited.load(Ordering::Relaxed);
        self.kept.bytes() + self.waiting.kept_bytes() + inherited
    }

    fn unsent_bytes(&self) -> usize {
        self.number(Io::TIOCOUTQ).map_or(0, |bytes| bytes.max(0) as usize)
    }

    fn has_drained(&self) -> bool {
        match tcp_state(self.fd()) {
            Some(TcpState::TCP_FIN_WAIT1 | TcpState::TCP_CLOSING | TcpState::TCP_LAST_ACK) => false,
            Some(TcpState::TCP_ESTABLISHED | TcpState::TCP_CLOSE_WAIT) => self.unsent_bytes() == 0,
            _ => true,
        }
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        let command = Io::from_raw(command);
        match command {
            Io::SIOCATMARK | Io::SIOCOUTQNSD if self.identity.2 == IpProtocol::IPPROTO_TCP.raw() => {
                caller.write_object(argument, &self.number(command)?)?;
                Ok(0)
            }
            Io::SIOCGSTAMP_OLD | Io::SIOCGSTAMPNS_OLD => {
                caller.write_object(argument, &host::timestamp(self.fd(), command.raw())?)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.here().into()),
        }
    }

    /// The host's socket is closed with the last reference to it.
    fn close(&self) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        self.reset_waiting();
        self.note_closed_listener();
        self.keep_unsent();
        self.leave_program();
        self.sockets.forget(self.number);
    }
}
