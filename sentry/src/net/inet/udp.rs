//! UDP over the loopback.

use std::any::Any;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, IpProtocol, MessageFlags, SocketKind, TcpState};
use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6, SocketLevel, UdpOption as Udp};

use super::address::{family_of, is_broadcast, parse, route, with_family};
use super::error_queue::ErrorQueue;
use super::loopback::Loopback;
use super::options::{InetOptions, SocketPhase};
use super::ports::{Holder, check_port};
use super::tcp::bind_address;
use super::udp_control::{self, Chosen, Envelope};
use super::{Claim, Endpoint, Report};
use crate::clock;
use crate::net::control::Control;
use crate::net::options::SharedOptions;
use crate::net::receive_queue::{Packet, ReceiveQueue, RecvFlags};
use crate::net::socket::{Directions, Outgoing, Received, Socket};
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;
use crate::wait::{READABLE, SigioEvent, WaitQueue};

const WRITABLE: PollEvents = PollEvents::POLLOUT.union(PollEvents::POLLWRNORM).union(PollEvents::POLLWRBAND);
/// The maximum size of a datagram, limited by the length fields of IPv4 and UDP.
const MOST_V4: usize = 65507;
const MOST_V6: usize = 65527;

/// A UDP socket.
pub(super) struct UdpSocket {
    me: Weak<UdpSocket>,
    stack: Arc<Loopback>,
    family: AddressFamily,
    uid: u32,
    options: SharedOptions,
    inet: InetOptions,
    state: Mutex<State>,
    queue: WaitQueue,
}

struct State {
    local: Endpoint,
    /// The address and port set by bind(2), which outlast a connect.
    bound: Option<(IpAddr, u16)>,
    remote: Option<Endpoint>,
    receive_queue: ReceiveQueue,
    /// The metadata of the datagrams in the receive queue.
    envelopes: VecDeque<Envelope>,
    /// A datagram being assembled (`MSG_MORE`, `UDP_CORK`).
    corked: Option<(Option<Endpoint>, Vec<u8>)>,
    no_receive: bool,
    no_send: bool,
    error: Option<Errno>,
    errors: ErrorQueue,
    drops: u64,
}

impl UdpSocket {
    /// Makes a socket owned by a user.
    pub(super) fn create(stack: Arc<Loopback>, family: AddressFamily, uid: u32) -> Arc<Self> {
        let state = State {
            local: Endpoint::unspecified(family),
            bound: None,
            remote: None,
            receive_queue: ReceiveQueue::default(),
            envelopes: VecDeque::new(),
            corked: None,
            no_receive: false,
            no_send: false,
            error: None,
            errors: ErrorQueue::default(),
            drops: 0,
        };
        let (send, receive) = stack.limits.default_buffers();
        let inet = InetOptions::new(family, SocketKind::SOCK_DGRAM, &stack.limits);
        Arc::new_cyclic(|me| UdpSocket {
            me: me.clone(),
            stack,
            family,
            uid,
            options: SharedOptions::with_buffers(send, receive),
            inet,
            state: Mutex::new(Rank::Buffer, state),
            queue: WaitQueue::new(),
        })
    }

    fn is_v6_only(&self) -> bool {
        self.family == AddressFamily::AF_INET6 && self.inet.v6(V6::IPV6_V6ONLY) != 0
    }

    fn socket_phase(&self) -> SocketPhase {
        let state = self.state.lock();
        SocketPhase { is_bound: state.local.port != 0, is_connected: state.remote.is_some() }
    }

    fn bind_automatically(&self) -> Result<(), Errno> {
        if self.state.lock().local.port != 0 {
            return Ok(());
        }
        let me = self.me.upgrade().ok_or_else(|| Errno::EINVAL.here())?;
        self.stack.udp.take(&me, &self.claim(), 0, |port| self.state.lock().local.port = port).map_err(|_| {
            // All ports are in use.
            Errno::EAGAIN.here()
        })?;
        Ok(())
    }

