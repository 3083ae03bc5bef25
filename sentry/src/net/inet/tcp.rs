//! TCP over the loopback: a connection consists of two queues of bytes.

use std::any::Any;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::ioctl::IoctlRequest as Io;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, IpProtocol, MessageFlags, SocketKind};
use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6, SocketLevel, TcpOption};

use super::address::{can_bind, family_of, parse, with_family};
use super::loopback::Loopback;
use super::options::{InetOptions, SocketPhase};
use super::ports::{Holder, check_port};
use super::tcp_info;
use super::tcp_state::{Listening, Phase, State};
use super::{Claim, Endpoint, Report};
use crate::error::SysResult;
use crate::net::limits::Limits;
use crate::net::options::SharedOptions;
use crate::net::receive_queue::RecvFlags;
use crate::net::socket::{Directions, Outgoing, Received, Socket};
use crate::slices::at_most;
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;
use crate::time::TimerService;
use crate::vfs::Caller;
use crate::wait::{READABLE, SigioEvent, WRITABLE, WaitQueue};

/// The size in bytes to which the send buffer of a connection grows automatically.
const GROWN_SEND_BUFFER: u32 = 2_626_560;

/// A TCP socket.
pub(super) struct TcpSocket {
    pub(super) me: Weak<TcpSocket>,
    pub(super) stack: Arc<Loopback>,
    pub(super) family: AddressFamily,
    pub(super) uid: u32,
    pub(super) options: SharedOptions,
    pub(super) inet: InetOptions,
    pub(super) state: Mutex<State>,
    pub(super) queue: WaitQueue,
    pub(super) timers: Weak<TimerService>,
}

impl TcpSocket {
    /// Makes a socket for a task.
    pub(super) fn create(stack: Arc<Loopback>, family: AddressFamily, ctx: &TaskContext) -> Arc<Self> {
        let (send, receive) = stack.limits.tcp_buffers();
        let options = SharedOptions::with_buffers(send, receive);
        let inet = InetOptions::new(family, SocketKind::SOCK_STREAM, &stack.limits);
        let timers = Arc::downgrade(&ctx.kernel().time.timers);
        Self::new(stack, family, ctx.credentials().euid, options, inet, timers)
    }

    fn new(
        stack: Arc<Loopback>,
        family: AddressFamily,
        uid: u32,
        options: SharedOptions,
        inet: InetOptions,
        timers: Weak<TimerService>,
    ) -> Arc<Self> {
        let state = State { local: Some(Endpoint::unspecified(family)), ..State::default() };
        Arc::new_cyclic(|me| TcpSocket {
            me: me.clone(),
            stack,
            family,
            uid,
            options,
            inet,
            state: Mutex::new(Rank::Buffer, state),
            queue: WaitQueue::new(),
            timers,
        })
    }

    /// Makes the socket that accept(2) of a listener will return.
    pub(super) fn child(&self) -> Arc<Self> {
        let (options, inet) = (self.options.inherit(), self.inet.inherit());
        Self::new(self.stack.clone(), self.family, self.uid, options, inet, self.timers.clone())
    }

    pub(super) fn is_v6_only(&self) -> bool {
        self.family == AddressFamily::AF_INET6 && self.inet.v6(V6::IPV6_V6ONLY) != 0
    }

    /// Grows the send buffer of a new connection, unless its size was set.
    pub(super) fn grow(&self) {
        self.options.change(|values| {
            if values.send_buffer == self.stack.limits.tcp_buffers().0 {
                let most = self.stack.limits.tcp_wmem.greatest();
                values.send_buffer = GROWN_SEND_BUFFER.min(most);
            }
        });
    }

    fn inline(&self) -> bool {
        self.options.look(|values| values.oob_inline)
    }

    /// The number of bytes that can be in transit between two sockets: half of each buffer, the rest being overhead.
    fn capacity(from: &TcpSocket, to: &TcpSocket) -> usize {
        let send = from.options.look(|values| values.send_buffer);
        let receive = to.options.look(|values| values.receive_buffer);
        (send / 2) as usize + (receive / 2) as usize
    }

