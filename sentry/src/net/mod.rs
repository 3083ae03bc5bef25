//! Sockets: common parts, and the families.

pub(crate) mod control;
pub(crate) mod host;
pub(crate) mod inet;
pub(crate) mod limits;
pub(crate) mod netlink;
pub(crate) mod option_rules;
pub(crate) mod options;
mod proc;
pub(crate) mod receive_queue;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod unix;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, SocketKind};
use amber_host::trees::HostTrees;
use amber_platform::GuestMemory;

use crate::config::NetworkKind;
use crate::net::host::HostNetwork;
use crate::net::inet::{Loopback, NetworkStack};
use crate::net::limits::Limits;
use crate::net::netlink::{NetlinkNames, NetlinkSocket};
use crate::net::socket::Socket;
use crate::net::unix::UnixNames;
use crate::task::TaskContext;

pub(crate) use proc::{REGISTRATION, adopt};

/// The network of a sandbox.
pub(crate) struct Network {
    /// The names of AF_UNIX sockets.
    pub unix: UnixNames,
    /// The network of AF_INET and AF_INET6.
    pub inet: Arc<dyn NetworkStack>,
    /// The addresses of AF_NETLINK sockets.
    pub netlink: NetlinkNames,
    /// The parameters in `/proc/sys/net`.
    pub limits: Arc<Limits>,
}

impl Network {
    /// Makes the network of a sandbox.
    ///
    /// # Errors
    /// Errors of the host's network.
    pub(crate) fn new(kind: NetworkKind, trees: &HostTrees, memory: &Arc<GuestMemory>) -> Result<Self, Errno> {
        let limits = Arc::new(Limits::default());
        let inet: Arc<dyn NetworkStack> = match kind {
            NetworkKind::Loopback => Loopback::new(limits.clone()),
            NetworkKind::Host => HostNetwork::new(trees, memory, false)?,
            NetworkKind::Namespace => HostNetwork::new(trees, memory, true)?,
        };
        Ok(Network { unix: UnixNames::default(), inet, netlink: NetlinkNames::default(), limits })
    }
}

/// Makes a socket (socket(2)).
///
/// # Errors
/// `EAFNOSUPPORT` for unknown families; `EPROTONOSUPPORT` and `ESOCKTNOSUPPORT` for protocols and types that the family
/// does not support.
pub(crate) fn create(
    ctx: &TaskContext,
    family: AddressFamily,
    kind: SocketKind,
    protocol: i32,
) -> Result<Arc<dyn Socket>, Errno> {
    if !(0..=10).contains(&kind.raw()) {
        return Err(Errno::EINVAL.here());
    }
    match family {
        AddressFamily::AF_UNIX => Ok(unix::UnixSocket::create(ctx, kind, protocol)?),
        AddressFamily::AF_INET | AddressFamily::AF_INET6 => inet::create(ctx, family, kind, protocol),
        AddressFamily::AF_NETLINK => Ok(NetlinkSocket::create(ctx, kind, protocol)?),
        AddressFamily::AF_PACKET => ctx.kernel().network.inet.packet_socket(ctx, kind, protocol),
        _ => Err(Errno::EAFNOSUPPORT.here()),
    }
}