    /// The destination of a datagram. AF_INET6 sockets accept addresses of both families.
    fn destination(&self, address: &[u8]) -> Result<Endpoint, Errno> {
        let to = match (self.family, family_of(address)?) {
            (AddressFamily::AF_INET6, AddressFamily::AF_INET) => parse(AddressFamily::AF_INET, address)?,
            (AddressFamily::AF_INET, AddressFamily::AF_UNSPEC) => {
                parse(self.family, &with_family(self.family, address))?
            }
            _ => parse(self.family, address)?,
        };
        if to.ip.is_ipv4() && self.is_v6_only() {
            return Err(Errno::ENETUNREACH.here());
        }
        if to.port == 0 {
            return Err(Errno::EINVAL.here());
        }
        Ok(to)
    }

    /// The effective destination and the source address of packets. A multicast group requires a selected interface.
    fn route(&self, to: IpAddr, chosen: &Chosen) -> Result<(IpAddr, IpAddr), Errno> {
        let (to, from) = if to.is_multicast() && (self.inet.multicasts_over_loopback() || chosen.on_loopback) {
            let (_, from) = route(Endpoint::unspecified(self.family_of(to)).ip)?;
            (to, from)
        } else {
            route(to)?
        };
        if is_broadcast(to) && !self.options.look(|values| values.broadcast) {
            return Err(Errno::EACCES.here());
        }
        let local = self.state.lock().local.ip;
        let bound = (!local.is_unspecified() && local.is_ipv4() == to.is_ipv4()).then_some(local);
        Ok((to, chosen.source.filter(|ip| ip.is_ipv4() == to.is_ipv4()).or(bound).unwrap_or(from)))
    }

    fn family_of(&self, ip: IpAddr) -> AddressFamily {
        if ip.is_ipv4() { AddressFamily::AF_INET } else { AddressFamily::AF_INET6 }
    }

    /// Sends one datagram.
    fn transmit(&self, to: Endpoint, data: &[u8], chosen: &Chosen) -> Result<(), Errno> {
        let (ip, source) = self.route(to.ip, chosen)?;
        let to = Endpoint { ip, port: to.port };
        self.bind_automatically()?;
        let from = Endpoint { ip: source, port: self.state.lock().local.port };
        let (tos, ttl) = self.marks(to.ip, chosen);
        let envelope = Envelope { from, to, tos, ttl, time: clock::realtime() };
        let stats = self.stack.stats.of(to.ip);
        stats.packet(data.len());
        stats.udp_sent.count();
        if to.ip.is_multicast() || is_broadcast(to.ip) {
            for receiver in self.stack.udp.holders(to.port) {
                if receiver.wants(from, to) {
                    receiver.deliver(data, envelope.clone());
                }
            }
            return Ok(());
        }
        match self.stack.udp.find(from, to) {
            Some(receiver) => receiver.deliver(data, envelope),
            None => {
                stats.udp_no_ports.count();
                self.refused(to, data);
            }
        }
        Ok(())
    }

    /// The type of service and the hop limit of a datagram.
    fn marks(&self, to: IpAddr, chosen: &Chosen) -> (u8, u8) {
        let (tos, ttl) = match (to.is_ipv4(), to.is_multicast()) {
            (true, false) => (self.inet.ip(Ip::IP_TOS), self.inet.ip(Ip::IP_TTL)),
            (true, true) => (self.inet.ip(Ip::IP_TOS), self.inet.ip(Ip::IP_MULTICAST_TTL)),
            (false, false) => (self.inet.v6(V6::IPV6_TCLASS), self.inet.v6(V6::IPV6_UNICAST_HOPS)),
            (false, true) => (self.inet.v6(V6::IPV6_TCLASS), self.inet.v6(V6::IPV6_MULTICAST_HOPS)),
        };
        (chosen.tos.unwrap_or(tos as u8), chosen.ttl.unwrap_or(ttl as u8))
    }

