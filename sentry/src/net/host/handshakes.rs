//! Connections in a handshake.
//!
//! The host keeps a request for each, up to the backlog of each listener. It does not charge them to a socket, does not
//! report their number, and keeps them until they expire. If memory is limited, the host's backlog is therefore limited
//! too, whatever the guest requests, and its maximum memory is charged to the listener.
//!
//! Requests outlive their listener and refer to it. The charge therefore remains until the host's table of connections
//! (sock_diag(7)) has no more requests at its port.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amber_abi::errno::Errno;
use amber_abi::netlink::*;
use amber_abi::socket::TcpState;
use amber_abi::sockopt::{Ipv6Option as V6, SocketLevel, TcpOption};
use amber_host::socket as host;
use amber_platform::KernelCharge;
use zerocopy::{FromBytes, IntoBytes};

use super::facts::{DATAGRAM, netlink};
use super::socket::HostSocket;
use crate::sync::{Mutex, Rank};

/// Memory of a request with the options of its SYN, in bytes, rounded up.
pub(super) const REQUEST_BYTES: u64 = 448;
/// Memory of a request that keeps a SYN of maximum length, in bytes.
const PACKET_BYTES: u64 = 132 << 10;
/// The maximum backlog of the host while the charges of all listeners are below this part of the memory limit, and
/// above it.
const MOST: u64 = 512;
const BEYOND: u64 = 16;
const PART: u64 = 16;
/// The time that a request may outlive its listener. The host checks each again after at most two minutes.
const OUTLIVES: Duration = Duration::from_secs(125);
/// The number of closed listeners after which an update is requested.
const MANY_CLOSED: usize = 256;
/// The position of the port in `struct inet_diag_msg`.
const DIAG_PORT: usize = 4;

/// The requests of a listener.
#[derive(Default)]
pub(super) struct Requests {
    /// The listener's port.
    port: AtomicU16,
    /// The maximum memory of requests since it began to listen, in bytes; 0 if it does not listen.
    bytes: AtomicU64,
    /// Whether requests may keep their SYN.
    with_packet: AtomicBool,
}

impl Requests {
    /// The bytes charged for the requests.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn each(&self) -> u64 {
        if self.with_packet.load(Ordering::Relaxed) { PACKET_BYTES } else { REQUEST_BYTES }
    }

    /// Called before an option is changed. Returns true if requests may keep their SYN from now on, from which some
    /// control messages are taken.
    pub(super) fn note_option(&self, level: SocketLevel, name: i32) -> bool {
        const OF_PACKET: [V6; 10] = [
            V6::IPV6_RECVPKTINFO,
            V6::IPV6_2292PKTINFO,
            V6::IPV6_RECVHOPLIMIT,
            V6::IPV6_2292HOPLIMIT,
            V6::IPV6_RECVHOPOPTS,
            V6::IPV6_RECVRTHDR,
            V6::IPV6_RECVDSTOPTS,
            V6::IPV6_FLOWINFO,
            V6::IPV6_RECVTCLASS,
            V6::IPV6_RECVPATHMTU,
        ];
        let keeps = match level {
            SocketLevel::SOL_TCP => name == TcpOption::TCP_SAVE_SYN.raw(),
            SocketLevel::SOL_IPV6 => OF_PACKET.iter().any(|option| option.raw() == name),
            _ => false,
        };
        keeps && !self.with_packet.swap(true, Ordering::Relaxed)
    }
}

/// A closed listener.
struct Gone {
    port: u16,
    /// The maximum memory of its requests, in bytes.
    bytes: u64,
    /// The charge for the requests, the listener's structure and its filters.
    _charge: KernelCharge,
    until: Instant,
}

/// The requests of all listeners.
pub(super) struct Handshakes {
    gone: Mutex<Vec<Gone>>,
    /// The maximum memory of the requests of all open and closed listeners, in bytes.
    bytes: AtomicU64,
}

impl Default for Handshakes {
    fn default() -> Self {
        Handshakes { gone: Mutex::new(Rank::Leaf, Vec::new()), bytes: AtomicU64::new(0) }
    }
}

impl Handshakes {
    /// The number of closed listeners that are still charged.
    pub(super) fn count(&self) -> usize {
        self.gone.lock().len()
    }

    /// Drops the charges of closed listeners that have no more requests.
    pub(super) fn let_go(&self) {
        // Listeners closed in the meantime are appended.
        let mut gone = std::mem::take(&mut *self.gone.lock());
        if gone.is_empty() {
            return;
        }
        let before = gone.iter().map(|listener| listener.bytes).sum::<u64>();
        let now = Instant::now();
        gone.retain(|listener| now < listener.until);
        match ports_with_requests() {
            Ok(ports) => gone.retain(|listener| ports.contains(&listener.port)),
            Err(errno) => {
                log::debug!("connections in a handshake cannot be listed ({errno}): all that may be are charged")
            }
        }
        let after = gone.iter().map(|listener| listener.bytes).sum::<u64>();
        self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        self.gone.lock().append(&mut gone);
    }
}

