//! Control messages of datagrams: addresses, hop limit, type of service and time (`IP_PKTINFO` and similar).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, ControlType, In6Pktinfo, InPktinfo};
use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6, SocketLevel, SocketOption, UdpOption as Udp};
use amber_abi::time::Timespec;
use zerocopy::{FromBytes, IntoBytes};

use super::Endpoint;
use super::address::can_bind;
use super::options::InetOptions;
use crate::net::control::Control;
use crate::net::options::Values;

/// The metadata of a received datagram.
#[derive(Clone)]
pub(super) struct Envelope {
    /// The sender.
    pub from: Endpoint,
    /// The destination.
    pub to: Endpoint,
    /// The type of service.
    pub tos: u8,
    /// The remaining hop limit.
    pub ttl: u8,
    /// The time of arrival.
    pub time: Timespec,
}

/// The sender's settings for one datagram.
#[derive(Default)]
pub(super) struct Chosen {
    /// The source address.
    pub source: Option<IpAddr>,
    /// Whether it is sent over the loopback interface.
    pub on_loopback: bool,
    /// The type of service.
    pub tos: Option<u8>,
    /// The hop limit.
    pub ttl: Option<u8>,
    /// The size of the datagrams into which it is split.
    pub segment: Option<u16>,
}

impl Chosen {
    fn interface(&mut self, index: i32) -> Result<(), Errno> {
        match index {
            0 => Ok(()),
            1 => {
                self.on_loopback = true;
                Ok(())
            }
            _ => Err(Errno::ENODEV.here()),
        }
    }

    fn source(&mut self, ip: IpAddr) -> Result<(), Errno> {
        if !can_bind(ip) {
            return Err(Errno::EINVAL.here());
        }
        self.source = (!ip.is_unspecified()).then_some(ip);
        Ok(())
    }
}

/// A byte or integer in a range.
fn small(data: &[u8], most: i32) -> Result<u8, Errno> {
    let value = match data {
        [byte] => i32::from(*byte),
        data => i32::from_ne_bytes(*data.first_chunk().ok_or_else(|| Errno::EINVAL.here())?),
    };
    if (0..=most).contains(&value) { Ok(value as u8) } else { Err(Errno::EINVAL.here()) }
}

/// Parses the sender's control messages.
///
/// # Errors
/// `EINVAL` for unknown or malformed messages; `ENODEV` for an unknown interface.
pub(super) fn parse(family: AddressFamily, control: &Control) -> Result<Chosen, Errno> {
    let mut chosen = Chosen::default();
    for (level, kind, data) in &control.others {
        match SocketLevel::from_raw(*level) {
            // Messages of AF_UNIX are ignored.
            SocketLevel::SOL_SOCKET => match ControlType::from_raw(*kind) {
                ControlType::SCM_RIGHTS | ControlType::SCM_CREDENTIALS => {}
                _ => return Err(Errno::EINVAL.here()),
            },
            SocketLevel::SOL_IP => match Ip::from_raw(*kind) {
                Ip::IP_PKTINFO => {
                    let info = InPktinfo::read_from_bytes(data).map_err(|_| Errno::EINVAL.here())?;
                    chosen.interface(info.ipi_ifindex)?;
                    chosen.source(Ipv4Addr::from(info.ipi_spec_dst).into())?;
                }
                Ip::IP_TTL => match small(data, 255)? {
                    0 => return Err(Errno::EINVAL.here()),
                    ttl => chosen.ttl = Some(ttl),
                },
                Ip::IP_TOS => chosen.tos = Some(small(data, 255)?),
                _ => return Err(Errno::EINVAL.here()),
            },
            SocketLevel::SOL_IPV6 if family == AddressFamily::AF_INET6 => match V6::from_raw(*kind) {
                V6::IPV6_PKTINFO => {
                    let info = In6Pktinfo::read_from_bytes(data).map_err(|_| Errno::EINVAL.here())?;
                    chosen.interface(info.ipi6_ifindex)?;
                    let ip = Ipv6Addr::from(info.ipi6_addr);
                    chosen.source(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))?;
                }
                V6::IPV6_HOPLIMIT => chosen.ttl = Some(small(data, 255)?),
                V6::IPV6_TCLASS => chosen.tos = Some(small(data, 255)?),
                _ => return Err(Errno::EINVAL.here()),
            },
            SocketLevel::SOL_UDP if Udp::from_raw(*kind) == Udp::UDP_SEGMENT => {
                let size: [u8; 2] = data.as_slice().try_into().map_err(|_| Errno::EINVAL.here())?;
                chosen.segment = Some(u16::from_ne_bytes(size));
            }
            SocketLevel::SOL_UDP => return Err(Errno::EINVAL.here()),
            // Linux ignores messages of other levels.
            _ => {}
        }
    }
    Ok(chosen)
}

