//! Internet socket addresses and local addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, SockaddrIn, SockaddrIn6};
use zerocopy::{FromBytes, IntoBytes};

/// The minimum size of an AF_INET6 address: without the scope ID, as in RFC 2133.
const LEAST_V6: usize = 24;

/// An address and a port. IPv4-mapped IPv6 addresses are stored as IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// The port; 0 if unset.
    pub port: u16,
}

impl Endpoint {
    /// The unspecified address without a port.
    pub(crate) fn unspecified(family: AddressFamily) -> Self {
        let ip = match family {
            AddressFamily::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        Endpoint { ip, port: 0 }
    }

    /// The socket address for a socket of the family.
    pub(crate) fn encode(&self, family: AddressFamily) -> Vec<u8> {
        let port = self.port.to_be_bytes();
        let v6 = match (self.ip, family) {
            (IpAddr::V4(ip), AddressFamily::AF_INET) => {
                let address =
                    SockaddrIn { sin_family: family.raw(), sin_port: port, sin_addr: ip.octets(), sin_zero: [0; 8] };
                return address.as_bytes().to_vec();
            }
            (IpAddr::V4(ip), _) => ip.to_ipv6_mapped(),
            (IpAddr::V6(ip), _) => ip,
        };
        let address = SockaddrIn6 {
            sin6_family: AddressFamily::AF_INET6.raw(),
            sin6_port: port,
            sin6_flowinfo: [0; 4],
            sin6_addr: v6.octets(),
            sin6_scope_id: 0,
        };
        address.as_bytes().to_vec()
    }
}

/// The family of a socket address.
pub(crate) fn family_of(bytes: &[u8]) -> Result<AddressFamily, Errno> {
    bytes
        .first_chunk()
        .map(|bytes| AddressFamily::from_raw(u16::from_ne_bytes(*bytes)))
        .ok_or_else(|| Errno::EINVAL.here())
}

/// Parses a socket address of AF_INET or AF_INET6.
///
/// # Errors
/// `EINVAL` if it is too short; `EAFNOSUPPORT` for other families.
pub(crate) fn parse(family: AddressFamily, bytes: &[u8]) -> Result<Endpoint, Errno> {
    let least = if family == AddressFamily::AF_INET6 { LEAST_V6 } else { size_of::<SockaddrIn>() };
    if bytes.len() < least {
        return Err(Errno::EINVAL.here());
    }
    if family_of(bytes)? != family {
        return Err(Errno::EAFNOSUPPORT.here());
    }
    if family == AddressFamily::AF_INET {
        let (address, _) = SockaddrIn::read_from_prefix(bytes).map_err(|_| Errno::EINVAL.here())?;
        let ip = IpAddr::V4(Ipv4Addr::from(address.sin_addr));
        return Ok(Endpoint { ip, port: u16::from_be_bytes(address.sin_port) });
    }
    let port = bytes.get(2..).and_then(|rest| rest.first_chunk()).ok_or_else(|| Errno::EINVAL.here())?;
    let octets = bytes.get(8..).and_then(|rest| rest.first_chunk::<16>()).ok_or_else(|| Errno::EINVAL.here())?;
    let ip = Ipv6Addr::from(*octets);
    Ok(Endpoint { ip: ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4), port: u16::from_be_bytes(*port) })
}

/// A copy of a socket address with another family.
pub(crate) fn with_family(family: AddressFamily, bytes: &[u8]) -> Vec<u8> {
    [&family.raw().to_ne_bytes(), bytes.get(2..).unwrap_or_default()].concat()
}

/// Whether a socket may be bound to the address: it is local, multicast, broadcast or unspecified.
pub(crate) fn can_bind(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_multicast(),
    }
}

/// The broadcast address of the loopback network.
const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// Whether the address is a broadcast address.
pub(crate) fn is_broadcast(ip: IpAddr) -> bool {
    ip == IpAddr::V4(LOOPBACK_BROADCAST)
}

/// The effective destination of packets to an address, and their default source address.
///
/// # Errors
/// `ENETUNREACH` for addresses that are not local.
pub(crate) fn route(to: IpAddr) -> Result<(IpAddr, IpAddr), Errno> {
    match to {
        IpAddr::V4(ip) if ip.is_unspecified() => Ok((Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into())),
        IpAddr::V4(ip) if ip.is_loopback() => Ok((ip.into(), Ipv4Addr::LOCALHOST.into())),
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unspecified() => {
            Ok((Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()))
        }
        _ => Err(Errno::ENETUNREACH.here()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..40), v6: bool) {
            let family = if v6 { AddressFamily::AF_INET6 } else { AddressFamily::AF_INET };
            let _ = parse(family, &bytes);
        }

        #[test]
        fn endpoints_survive(octets: [u8; 16], port: u16) {
            let ip = Ipv6Addr::from(octets);
            let end = Endpoint { ip: ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4), port };
            prop_assert_eq!(parse(AddressFamily::AF_INET6, &end.encode(AddressFamily::AF_INET6)), Ok(end));
        }
    }
}
