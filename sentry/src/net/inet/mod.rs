//! AF_INET and AF_INET6: the interface of networks, and the loopback network (ip(7), ipv6(7), tcp(7), udp(7)).

pub(crate) mod address;
mod error_queue;
mod holders;
pub(crate) mod interface;
mod loopback;
mod memberships;
mod option_rules;
mod options;
pub(crate) mod ports;
pub(crate) mod stats;
mod tcp;
mod tcp_close;
mod tcp_connect;
mod tcp_info;
mod tcp_state;
mod udp;
mod udp_control;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::ioctl::{Ifreq, IoctlRequest};
use amber_abi::netlink::Nlmsghdr;
use amber_abi::socket::{AddressFamily, IpProtocol, SocketKind, TcpState};

use crate::net::socket::Socket;
use crate::task::TaskContext;

pub(crate) use address::Endpoint;
pub(crate) use interface::Interface;
pub(crate) use loopback::Loopback;
pub(crate) use stats::NetStats;

/// A kind of internet socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo requests, without privileges.
    Ping,
    /// Packets of an IP protocol. The caller has the privilege.
    Raw(i32),
}

/// The network of a sandbox.
pub(crate) trait NetworkStack: Send + Sync {
    /// Makes a socket of AF_INET or AF_INET6.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` and `EACCES` for sockets that the network does not support, or not for this task.
    fn socket(&self, ctx: &TaskContext, family: AddressFamily, transport: Transport) -> Result<Arc<dyn Socket>, Errno>;

    /// Makes a socket of the guest from one of the host, for a user; none if the network does not use sockets of the
    /// host.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for families other than internet and unix; errors of the host.
    fn adopt(&self, _file: &Arc<OwnedFd>, _uid: u32) -> Result<Option<Arc<dyn Socket>>, Errno> {
        Ok(None)
    }

    /// Makes a socket of AF_PACKET (packet(7)); the protocol is in network order.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` if the guest may not see the network's packets; `EPERM`; `ESOCKTNOSUPPORT`.
    fn packet_socket(&self, _: &TaskContext, _: SocketKind, _protocol: i32) -> Result<Arc<dyn Socket>, Errno> {
        Err(Errno::EAFNOSUPPORT.here())
    }

    /// The source of the network's state.
    fn network_facts(&self) -> NetworkFacts<'_>;

    /// Called before the guest starts. If memory is limited, limits uncharged memory of the network.
    fn begin(&self) {}

    /// Updates the charges for memory of sockets outside the sentry, if `always` is set or enough may have been added.
    /// Returns the time in nanoseconds after which it can have grown without sends of the guest; none if it cannot.
    fn charge(&self, _always: bool) -> Option<u64> {
        None
    }

    /// Frees about this many charged bytes, without affecting open sockets.
    fn give_up(&self, _bytes: u64) {}
}