/// The control messages that the receiver's options request.
pub(super) fn tell(
    family: AddressFamily,
    inet: &InetOptions,
    values: &Values,
    envelope: &Envelope,
    drops: u64,
) -> Control {
    let mut control = Control::default();
    control.stamp(values, envelope.time);
    let mut put = |level: SocketLevel, kind: i32, data: &[u8]| {
        control.others.push((level.raw(), kind, data.to_vec()));
    };
    let number = |value: i32| value.to_ne_bytes();
    if values.receive_overflow && drops > 0 {
        put(SocketLevel::SOL_SOCKET, SocketOption::SO_RXQ_OVFL.raw(), &(drops as u32).to_ne_bytes());
    }
    if let IpAddr::V4(to) = envelope.to.ip {
        if inet.ip(Ip::IP_PKTINFO) != 0 {
            let spec = if to.is_loopback() { to } else { Ipv4Addr::LOCALHOST };
            let info = InPktinfo { ipi_ifindex: 1, ipi_spec_dst: spec.octets(), ipi_addr: to.octets() };
            put(SocketLevel::SOL_IP, Ip::IP_PKTINFO.raw(), info.as_bytes());
        }
        if inet.ip(Ip::IP_RECVTTL) != 0 {
            put(SocketLevel::SOL_IP, Ip::IP_TTL.raw(), &number(envelope.ttl.into()));
        }
        if inet.ip(Ip::IP_RECVTOS) != 0 {
            put(SocketLevel::SOL_IP, Ip::IP_TOS.raw(), &[envelope.tos]);
        }
        if inet.ip(Ip::IP_ORIGDSTADDR) != 0 {
            let address = envelope.to.encode(AddressFamily::AF_INET);
            put(SocketLevel::SOL_IP, Ip::IP_ORIGDSTADDR.raw(), &address);
        }
    }
    if family == AddressFamily::AF_INET6 {
        let to = match envelope.to.ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        if inet.v6(V6::IPV6_RECVPKTINFO) != 0 {
            let info = In6Pktinfo { ipi6_addr: to.octets(), ipi6_ifindex: 1 };
            put(SocketLevel::SOL_IPV6, V6::IPV6_PKTINFO.raw(), info.as_bytes());
        }
        if envelope.to.ip.is_ipv6() {
            if inet.v6(V6::IPV6_RECVHOPLIMIT) != 0 {
                put(SocketLevel::SOL_IPV6, V6::IPV6_HOPLIMIT.raw(), &number(envelope.ttl.into()));
            }
            if inet.v6(V6::IPV6_RECVTCLASS) != 0 {
                put(SocketLevel::SOL_IPV6, V6::IPV6_TCLASS.raw(), &number(envelope.tos.into()));
            }
            if inet.v6(V6::IPV6_ORIGDSTADDR) != 0 {
                let address = envelope.to.encode(AddressFamily::AF_INET6);
                put(SocketLevel::SOL_IPV6, V6::IPV6_ORIGDSTADDR.raw(), &address);
            }
        }
    }
    control
}