    /// Whether a multicast or broadcast datagram matches this socket.
    fn wants(&self, from: Endpoint, to: Endpoint) -> bool {
        let claim = self.claim();
        let to_address = claim.ip == to.ip;
        let to_any = claim.ip.is_unspecified() && (claim.ip.is_ipv4() == to.ip.is_ipv4() || !claim.v6_only);
        let from_peer = claim.remote.is_none_or(|remote| remote == from);
        let member = is_broadcast(to.ip) || self.inet.is_member(to.ip);
        from_peer && (to_address || to_any) && member
    }

    fn deliver(&self, data: &[u8], envelope: Envelope) {
        let limit = self.options.look(|values| values.receive_buffer) as usize;
        {
            let mut state = self.state.lock();
            if !state.receive_queue.has_room(limit) {
                state.drops += 1;
                self.stack.stats.of(envelope.to.ip).udp_no_room.count();
                return;
            }
            self.stack.stats.of(envelope.to.ip).udp_received.count();
            let sender = envelope.from.encode(self.family);
            state.receive_queue.push(Packet::new(data, Some(sender), Control::default()));
            state.envelopes.push_back(envelope);
        }
        self.queue.notify_and_signal(READABLE, SigioEvent::Input);
    }

    /// Handles a destination port without a socket: sets the error of a connected socket or of one with IP_RECVERR.
    fn refused(&self, to: Endpoint, data: &[u8]) {
        let limit = self.options.look(|values| values.receive_buffer) as usize;
        let all = match to.ip {
            IpAddr::V4(_) => self.inet.ip(Ip::IP_RECVERR) != 0,
            IpAddr::V6(_) => self.inet.v6(V6::IPV6_RECVERR) != 0,
        };
        {
            let mut state = self.state.lock();
            if state.remote != Some(to) && !all {
                return;
            }
            if all {
                state.errors.push_refused(self.family, to, data, limit);
            }
            state.error = Some(Errno::ECONNREFUSED);
        }
        self.queue.notify_and_signal(READABLE | PollEvents::POLLERR, SigioEvent::Error);
    }

    /// Removes the oldest entry of the error queue. The pending error becomes that of the next entry.
    fn take_queued_error(&self, buf: &mut [u8]) -> Result<Received, Errno> {
        let mut state = self.state.lock();
        let mut received = state.errors.take(buf)?;
        received.flags |= MessageFlags::MSG_ERRQUEUE;
        state.error = (!state.errors.is_empty()).then_some(Errno::ECONNREFUSED);
        Ok(received)
    }

    fn disconnect(&self) {
        let port = {
            let mut state = self.state.lock();
            state.remote = None;
            state.error = None;
            let port = state.local.port;
            let (ip, kept) = match state.bound {
                Some((ip, bound_port)) => (ip, bound_port != 0),
                None => (Endpoint::unspecified(self.family).ip, false),
            };
            state.local = Endpoint { ip, port: if kept { port } else { 0 } };
            (!kept && port != 0).then_some(port)
        };
        match port {
            Some(port) => self.stack.udp.release(self, port),
            None => self.refile(),
        }
    }

    /// Updates the index of ports after a change of the claim.
    fn refile(&self) {
        let port = self.state.lock().local.port;
        self.stack.udp.refile(self, port);
    }

    /// The socket's entry in `/proc/net/udp`.
    pub(super) fn report(&self) -> Report {
        let inode = self.options.look(|values| values.inode);
        let state = self.state.lock();
        Report {
            family: self.family,
            local: state.local,
            remote: state.remote,
            state: if state.remote.is_some() { TcpState::TCP_ESTABLISHED } else { TcpState::TCP_CLOSE },
            sending: 0,
            receiving: state.receive_queue.bytes(),
            uid: self.uid,
            inode,
            drops: state.drops,
            expires: None,
        }
    }
}

impl Holder for UdpSocket {
    fn claim(&self) -> Claim {
        let v6_only = self.is_v6_only();
        let (reuse_address, reuse_port) = self.options.look(|values| (values.reuse_address, values.reuse_port));
        let state = self.state.lock();
        Claim {
            ip: state.local.ip,
            v6_only,
            reuse_address,
            reuse_port,
            listening: false,
            uid: self.uid,
            remote: state.remote,
        }
    }
}

