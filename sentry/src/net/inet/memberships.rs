//! Multicast group memberships of a socket (`IP_ADD_MEMBERSHIP` and similar options).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amber_abi::errno::Errno;
use amber_abi::socket::Ipv6Mreq;
use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6};
use zerocopy::FromBytes;

/// The groups. All are joined on the loopback interface, the only one.
#[derive(Clone, Default)]
pub(super) struct Memberships(Vec<IpAddr>);

impl Memberships {
    /// Whether the socket is a member.
    pub(super) fn has(&self, group: IpAddr) -> bool {
        self.0.contains(&group)
    }

    fn join(&mut self, group: IpAddr, most: u64) -> Result<(), Errno> {
        if self.has(group) {
            return Err(Errno::EADDRINUSE.here());
        }
        if self.0.len() as u64 >= most {
            return Err(Errno::ENOBUFS.here());
        }
        self.0.push(group);
        Ok(())
    }

    fn leave(&mut self, group: IpAddr) -> Result<(), Errno> {
        let at = self.0.iter().position(|&joined| joined == group).ok_or_else(|| Errno::EADDRNOTAVAIL.here())?;
        self.0.remove(at);
        Ok(())
    }

    /// Sets an IPv4 option on memberships, of which a socket may have `most`.
    ///
    /// # Errors
    /// `EINVAL`; `ENODEV` without an interface for the group; errors of joining and leaving; `ENOPROTOOPT` for other
    /// options.
    pub(super) fn set_v4(&mut self, option: Ip, value: &[u8], most: u64) -> Result<(), Errno> {
        if !matches!(option, Ip::IP_ADD_MEMBERSHIP | Ip::IP_DROP_MEMBERSHIP) {
            return Err(Errno::ENOPROTOOPT.here());
        }
        let group: [u8; 4] = *value.first_chunk().ok_or_else(|| Errno::EINVAL.here())?;
        let address: [u8; 4] =
            *value.get(4..).and_then(|rest| rest.first_chunk()).ok_or_else(|| Errno::EINVAL.here())?;
        let index = value.get(8..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        let group = Ipv4Addr::from(group);
        if option == Ip::IP_DROP_MEMBERSHIP {
            return self.leave(group.into());
        }
        if !group.is_multicast() {
            return Err(Errno::EINVAL.here());
        }
        // There is no route to the group, so the interface must be given.
        if index != 1 && !(index == 0 && Ipv4Addr::from(address).is_loopback()) {
            return Err(Errno::ENODEV.here());
        }
        self.join(group.into(), most)
    }

    /// Sets an IPv6 option on memberships, whose number is not limited.
    ///
    /// # Errors
    /// As for IPv4.
    pub(super) fn set_v6(&mut self, option: V6, value: &[u8]) -> Result<(), Errno> {
        if !matches!(option, V6::IPV6_ADD_MEMBERSHIP | V6::IPV6_DROP_MEMBERSHIP) {
            return Err(Errno::ENOPROTOOPT.here());
        }
        let (request, _) = Ipv6Mreq::read_from_prefix(value).map_err(|_| Errno::EINVAL.here())?;
        let group = Ipv6Addr::from(request.ipv6mr_multiaddr);
        if !group.is_multicast() {
            return Err(Errno::EINVAL.here());
        }
        if option == V6::IPV6_DROP_MEMBERSHIP {
            return self.leave(group.into());
        }
        if request.ipv6mr_ifindex != 1 {
            return Err(Errno::ENODEV.here());
        }
        self.join(group.into(), u64::MAX)
    }
}