/// The source of a network's state in `/proc/net`, rtnetlink(7) and ioctl(2).
pub(crate) enum NetworkFacts<'a> {
    /// The network itself; the sentry formats its state.
    Own(&'a dyn Facts),
    /// Another kernel, which formats its state itself.
    Foreign(&'a dyn ForeignFacts),
}

/// The state of the sentry's own network.
pub(crate) trait Facts {
    /// The interfaces by ascending index.
    fn interfaces(&self) -> Vec<Interface>;

    /// The counters.
    fn stats(&self) -> &NetStats;

    /// All sockets with a port, for `/proc/net`.
    fn reports(&self, protocol: IpProtocol) -> Vec<Report>;
}

/// The state of another kernel's network, which the guest can only read.
pub(crate) trait ForeignFacts {
    /// Executes a reading command of netdevice(7) on an interface.
    ///
    /// # Errors
    /// Errors of the command.
    fn interface(&self, command: IoctlRequest, request: &mut Ifreq) -> Result<(), Errno>;

    /// The speed of an interface in Mbit/s, `u32::MAX` if unknown, and the number of its duplex mode (ethtool(8)).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for interfaces without a speed; `ENODEV`.
    fn link_settings(&self, name: &[u8]) -> Result<(u32, u8), Errno>;

    /// All interfaces with an IPv4 address, with that address (`SIOCGIFCONF`).
    ///
    /// # Errors
    /// The other kernel is out of memory.
    fn addressed(&self) -> Result<Vec<Ifreq>, Errno>;

    /// Executes a reading request of rtnetlink(7). Returns the datagrams to be received at the address `port`. `strict`
    /// selects strict checks (`NETLINK_GET_STRICT_CHK`).
    ///
    /// # Errors
    /// Errors of the request.
    fn route(&self, header: &Nlmsghdr, body: &[u8], port: u32, strict: bool) -> Result<Vec<Vec<u8>>, Errno>;

    /// Executes a request of sock_diag(7) on sockets of AF_INET or AF_INET6, like [`route`](Self::route).
    ///
    /// # Errors
    /// Errors of the request.
    fn sockets(&self, header: &Nlmsghdr, body: &[u8], port: u32) -> Result<Vec<Vec<u8>>, Errno>;

    /// Starts receiving events.
    ///
    /// # Errors
    /// The other kernel has no descriptors or memory left.
    fn watch(&self) -> Result<Arc<dyn Watch>, Errno>;

    /// The content of a file of `/proc/net`; none if it does not exist.
    fn table(&self, name: &str) -> Option<Lines>;

    /// The network's parameters.
    fn parameters(&self) -> &dyn Parameters;
}

/// Appends the next lines of a table. Returns false if there are no more.
pub(crate) type Lines = Box<dyn FnMut(&mut Vec<u8>) -> Result<bool, Errno> + Send>;

/// The parameters of another kernel's network, by path below `/proc/sys`.
pub(crate) trait Parameters {
    /// Whether the guest may change them.
    fn can_change(&self) -> bool;

    /// The parameter or directory at a path.
    ///
    /// # Errors
    /// `ENOENT` if it does not exist.
    fn find(&self, path: &str) -> Result<ForeignParameter, Errno>;

    /// The entries of a directory by name.
    ///
    /// # Errors
    /// `ENOENT` if it does not exist; `ENOTDIR`.
    fn list(&self, path: &str) -> Result<Vec<ForeignParameter>, Errno>;

    /// The value with its newline.
    ///
    /// # Errors
    /// `ENOENT` if it does not exist; errors of the read.
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno>;

    /// Sets a value.
    ///
    /// # Errors
    /// `EACCES` if the guest may not; `ENOENT`; errors of the write.
    fn write(&self, path: &str, value: &[u8]) -> Result<(), Errno>;
}

/// A parameter of another kernel, or a directory of parameters.
pub(crate) struct ForeignParameter {
    /// The name in its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The permissions on the other kernel.
    pub permissions: u16,
}

/// The events of another kernel's network, by rtnetlink(7): none until a group is joined.
pub(crate) trait Watch: Send + Sync {
    /// A descriptor that polls readable while there are events.
    fn file(&self) -> &Arc<OwnedFd>;

    /// Joins or leaves a group.
    ///
    /// # Errors
    /// `EINVAL` if the other kernel has no such group.
    fn change_group(&self, group: u32, member: bool) -> Result<(), Errno>;

    /// Receives the next message, and its group.
    ///
    /// # Errors
    /// `EAGAIN` if there is none; `ENOBUFS`, once, if messages were lost.
    fn next(&self) -> Result<(Vec<u8>, u32), Errno>;

    /// Approximate memory in bytes.
    fn kept_bytes(&self) -> u64;
}

/// A socket in `/proc/net/tcp` or `/proc/net/udp`.
pub(crate) struct Report {
    /// AF_INET or AF_INET6.
    pub family: AddressFamily,
    /// The local end.
    pub local: Endpoint,
    /// The remote end, if connected.
    pub remote: Option<Endpoint>,
    /// The state; UDP uses the same numbers.
    pub state: TcpState,
    /// Unacknowledged bytes, or the backlog of a listener.
    pub sending: usize,
    /// Readable bytes, or connections waiting to be accepted.
    pub receiving: usize,
    /// The owner's user ID.
    pub uid: u32,
    /// The inode number.
    pub inode: u64,
    /// Datagrams dropped for lack of room.
    pub drops: u64,
    /// The remaining time of a closed socket.
    pub expires: Option<Duration>,
}

/// Makes a socket (socket(2)).
///
/// # Errors
/// `EINVAL` for invalid protocols; `ESOCKTNOSUPPORT`; `EPROTONOSUPPORT`; `EPERM` for raw sockets without CAP_NET_RAW;
/// errors of the network.
pub(crate) fn create(
    ctx: &TaskContext,
    family: AddressFamily,
    kind: SocketKind,
    protocol: i32,
) -> Result<Arc<dyn Socket>, Errno> {
    if !(0..=IpProtocol::IPPROTO_MPTCP.raw()).contains(&protocol) {
        return Err(Errno::EINVAL.here());
    }
    let make = |transport| ctx.kernel().network.inet.socket(ctx, family, transport);
    let ping = match family {
        AddressFamily::AF_INET6 => IpProtocol::IPPROTO_ICMPV6,
        _ => IpProtocol::IPPROTO_ICMP,
    };
    match (kind, IpProtocol::from_raw(protocol)) {
        (SocketKind::SOCK_STREAM, IpProtocol::IPPROTO_IP | IpProtocol::IPPROTO_TCP) => make(Transport::Tcp),
        (SocketKind::SOCK_DGRAM, IpProtocol::IPPROTO_IP | IpProtocol::IPPROTO_UDP) => make(Transport::Udp),
        (SocketKind::SOCK_DGRAM, protocol) if protocol == ping => make(Transport::Ping),
        (SocketKind::SOCK_RAW, IpProtocol::IPPROTO_IP) => Err(Errno::EPROTONOSUPPORT.here()),
        (SocketKind::SOCK_RAW, _) if !ctx.credentials().has(Capability::CAP_NET_RAW) => Err(Errno::EPERM.here()),
        (SocketKind::SOCK_RAW, protocol) => make(Transport::Raw(protocol.raw())),
        (SocketKind::SOCK_STREAM | SocketKind::SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT.here()),
        _ => Err(Errno::ESOCKTNOSUPPORT.here()),
    }
}

/// The claim of a socket to a port, which determines whether others can share it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    /// The local address; unspecified for all.
    ip: IpAddr,
    /// Whether a claim to all IPv6 addresses excludes IPv4.
    v6_only: bool,
    reuse_address: bool,
    reuse_port: bool,
    listening: bool,
    uid: u32,
    /// The remote end of a connected socket.
    remote: Option<Endpoint>,
}

impl Claim {
    /// Whether a packet could match both.
    fn overlaps(&self, other: &Claim) -> bool {
        match (self.ip, other.ip) {
            (IpAddr::V4(_), IpAddr::V6(ip)) => ip.is_unspecified() && !other.v6_only,
            (IpAddr::V6(ip), IpAddr::V4(_)) => ip.is_unspecified() && !self.v6_only,
            (a, b) => a == b || a.is_unspecified() || b.is_unspecified(),
        }
    }

    /// Whether the claim prevents a socket from getting the port while another has it.
    fn conflicts(&self, other: &Claim) -> bool {
        let reuse_address = self.reuse_address && other.reuse_address && !other.listening;
        let reuse_port = self.reuse_port && other.reuse_port && self.uid == other.uid;
        !reuse_address && !reuse_port && self.overlaps(other)
    }
}
