//! Events of the host's network (rtnetlink(7)).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::netlink::{NetlinkOption, NetlinkProtocol};
use amber_abi::socket::{AddressFamily, SockaddrNl, SocketKind};
use amber_abi::sockopt::SocketLevel;
use amber_host::socket as host;
use zerocopy::IntoBytes;

use super::facts::{DATAGRAM, netlink};
use super::kept::Kept;
use super::{Sockets, control};
use crate::net::inet::Watch;

/// A netlink socket of the host in groups of rtnetlink(7).
pub(super) struct HostEvents {
    sockets: Arc<Sockets>,
    number: u64,
    file: Arc<OwnedFd>,
    kept: Kept,
}

impl HostEvents {
    /// Makes a socket that is in no group.
    ///
    /// # Errors
    /// `ENOBUFS` at the limit of memory; errors of the host.
    pub(super) fn new(sockets: &Arc<Sockets>) -> Result<Arc<Self>, Errno> {
        sockets.admit()?;
        let socket = netlink(NetlinkProtocol::NETLINK_ROUTE)?;
        set(&socket, NetlinkOption::NETLINK_PKTINFO, 1)?;
        // A socket without an address receives no events.
        let any = SockaddrNl { nl_family: AddressFamily::AF_NETLINK.raw(), ..SockaddrNl::default() };
        host::bind(socket.as_fd(), any.as_bytes())?;
        let kept = Kept::new(&sockets.memory, SocketKind::SOCK_RAW);
        let (sockets, number) = (sockets.clone(), sockets.number());
        let events = Arc::new(HostEvents { sockets, number, file: Arc::new(socket), kept });
        events.sockets.watches.lock().insert(number, Arc::downgrade(&events));
        events.sockets.request_update();
        Ok(events)
    }

    /// Updates the charge. Returns the number of bytes in the receive buffer.
    pub(super) fn charge(&self) -> u64 {
        self.kept.charge_buffers(self.file.as_fd())
    }
}

impl Drop for HostEvents {
    fn drop(&mut self) {
        self.sockets.watches.lock().remove(&self.number);
    }
}

fn set(socket: &OwnedFd, name: NetlinkOption, value: u32) -> Result<(), Errno> {
    host::set_option(socket.as_fd(), SocketLevel::SOL_NETLINK.raw(), name.raw(), &value.to_ne_bytes())
}

impl Watch for HostEvents {
    fn file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    fn change_group(&self, group: u32, member: bool) -> Result<(), Errno> {
        let enters = NetlinkOption::NETLINK_ADD_MEMBERSHIP;
        set(&self.file, if member { enters } else { NetlinkOption::NETLINK_DROP_MEMBERSHIP }, group)
    }

    fn next(&self) -> Result<(Vec<u8>, u32), Errno> {
        let mut bytes = vec![0; DATAGRAM];
        let message = host::receive_message(self.file.as_fd(), &mut bytes, 0)?;
        bytes.truncate(message.len);
        let beside = control::decode(&message.control);
        let place = (SocketLevel::SOL_NETLINK.raw(), NetlinkOption::NETLINK_PKTINFO.raw());
        let group = beside.iter().find(|(level, kind, _)| (*level, *kind) == place);
        let group = group.and_then(|(_, _, data)| data.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        Ok((bytes, group))
    }

    fn kept_bytes(&self) -> u64 {
        self.kept.bytes()
    }
}
