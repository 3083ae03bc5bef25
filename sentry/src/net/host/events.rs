//! What the host's kernel tells of changes to the network.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::netlink::{NetlinkOption, NetlinkProtocol};
use amber_abi::socket::{AddressFamily, SockaddrNl};
use amber_abi::sockopt::SocketLevel;
use amber_host::socket as host;
use zerocopy::IntoBytes;

use super::control;
use super::facts::{DATAGRAM, netlink};
use crate::net::inet::Watch;

/// A socket of the host in groups of rtnetlink(7).
pub struct HostEvents(Arc<OwnedFd>);

impl HostEvents {
    /// A socket in no group.
    pub fn new() -> Result<Self, Errno> {
        let socket = netlink(NetlinkProtocol::NETLINK_ROUTE)?;
        set(&socket, NetlinkOption::NETLINK_PKTINFO, 1)?;
        // Who has no address is told nothing of what the kernel did.
        let any = SockaddrNl { nl_family: AddressFamily::AF_NETLINK.raw(), ..SockaddrNl::default() };
        host::bind(socket.as_fd(), any.as_bytes())?;
        Ok(HostEvents(Arc::new(socket)))
    }
}

fn set(socket: &OwnedFd, name: NetlinkOption, value: u32) -> Result<(), Errno> {
    host::set_option(socket.as_fd(), SocketLevel::SOL_NETLINK.raw(), name.raw(), &value.to_ne_bytes())
}

impl Watch for HostEvents {
    fn file(&self) -> &Arc<OwnedFd> {
        &self.0
    }

    fn change_group(&self, group: u32, member: bool) -> Result<(), Errno> {
        let enters = NetlinkOption::NETLINK_ADD_MEMBERSHIP;
        set(&self.0, if member { enters } else { NetlinkOption::NETLINK_DROP_MEMBERSHIP }, group)
    }

    fn next(&self) -> Result<(Vec<u8>, u32), Errno> {
        let mut bytes = vec![0; DATAGRAM];
        let message = host::receive_message(self.0.as_fd(), &mut bytes, 0)?;
        bytes.truncate(message.len);
        let beside = control::decode(&message.control);
        let place = (SocketLevel::SOL_NETLINK.raw(), NetlinkOption::NETLINK_PKTINFO.raw());
        let group = beside.iter().find(|(level, kind, _)| (*level, *kind) == place);
        let group = group.and_then(|(_, _, data)| data.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        Ok((bytes, group))
    }
}