    fn socket_phase(&self) -> SocketPhase {
        let state = self.state.lock();
        SocketPhase {
            is_bound: state.port() != 0,
            is_connected: matches!(state.phase, Phase::Connected) && !state.is_finished(),
        }
    }

    pub(super) fn peer(&self) -> Option<Arc<TcpSocket>> {
        self.state.lock().peer.upgrade()
    }

    /// Handles a reset by the peer.
    pub(super) fn reset(&self) {
        let (reset, refused, closed, port) = {
            let mut state = self.state.lock();
            let refused = matches!(state.phase, Phase::Connecting);
            (state.reset(), refused, state.closed, state.port())
        };
        if reset {
            if closed {
                self.stack.forget(self, port);
            }
            let stats = &self.stack.stats;
            if refused {
                stats.tcp_failed.count()
            } else {
                stats.tcp_reset.count()
            }
            self.queue.notify_all();
            self.queue.signals().notify(SigioEvent::Error);
        }
    }

    /// Handles a FIN of the peer.
    pub(super) fn receive_fin(&self) {
        let (both, first, closed, port, listener) = {
            let mut state = self.state.lock();
            state.fin_received = true;
            (state.fin_sent, state.fin_first, state.closed, state.port(), state.deferred_by.take())
        };
        if both && first {
            self.wait_out();
        }
        if both && closed {
            self.stack.forget(self, port);
        }
        self.enter_queue(listener);
        self.queue.notify_all();
        self.queue.signals().notify(if both { SigioEvent::HangUp } else { SigioEvent::Input });
    }

    /// Releases a port, or else updates the claim to the port that the socket keeps.
    pub(super) fn release(&self, port: Option<u16>) {
        match port {
            Some(port) => self.stack.tcp.release(self, port),
            None => self.refile(),
        }
    }

    /// Updates the index of ports after a change of the claim.
    pub(super) fn refile(&self) {
        let port = self.state.lock().port();
        self.stack.tcp.refile(self, port);
    }

    /// Binds to any free port.
    pub(super) fn bind_automatically(&self) -> Result<(), Errno> {
        let me = self.me.upgrade().ok_or_else(|| Errno::EINVAL.here())?;
        if self.state.lock().port() == 0 {
            self.stack.tcp.take(&me, &self.claim(), 0, |port| self.set_port(port))?;
        }
        Ok(())
    }

    fn set_port(&self, port: u16) {
        let unspecified = Endpoint::unspecified(self.family);
        self.state.lock().local.get_or_insert(unspecified).port = port;
    }

    /// The socket's entry in `/proc/net/tcp`.
    pub(super) fn report(&self) -> Report {
        let options = self.options.values();
        let state = self.state.lock();
        let (sending, receiving) = match &state.phase {
            Phase::Listening(listening) => (listening.backlog, listening.waiting.len()),
            _ => (0, state.stream.bytes()),
        };
        Report {
            family: self.family,
            local: state.local.unwrap_or(Endpoint::unspecified(self.family)),
            remote: state.remote,
            state: state.name(),
            sending,
            receiving,
            uid: self.uid,
            inode: options.inode,
            drops: 0,
            expires: None,
        }
    }
}

impl Holder for TcpSocket {
    fn claim(&self) -> Claim {
        let v6_only = self.is_v6_only();
        let (reuse_address, reuse_port) = self.options.look(|values| (values.reuse_address, values.reuse_port));
        let state = self.state.lock();
        Claim {
            ip: state.local.unwrap_or(Endpoint::unspecified(self.family)).ip,
            v6_only,
            reuse_address,
            reuse_port,
            listening: matches!(state.phase, Phase::Listening(_)),
            uid: self.uid,
            remote: state.remote,
        }
    }
}

impl Socket for TcpSocket {
    fn identity(&self) -> (AddressFamily, SocketKind, i32) {
        (self.family, SocketKind::SOCK_STREAM, IpProtocol::IPPROTO_TCP.raw())
    }

    fn options(&self) -> &SharedOptions {
        &self.options
    }