impl Socket for UdpSocket {
    fn identity(&self) -> (AddressFamily, SocketKind, i32) {
        (self.family, SocketKind::SOCK_DGRAM, IpProtocol::IPPROTO_UDP.raw())
    }

    fn options(&self) -> &SharedOptions {
        &self.options
    }

    fn bind(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        let asked = bind_address(self.family, &self.inet, &self.stack.limits, address)?;
        check_port(ctx, asked.port)?;
        let me = self.me.upgrade().ok_or_else(|| Errno::EINVAL.here())?;
        if self.state.lock().local.port != 0 {
            return Err(Errno::EINVAL.here());
        }
        let claim = Claim { ip: asked.ip, ..self.claim() };
        self.stack.udp.take(&me, &claim, asked.port, |port| {
            let mut state = self.state.lock();
            state.local = Endpoint { ip: asked.ip, port };
            state.bound = Some((asked.ip, asked.port));
        })?;
        Ok(())
    }

    fn connect(&self, _ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        if family_of(address)? == AddressFamily::AF_UNSPEC {
            self.disconnect();
            return Ok(());
        }
        let mixed = self.family == AddressFamily::AF_INET6 && family_of(address)? == AddressFamily::AF_INET;
        let to = parse(if mixed { AddressFamily::AF_INET } else { self.family }, address)?;
        if to.ip.is_ipv4() && self.is_v6_only() {
            return Err(Errno::ENETUNREACH.here());
        }
        let (ip, source) = self.route(to.ip, &Chosen::default())?;
        self.bind_automatically()?;
        {
            let mut state = self.state.lock();
            if state.local.ip.is_unspecified() {
                state.local.ip = source;
            }
            state.remote = Some(Endpoint { ip, port: to.port });
            state.error = None;
        }
        self.refile();
        Ok(())
    }

    fn local_address(&self) -> Vec<u8> {
        self.state.lock().local.encode(self.family)
    }

    fn peer_address(&self) -> Result<Vec<u8>, Errno> {
        // A peer with port 0 does not exist, even if the socket was connected to it.
        let remote = self.state.lock().remote.filter(|remote| remote.port != 0);
        Ok(remote.ok_or_else(|| Errno::ENOTCONN.here())?.encode(self.family))
    }

    fn send(&self, _ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno> {
        if message.flags.contains(MessageFlags::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP.here());
        }
        if message.data.len() > usize::from(u16::MAX) {
            return Err(Errno::EMSGSIZE.here());
        }
        let address = match message.address {
            Some(address) => Some(self.destination(address)?),
            None => None,
        };
        let chosen = udp_control::parse(self.family, &message.control)?;
        let (to, corked) = {
            let mut state = self.state.lock();
            let to = match (state.corked.as_ref().and_then(|(to, _)| *to), address.or(state.remote)) {
                (Some(to), _) | (None, Some(to)) => to,
                (None, None) => return Err(Errno::EDESTADDRREQ.here()),
            };
            if state.no_send {
                return Err(Errno::EPIPE.here());
            }
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            (to, state.corked.take())
        };
        let len = message.data.len();
        let mut collected = corked.map(|(_, data)| data);
        if let Some(data) = &mut collected {
            data.extend_from_slice(message.data);
        }
        let whole = collected.as_deref().unwrap_or(message.data);
        let segment = usize::from(chosen.segment.unwrap_or(self.inet.udp(Udp::UDP_SEGMENT) as u16));
        let most = if to.ip.is_ipv4() { MOST_V4 } else { MOST_V6 };
        if whole.len() > most {
            return Err(Errno::EMSGSIZE.here());
        }
        if message.flags.contains(MessageFlags::MSG_MORE) || self.inet.udp(Udp::UDP_CORK) != 0 {
            let whole = whole.to_vec();
            self.state.lock().corked = Some((Some(to), whole));
            return Ok(len);
        }
        if segment == 0 || whole.len() <= segment {
            self.transmit(to, whole, &chosen)?;
        } else {
            for part in whole.chunks(segment) {
                self.transmit(to, part, &chosen)?;
            }
        }
        Ok(len)
    }

