//! AF_INET and AF_INET6: TCP and UDP (see ip(7), ipv6(7), tcp(7), udp(7)).

pub mod address;
mod error_queue;
pub mod interface;
mod loopback;
mod memberships;
mod option_rules;
mod options;
mod ports;
mod tcp;
mod tcp_close;
mod tcp_connect;
mod tcp_info;
mod tcp_state;
pub mod traffic;
mod udp;
mod udp_control;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, IpProtocol, SocketKind, TcpState};

use crate::net::socket::Socket;
use crate::task::TaskContext;

pub use address::Endpoint;
pub use interface::Interface;
pub use loopback::Loopback;
pub use traffic::Traffic;

/// What carries the packets of a sandbox, or does without them.
pub trait NetworkStack: Send + Sync {
    /// Makes a TCP socket of AF_INET or AF_INET6.
    fn tcp(&self, ctx: &TaskContext, family: AddressFamily) -> Arc<dyn Socket>;

    /// Makes a UDP socket of AF_INET or AF_INET6.
    fn udp(&self, ctx: &TaskContext, family: AddressFamily) -> Arc<dyn Socket>;

    /// The interfaces, by rising index.
    fn interfaces(&self) -> Vec<Interface>;

    /// What went over it.
    fn traffic(&self) -> &Traffic;

    /// All sockets that have a port, for `/proc/net`.
    fn reports(&self, protocol: IpProtocol) -> Vec<Report>;
}

/// What `/proc/net/tcp` and `/proc/net/udp` tell of a socket.
pub struct Report {
    /// AF_INET or AF_INET6.
    pub family: AddressFamily,
    /// Its own end.
    pub local: Endpoint,
    /// The other end, if it has one.
    pub remote: Option<Endpoint>,
    /// The state; those of UDP use the same numbers.
    pub state: TcpState,
    /// Bytes sent that were not taken, or connections that a listener may keep.
    pub sending: usize,
    /// Bytes that can be read, or connections that wait to be accepted.
    pub receiving: usize,
    /// Who made it.
    pub uid: u32,
    /// Its number, as `fstat` tells it.
    pub inode: u64,
    /// Datagrams that found no room.
    pub drops: u64,
    /// How long it is kept still, of a socket that nobody has open.
    pub expires: Option<Duration>,
}

/// Makes a socket, as socket(2) does.
///
/// # Errors
/// `EINVAL` for impossible protocols, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`, `EPERM` for raw sockets of the
/// unprivileged, `EACCES` for ping sockets, which no group may make by default.
pub fn create(
    ctx: &TaskContext,
    family: AddressFamily,
    kind: SocketKind,
    protocol: i32,
) -> Result<Arc<dyn Socket>, Errno> {
    if !(0..=IpProtocol::IPPROTO_MPTCP.raw()).contains(&protocol) {
        return Err(Errno::EINVAL);
    }
    let stack = &ctx.kernel().network.inet;
    let ping = match family {
        AddressFamily::AF_INET6 => IpProtocol::IPPROTO_ICMPV6,
        _ => IpProtocol::IPPROTO_ICMP,
    };
    match (kind, IpProtocol::from_raw(protocol)) {
        (SocketKind::SOCK_STREAM, IpProtocol::IPPROTO_IP | IpProtocol::IPPROTO_TCP) => Ok(stack.tcp(ctx, family)),
        (SocketKind::SOCK_DGRAM, IpProtocol::IPPROTO_IP | IpProtocol::IPPROTO_UDP) => Ok(stack.udp(ctx, family)),
        (SocketKind::SOCK_DGRAM, protocol) if protocol == ping => Err(Errno::EACCES),
        (SocketKind::SOCK_RAW, IpProtocol::IPPROTO_IP) => Err(Errno::EPROTONOSUPPORT),
        (SocketKind::SOCK_RAW, _) if !ctx.credentials().has(Capability::CAP_NET_RAW) => Err(Errno::EPERM),
        (SocketKind::SOCK_STREAM | SocketKind::SOCK_DGRAM | SocketKind::SOCK_RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// What a socket has a claim to, for deciding who may share a port.
pub struct Claim {
    /// The local address; unspecified for all.
    ip: IpAddr,
    /// A claim to all addresses of IPv6 leaves out those of IPv4.
    v6_only: bool,
    reuse_address: bool,
    reuse_port: bool,
    listening: bool,
    uid: u32,
    /// The other end, of a connected socket.
    remote: Option<Endpoint>,
}

impl Claim {
    /// Whether some packet would be for both.
    fn overlaps(&self, other: &Claim) -> bool {
        match (self.ip, other.ip) {
            (IpAddr::V4(_), IpAddr::V6(ip)) => ip.is_unspecified() && !other.v6_only,
            (IpAddr::V6(ip), IpAddr::V4(_)) => ip.is_unspecified() && !self.v6_only,
            (a, b) => a == b || a.is_unspecified() || b.is_unspecified(),
        }
    }

    /// Whether a socket with this claim may not have the port while another has it.
    fn conflicts(&self, other: &Claim) -> bool {
        let reuse_address = self.reuse_address && other.reuse_address && !other.listening;
        let reuse_port = self.reuse_port && other.reuse_port && self.uid == other.uid;
        !reuse_address && !reuse_port && self.overlaps(other)
    }

    /// How well a packet fits, or nothing if it is for somebody else.
    fn score(&self, from: Endpoint, to: IpAddr) -> Option<u32> {
        let mut score = 1;
        match (self.ip, to) {
            (own, to) if own == to => score += 4,
            (IpAddr::V4(own), IpAddr::V4(_)) if own.is_unspecified() => score += 1,
            (IpAddr::V6(own), IpAddr::V6(_)) if own.is_unspecified() => {}
            (IpAddr::V6(own), IpAddr::V4(_)) if own.is_unspecified() && !self.v6_only => {}
            _ => return None,
        }
        match self.remote {
            Some(remote) if remote == from => Some(score + 8),
            Some(_) => None,
            None => Some(score),
        }
    }
}