    fn bind(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        let asked = bind_address(self.family, &self.inet, &self.stack.limits, address)?;
        check_port(ctx, asked.port)?;
        self.stack.prune();
        let me = self.me.upgrade().ok_or_else(|| Errno::EINVAL.here())?;
        {
            let state = self.state.lock();
            if !matches!(state.phase, Phase::Idle) || state.port() != 0 {
                return Err(Errno::EINVAL.here());
            }
        }
        let claim = Claim { ip: asked.ip, ..self.claim() };
        self.stack.tcp.take(&me, &claim, asked.port, |port| {
            let mut state = self.state.lock();
            state.local = Some(Endpoint { ip: asked.ip, port });
            state.bound = Some((asked.ip, asked.port));
        })?;
        Ok(())
    }

    fn listen(&self, _ctx: &TaskContext, backlog: u32) -> Result<(), Errno> {
        let backlog = backlog as usize;
        let port = {
            let mut state = self.state.lock();
            match &mut state.phase {
                Phase::Listening(listening) => {
                    listening.backlog = backlog;
                    return Ok(());
                }
                Phase::Idle => state.port(),
                _ => return Err(Errno::EINVAL.here()),
            }
        };
        let port = if port == 0 {
            self.bind_automatically()?;
            self.state.lock().port()
        } else {
            port
        };
        self.stack.tcp.check_again(self, &self.claim(), port, || {
            let listening = Listening { backlog, ..Listening::default() };
            let mut state = self.state.lock();
            (state.fin_sent, state.no_receive) = (false, false);
            state.phase = Phase::Listening(listening);
        })
    }

    fn connect(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        if family_of(address)? == AddressFamily::AF_UNSPEC {
            return self.disconnect();
        }
        self.begin_connect(ctx, address)
    }

    fn connected(&self) -> Result<(), Errno> {
        self.end_connect()
    }

    fn accept(&self) -> Result<Arc<dyn Socket>, Errno> {
        let accepted = {
            let mut state = self.state.lock();
            let Phase::Listening(listening) = &mut state.phase else { return Err(Errno::EINVAL.here()) };
            listening.waiting.pop_front().ok_or_else(|| Errno::EAGAIN.here())?
        };
        self.let_in();
        Ok(accepted)
    }

    fn local_address(&self) -> Vec<u8> {
        let local = self.state.lock().local;
        local.unwrap_or(Endpoint::unspecified(self.family)).encode(self.family)
    }

    fn peer_address(&self) -> Result<Vec<u8>, Errno> {
        let state = self.state.lock();
        if !matches!(state.phase, Phase::Connected) || state.is_finished() {
            return Err(Errno::ENOTCONN.here());
        }
        Ok(state.remote.ok_or_else(|| Errno::ENOTCONN.here())?.encode(self.family))
    }