impl HostSocket {
    /// The maximum backlog of the socket on the host.
    pub(super) fn most_requests(&self) -> u32 {
        let memory = &self.sockets.memory;
        if !memory.is_limited() || self.handed {
            return u32::MAX;
        }
        let all = self.sockets.handshakes.bytes.load(Ordering::Relaxed).saturating_sub(self.requests.bytes());
        let most = if all + MOST * REQUEST_BYTES <= memory.lasting_cap() / PART { MOST } else { BEYOND };
        // A backlog of 0 would only permit connections with SYN cookies.
        (most * REQUEST_BYTES / self.requests.each()).max(1) as u32
    }

    /// Charges the maximum memory of a backlog of the host, while the socket listens.
    pub(super) fn charge_requests(&self, backlog: u32) {
        if !self.sockets.memory.is_limited() || self.handed {
            return;
        }
        let (_, port) = self.port();
        self.requests.port.store(port, Ordering::Relaxed);
        // The host accepts one more than the backlog. Requests from a longer backlog before still exist.
        let bytes = (u64::from(backlog) + 1) * self.requests.each();
        let before = self.requests.bytes.fetch_max(bytes, Ordering::Relaxed);
        self.sockets.handshakes.bytes.fetch_add(bytes.saturating_sub(before), Ordering::Relaxed);
    }

    /// Called when the socket stops listening, if it did: keeps the charge for its requests and the memory they refer
    /// to.
    pub(super) fn note_closed_listener(&self) {
        let bytes = self.requests.bytes.swap(0, Ordering::Relaxed);
        if bytes == 0 {
            return;
        }
        let port = self.requests.port.load(Ordering::Relaxed);
        let _charge = self.kept.another(bytes + self.kept.lasting_bytes(self.fd()));
        let mut gone = self.sockets.handshakes.gone.lock();
        gone.push(Gone { port, bytes, _charge, until: Instant::now() + OUTLIVES });
        let many = gone.len().is_multiple_of(MANY_CLOSED);
        drop(gone);
        if many {
            self.sockets.request_update();
        }
    }

    /// The size of the SYN that the host keeps for `TCP_SAVED_SYN` of a connection of this listener, in bytes.
    pub(super) fn saved_packet_bytes(&self, connection: BorrowedFd<'_>) -> u64 {
        if !self.requests.with_packet.load(Ordering::Relaxed) {
            return 0;
        }
        let name = TcpOption::TCP_SAVED_SYN.raw();
        host::wanted_room(connection, SocketLevel::SOL_TCP.raw(), name).next_power_of_two() as u64
    }
}

/// The ports at which the host has requests, including those of other processes in the network namespace.
///
/// # Errors
/// Errors of the host, which may not support the request.
fn ports_with_requests() -> Result<HashSet<u16>, Errno> {
    let socket = netlink(NetlinkProtocol::NETLINK_SOCK_DIAG)?;
    // The older request type, which covers both families at once.
    let request = InetDiagReq { idiag_states: 1 << TcpState::TCP_SYN_RECV.raw(), ..InetDiagReq::default() };
    let header = Nlmsghdr {
        nlmsg_len: (size_of::<Nlmsghdr>() + size_of::<InetDiagReq>()) as u32,
        nlmsg_type: TCPDIAG_GETSOCK,
        nlmsg_flags: NetlinkFlags::NLM_F_REQUEST.bits() | NLM_F_DUMP,
        ..Nlmsghdr::default()
    };
    host::send(socket.as_fd(), &[header.as_bytes(), request.as_bytes()].concat(), 0)?;
    let mut ports = HashSet::new();
    let mut room = vec![0; DATAGRAM];
    loop {
        let len = host::receive(socket.as_fd(), &mut room, 0)?;
        let mut answer = room.get(..len).filter(|answer| !answer.is_empty()).ok_or_else(|| Errno::EIO.here())?;
        while let Ok((header, body)) = Nlmsghdr::read_from_prefix(answer) {
            match header.nlmsg_type {
                NLMSG_DONE => return Ok(ports),
                NLMSG_ERROR => return Err(Errno::EOPNOTSUPP.here()),
                _ => {}
            }
            if let Some(port) = body.get(DIAG_PORT..).and_then(|rest| rest.first_chunk()) {
                ports.insert(u16::from_be_bytes(*port));
            }
            answer = answer.get(align(header.nlmsg_len as usize).max(size_of::<Nlmsghdr>())..).unwrap_or_default();
        }
    }
}