    fn receive(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        if flags.contains(MessageFlags::MSG_ERRQUEUE) {
            return self.take_queued_error(buf);
        }
        let peek = flags.contains(MessageFlags::MSG_PEEK);
        let skip = self.options.look(|values| values.peek_offset).unwrap_or(0);
        let how = RecvFlags { peek, skip, ..RecvFlags::default() };
        let (mut received, envelope, drops) = {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            let Some(received) = state.receive_queue.take_message(buf, how) else {
                return if state.no_receive { Ok(Received::default()) } else { Err(Errno::EAGAIN.here()) };
            };
            let envelope = if peek { state.envelopes.front().cloned() } else { state.envelopes.pop_front() };
            (received, envelope, state.drops)
        };
        if let Some(envelope) = envelope {
            received.control = udp_control::tell(self.family, &self.inet, &self.options.values(), &envelope, drops);
        }
        self.options.move_peek_offset(peek, if peek { received.len } else { received.full_len });
        Ok(received)
    }

    fn can_peek_from(&self) -> bool {
        true
    }

    fn keeps_borders(&self) -> bool {
        true
    }

    fn shutdown(&self, directions: Directions) -> Result<(), Errno> {
        let connected = {
            let mut state = self.state.lock();
            state.no_receive |= directions.receive;
            state.no_send |= directions.send;
            state.remote.is_some()
        };
        self.queue.notify_all();
        if connected { Ok(()) } else { Err(Errno::ENOTCONN.here()) }
    }

    fn poll(&self) -> PollEvents {
        let state = self.state.lock();
        let mut events = WRITABLE;
        if !state.receive_queue.is_empty() {
            events |= READABLE;
        }
        if state.no_receive {
            events |= READABLE | PollEvents::POLLRDHUP;
        }
        if state.no_receive && state.no_send {
            events |= PollEvents::POLLHUP;
        }
        if state.error.is_some() || !state.errors.is_empty() {
            events |= PollEvents::POLLERR;
            if self.options.look(|values| values.select_error_queue) {
                events |= PollEvents::POLLPRI;
            }
        }
        events
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn option(&self, _ctx: &TaskContext, level: SocketLevel, name: i32) -> Result<Vec<u8>, Errno> {
        self.inet.get(level, name, &self.socket_phase())
    }

    fn set_option(&self, ctx: &TaskContext, level: SocketLevel, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.inet.set(ctx, level, name, value, &self.socket_phase())?;
        if self.inet.ip(Ip::IP_RECVERR) == 0 && self.inet.v6(V6::IPV6_RECVERR) == 0 {
            self.state.lock().errors = ErrorQueue::default();
        }
        if (level, Udp::from_raw(name)) == (SocketLevel::SOL_UDP, Udp::UDP_CORK) && self.inet.udp(Udp::UDP_CORK) == 0 {
            // Send the corked datagram.
            let corked = self.state.lock().corked.take();
            if let Some((Some(to), data)) = corked {
                self.transmit(to, &data, &Chosen::default())?;
            }
        }
        Ok(())
    }

    fn sharing_changed(&self) {
        self.refile();
    }

    fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    fn kept_bytes(&self) -> u64 {
        self.state.lock().receive_queue.kept_bytes()
    }

    fn readable_bytes(&self) -> usize {
        self.state.lock().receive_queue.first_bytes()
    }

    fn close(&self) {
        let port = {
            let mut state = self.state.lock();
            state.receive_queue = ReceiveQueue::default();
            state.envelopes.clear();
            state.local.port
        };
        if port != 0 {
            self.stack.udp.release(self, port);
        }
        self.queue.notify_all();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
