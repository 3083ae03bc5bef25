//! AF_INET and AF_INET6: what networks there can be, and the loopback (see ip(7), ipv6(7), tcp(7), udp(7)).

pub mod address;
mod error_queue;
mod holders;
pub mod interface;
mod loopback;
mod memberships;
mod option_rules;
mod options;
pub mod ports;
pub mod stats;
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

pub use address::Endpoint;
pub use interface::Interface;
pub use loopback::Loopback;
pub use stats::NetStats;

/// A kind of socket that a network can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
    /// Echo requests of ICMP or ICMPv6, for which no privileges are needed.
    Ping,
    /// Packets of an IP protocol; the caller may have such.
    Raw(i32),
}

/// What carries the packets of a sandbox, or does without them.
pub trait NetworkStack: Send + Sync {
    /// Makes a socket of AF_INET or AF_INET6.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` and `EACCES` for what the network does not carry, or not for this task.
    fn socket(&self, ctx: &TaskContext, family: AddressFamily, transport: Transport) -> Result<Arc<dyn Socket>, Errno>;

    /// Takes over a socket that the host gave the guest, which is a user's; none where sockets are not the host's.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for other families than those of internet and unix, and those of the host.
    fn adopt(&self, _file: &Arc<OwnedFd>, _uid: u32) -> Result<Option<Arc<dyn Socket>>, Errno> {
        Ok(None)
    }

    /// Makes a socket of AF_PACKET (see packet(7)); the protocol is in network order.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` where the network has no packets that the guest may see, `EPERM`, `ESOCKTNOSUPPORT`.
    fn packet_socket(&self, _: &TaskContext, _: SocketKind, _protocol: i32) -> Result<Arc<dyn Socket>, Errno> {
        Err(Errno::EAFNOSUPPORT.here())
    }

    /// Where what can be asked about the network comes from.
    fn knowledge(&self) -> Knowledge<'_>;

    /// The guest is about to begin. Where memory is limited, what the network keeps without a charge is bounded first.
    fn begin(&self) {}

    /// Charges what sockets take outside the sentry's own memory; `always`, or once enough may have been added to it.
    /// Answers after how long it can have grown although the guest sends nothing, in nanoseconds; none if it cannot.
    fn charge(&self, _always: bool) -> Option<u64> {
        None
    }

    /// Frees about so many bytes of what is charged, as far as no open socket is concerned.
    fn give_up(&self, _bytes: u64) {}
}

/// Where what can be asked about a network comes from: in `/proc/net`, by rtnetlink(7) and by ioctl(2).
pub enum Knowledge<'a> {
    /// From the stack itself, which tells facts that the sentry words.
    Own(&'a dyn Facts),
    /// From another kernel, which words its answers itself.
    Foreign(&'a dyn Oracle),
}

/// What a stack knows about itself.
pub trait Facts {
    /// The interfaces, by rising index.
    fn interfaces(&self) -> Vec<Interface>;

    /// What went over it.
    fn stats(&self) -> &NetStats;

    /// All sockets that have a port, for `/proc/net`.
    fn reports(&self, protocol: IpProtocol) -> Vec<Report>;
}

/// Another kernel that knows about the network. The guest only asks it, and never has it change anything.
pub trait Oracle {
    /// Asks about an interface, by one of the commands of netdevice(7) that read.
    ///
    /// # Errors
    /// Those of the command.
    fn interface(&self, command: IoctlRequest, request: &mut Ifreq) -> Result<(), Errno>;

    /// The speed of an interface in millions of bits a second, `u32::MAX` if it is not known, and the number of its
    /// duplex mode, as ethtool(8) tells them.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for interfaces without such, `ENODEV`.
    fn link_settings(&self, name: &[u8]) -> Result<(u32, u8), Errno>;

    /// All interfaces that have an address of IPv4, with that address (`SIOCGIFCONF`).
    ///
    /// # Errors
    /// The other kernel has no memory.
    fn addressed(&self) -> Result<Vec<Ifreq>, Errno>;

    /// Answers a request of rtnetlink(7), one that reads: in datagrams as they are received at the address `port`.
    /// With `strict` the request means all it says (`NETLINK_GET_STRICT_CHK`).
    ///
    /// # Errors
    /// Those of the request.
    fn route(&self, header: &Nlmsghdr, body: &[u8], port: u32, strict: bool) -> Result<Vec<Vec<u8>>, Errno>;

    /// Answers a request of sock_diag(7) about sockets of AF_INET or AF_INET6, like [`route`](Self::route).
    ///
    /// # Errors
    /// Those of the request.
    fn sockets(&self, header: &Nlmsghdr, body: &[u8], port: u32) -> Result<Vec<Vec<u8>>, Errno>;

    /// Begins to watch changes.
    ///
    /// # Errors
    /// The other kernel has no descriptors or memory left.
    fn watch(&self) -> Result<Arc<dyn Watch>, Errno>;

    /// The content of a file of `/proc/net`; none if there is no such file.
    fn table(&self, name: &str) -> Option<Lines>;

    /// Its parameters.
    fn parameters(&self) -> &dyn Parameters;
}

/// Appends the next lines of a table; false if there are no more.
pub type Lines = Box<dyn FnMut(&mut Vec<u8>) -> Result<bool, Errno> + Send>;

/// The parameters of another kernel's network, by their paths below `/proc/sys`.
pub trait Parameters {
    /// Whether the guest may change them.
    fn can_change(&self) -> bool;

    /// What is at a path.
    ///
    /// # Errors
    /// `ENOENT` if nothing is.
    fn find(&self, path: &str) -> Result<ForeignParameter, Errno>;

    /// What is in a directory, by name.
    ///
    /// # Errors
    /// `ENOENT` if it is not there, `ENOTDIR`.
    fn list(&self, path: &str) -> Result<Vec<ForeignParameter>, Errno>;

    /// A value with its line's end.
    ///
    /// # Errors
    /// `ENOENT` if there is no such parameter; those of a read from it.
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno>;

    /// Changes a value.
    ///
    /// # Errors
    /// `EACCES` if the guest may not; `ENOENT`, and those of a write to it.
    fn write(&self, path: &str, value: &[u8]) -> Result<(), Errno>;
}

/// A parameter of another kernel, or a directory of such.
pub struct ForeignParameter {
    /// Its name in its directory.
    pub name: String,
    /// Whether there are others below it.
    pub is_directory: bool,
    /// The permissions that it has there.
    pub permissions: u16,
}

/// What another kernel tells of changes to its network, by rtnetlink(7): nothing until groups are entered.
pub trait Watch: Send + Sync {
    /// What polls readable while there is something to take.
    fn file(&self) -> &Arc<OwnedFd>;

    /// Enters a group, or leaves it.
    ///
    /// # Errors
    /// `EINVAL` if that kernel has no such group.
    fn change_group(&self, group: u32, member: bool) -> Result<(), Errno>;

    /// Takes the next message, and the group it is for.
    ///
    /// # Errors
    /// `EAGAIN` if there is none; `ENOBUFS`, once, if some were lost.
    fn next(&self) -> Result<(Vec<u8>, u32), Errno>;

    /// About how many bytes it takes.
    fn kept_bytes(&self) -> u64;
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
/// unprivileged; those of the network.
pub fn create(
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

/// What a socket has a claim to, for deciding who may share a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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
}