    fn send(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno> {
        if let (true, Some(ctx), Some(address)) =
            (message.flags.contains(MessageFlags::MSG_FASTOPEN), ctx, message.address)
            && matches!(self.state.lock().phase, Phase::Idle)
        {
            match self.begin_connect(ctx, address) {
                Ok(()) | Err(Errno::EINPROGRESS) => self.state.lock().in_progress = false,
                Err(errno) => return Err(errno),
            }
        }
        let peer = {
            let mut state = self.state.lock();
            if matches!(state.phase, Phase::Connecting) {
                return Err(Errno::EAGAIN.here());
            }
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if !state.can_send() {
                return Err(Errno::EPIPE.here());
            }
            state.peer.upgrade()
        };
        let len = message.data.len();
        if len == 0 {
            return Ok(0);
        }
        let Some(peer) = peer else {
            self.reset();
            return Ok(len);
        };
        let capacity = Self::capacity(self, &peer);
        let (urgent, inline) = (message.flags.contains(MessageFlags::MSG_OOB), peer.inline());
        let mut state = peer.state.lock();
        if state.closed || matches!(state.phase, Phase::Done) {
            let port = state.port();
            drop(state);
            // The peer replies to the packet with a reset.
            self.stack.forget(&peer, port);
            self.reset();
            return Ok(len);
        }
        let room = state.stream.receive_queue().room(capacity);
        if room < len {
            state.sender_waits = true;
        }
        if room == 0 {
            return Err(Errno::EAGAIN.here());
        }
        let sent = len.min(room);
        let urgent = urgent && sent == len;
        state.put(at_most(message.data, sent), urgent, inline);
        let listener = state.deferred_by.take();
        drop(state);
        peer.enter_queue(listener);
        let remote = {
            let mut state = self.state.lock();
            state.bytes_sent += sent as u64;
            state.remote
        };
        if let Some(remote) = remote {
            self.stack.stats.segment(remote.ip, sent);
        }
        if urgent {
            peer.queue.signals().notify_urgent();
        }
        let events = if urgent { READABLE | PollEvents::POLLPRI } else { READABLE };
        peer.queue.notify_and_signal(events, SigioEvent::Input);
        Ok(sent)
    }

    fn receive(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        let peek = flags.contains(MessageFlags::MSG_PEEK);
        let skip = self.options.look(|values| values.peek_offset).unwrap_or(0);
        let how = RecvFlags { peek, skip, by_sender: false, inline: self.inline() };
        let mut state = self.state.lock();
        match state.phase {
            Phase::Listening(_) => return Err(Errno::ENOTCONN.here()),
            Phase::Idle if !state.no_receive => {
                return Err(state.error.take().unwrap_or_else(|| Errno::ENOTCONN.here()));
            }
            _ => {}
        }
        if flags.contains(MessageFlags::MSG_ERRQUEUE) {
            // TCP has no error queue.
            return Err(Errno::EAGAIN.here());
        }
        if flags.contains(MessageFlags::MSG_OOB) {
            return state.stream.take_urgent(buf, how);
        }
        let len = if buf.is_empty() { 0 } else { state.stream.take(buf, how).map_or(0, |received| received.len) };
        self.options.move_peek_offset(peek, len);
        if len == 0 {
            if state.fin_received || buf.is_empty() {
                return Ok(Received::default());
            }
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            let over = state.no_receive || matches!(state.phase, Phase::Done | Phase::Idle);
            return if over { Ok(Received::default()) } else { Err(Errno::EAGAIN.here()) };
        }
        if !peek && state.sender_waits {
            let left = state.stream.bytes();
            let peer = state.peer.upgrade();
            drop(state);
            if let Some(peer) = peer
                && left * 3 <= Self::capacity(&peer, self) * 2
            {
                self.state.lock().sender_waits = false;
                peer.queue.notify(WRITABLE);
                peer.queue.signals().notify_room();
            }
        }
        Ok(Received { len, full_len: len, ..Received::default() })
    }

    fn can_peek_from(&self) -> bool {
        true
    }

    fn keeps_borders(&self) -> bool {
        false
    }

    fn shutdown(&self, directions: Directions) -> Result<(), Errno> {
        let (result, peer, stopped) = {
            let mut state = self.state.lock();
            let idle = matches!(state.phase, Phase::Idle) || state.is_finished();
            let mut peer = None;
            let mut stopped = None;
            match &state.phase {
                Phase::Listening(_) if directions.receive => {
                    if let Phase::Listening(listening) = std::mem::take(&mut state.phase) {
                        stopped = Some(listening);
                    }
                }
                Phase::Listening(_) => return Ok(()),
                Phase::Connecting => {
                    state.error = Some(Errno::ECONNRESET);
                    state.phase = Phase::Done;
                }
                Phase::Connected if directions.send && !state.fin_sent => peer = state.peer.upgrade(),
                _ => {}
            }
            state.no_receive |= directions.receive;
            if directions.send {
                state.send_fin();
            }
            (if idle { Err(Errno::ENOTCONN.here()) } else { Ok(()) }, peer, stopped)
        };
        if let Some(peer) = peer {
            peer.receive_fin();
        }
        if let Some(listening) = stopped {
            let port = {
                let mut state = self.state.lock();
                let (fin_sent, no_receive) = (state.fin_sent, state.no_receive);
                let port = state.forget(Endpoint::unspecified(self.family));
                (state.fin_sent, state.no_receive) = (fin_sent, no_receive);
                port
            };
            self.release(port);
            Self::stop_listening(listening);
        }
        self.queue.notify_all();
        result
    }

    fn poll(&self) -> PollEvents {
        let inline = self.inline();
        let low = self.options.look(|values| values.receive_low) as usize;
        let (mut events, peer) = {
            let state = self.state.lock();
            (state.poll(inline, low), if state.can_send() { Some(state.peer.upgrade()) } else { None })
        };
        match peer {
            // There is no peer, so a send does not wait.
            Some(None) => events |= WRITABLE,
            Some(Some(peer)) => {
                let capacity = Self::capacity(self, &peer);
                let mut state = peer.state.lock();
                if state.stream.bytes() * 3 <= capacity * 2 {
                    events |= WRITABLE;
                } else {
                    state.sender_waits = true;
                }
            }
            None => {}
        }
        events
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn option(&self, _ctx: &TaskContext, level: SocketLevel, name: i32) -> Result<Vec<u8>, Errno> {
        if level == SocketLevel::SOL_TCP && TcpOption::from_raw(name) == TcpOption::TCP_INFO {
            return Ok(tcp_info::encode(self));
        }
        self.inet.get(level, name, &self.socket_phase())
    }

    fn set_option(&self, ctx: &TaskContext, level: SocketLevel, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.inet.set(ctx, level, name, value, &self.socket_phase())
    }

    fn sharing_changed(&self) {
        self.refile();
    }

    fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    fn is_listening(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Listening(_))
    }

    fn readable_bytes(&self) -> usize {
        let inline = self.inline();
        self.state.lock().readable(inline)
    }

    fn unsent_bytes(&self) -> usize {
        let Some(peer) = self.peer() else { return 0 };
        // Data that fits into the peer's receive buffer counts as acknowledged.
        let arrived = (peer.options.look(|values| values.receive_buffer) / 2) as usize;
        peer.state.lock().stream.bytes().saturating_sub(arrived)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        if Io::from_raw(command) == Io::SIOCATMARK {
            let at_mark = self.state.lock().stream.is_at_mark();
            caller.write_object(argument, &i32::from(at_mark))?;
            return Ok(0);
        }
        Err(Errno::ENOTTY.here().into())
    }

    fn has_drained(&self) -> bool {
        if self.unsent_bytes() > 0
            && let Some(peer) = self.peer()
        {
            peer.state.lock().sender_waits = true;
            return self.unsent_bytes() == 0;
        }
        true
    }

    fn close(&self) {
        let abort = self.options.look(|values| values.linger == Some(0));
        self.end(abort);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The address to which a socket is bound.
///
/// # Errors
/// Errors of [`parse`]; `EINVAL` for an IPv4 address on an IPv6-only socket; `EADDRNOTAVAIL` for an address that is not
/// local.
pub(super) fn bind_address(
    family: AddressFamily,
    inet: &InetOptions,
    limits: &Limits,
    address: &[u8],
) -> Result<Endpoint, Errno> {
    let mut bytes = address.to_vec();
    if family == AddressFamily::AF_INET && family_of(address)? == AddressFamily::AF_UNSPEC {
        // Old programs omit the family for the unspecified address.
        if address.get(4..8) != Some(&[0; 4]) {
            return Err(if address.len() < 16 { Errno::EINVAL.here() } else { Errno::EAFNOSUPPORT.here() });
        }
        bytes = with_family(family, address);
    }
    let asked = parse(family, &bytes)?;
    if family == AddressFamily::AF_INET6 && inet.v6(V6::IPV6_V6ONLY) != 0 && asked.ip.is_ipv4() {
        return Err(Errno::EINVAL.here());
    }
    let anywhere = limits.numbers.ip_nonlocal_bind.get() != 0;
    let free = anywhere || inet.ip(Ip::IP_FREEBIND) != 0 || inet.v6(V6::IPV6_FREEBIND) != 0;
    if !can_bind(asked.ip) && !free {
        return Err(Errno::EADDRNOTAVAIL.here());
    }
    Ok(asked)
}
