//! Options of the levels IP, IPv6, TCP and UDP.

use std::net::Ipv4Addr;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, IpProtocol, SocketKind};
use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6, SocketLevel, TcpOption as Tcp, UdpOption as Udp};

use super::memberships::Memberships;
use super::option_rules::{RULES, Range};
use crate::net::limits::Limits;
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;

/// The options of one socket.
pub(super) struct InetOptions {
    family: AddressFamily,
    kind: SocketKind,
    values: Mutex<Values>,
}

#[derive(Clone)]
struct Values {
    /// In the order of [`RULES`].
    numbers: Vec<i32>,
    /// The source address of multicast datagrams.
    multicast_address: Ipv4Addr,
    /// The value set for TCP_MAXSEG.
    segment: i32,
    congestion: &'static str,
    memberships: Memberships,
}

/// The state of a socket on which options depend.
pub(super) struct SocketPhase {
    /// Whether it has a port.
    pub is_bound: bool,
    /// Whether it is connected.
    pub is_connected: bool,
}

/// Known congestion controls, which have no effect without packets.
const CONGESTION: [&str; 2] = ["cubic", "reno"];
/// The maximum of `TCP_LINGER2` in seconds (`TCP_FIN_TIMEOUT_MAX`).
const LONGEST_LINGER: i32 = 120;
/// The size of the name of a congestion control (`TCP_CA_NAME_MAX`).
const CONGESTION_LEN: usize = 16;

fn position(level: SocketLevel, name: i32) -> Option<usize> {
    RULES.iter().position(|rule| rule.level == level && rule.name == name)
}

fn int(value: &[u8]) -> Result<i32, Errno> {
    Ok(i32::from_ne_bytes(*value.first_chunk().ok_or_else(|| Errno::EINVAL.here())?))
}

/// A value of the IP level, which may be a single byte.
fn short_int(value: &[u8]) -> Result<i32, Errno> {
    match value {
        [] => Ok(0),
        [byte] | [byte, _] | [byte, _, _] => Ok(i32::from(*byte)),
        long => int(long),
    }
}

/// The time in seconds of the first retransmission at or after `seconds`, with intervals that double.
fn retransmission_time(seconds: i32) -> i32 {
    /// The maximum interval in seconds (`TCP_RTO_MAX`).
    const LONGEST: i32 = 120;
    if seconds <= 0 {
        return 0;
    }
    let (mut wait, mut time) = (1, 1);
    for _ in 1..u8::MAX {
        if time >= seconds {
            break;
        }
        wait = LONGEST.min(wait * 2);
        time += wait;
    }
    time
}

fn number(value: i32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

impl InetOptions {
    /// The options of a new socket.
    pub(super) fn new(family: AddressFamily, kind: SocketKind, limits: &Limits) -> Self {
        let values = Values {
            numbers: RULES.iter().map(|rule| rule.first(&limits.numbers)).collect(),
            multicast_address: Ipv4Addr::UNSPECIFIED,
            segment: 0,
            congestion: CONGESTION[0],
            memberships: Memberships::default(),
        };
        InetOptions { family, kind, values: Mutex::new(Rank::Leaf, values) }
    }

    /// A copy for an accepted socket.
    pub(super) fn inherit(&self) -> Self {
        let values = Values { memberships: Memberships::default(), ..self.values.lock().clone() };
        InetOptions { family: self.family, kind: self.kind, values: Mutex::new(Rank::Leaf, values) }
    }

    fn number(&self, level: SocketLevel, name: i32) -> i32 {
        position(level, name).and_then(|at| self.values.lock().numbers.get(at).copied()).unwrap_or(0)
    }

    /// An option of level SOL_IP.
    pub(super) fn ip(&self, name: Ip) -> i32 {
        self.number(SocketLevel::SOL_IP, name.raw())
    }

    /// An option of level SOL_IPV6.
    pub(super) fn v6(&self, name: V6) -> i32 {
        self.number(SocketLevel::SOL_IPV6, name.raw())
    }

    /// An option of level SOL_TCP.
    pub(super) fn tcp(&self, name: Tcp) -> i32 {
        self.number(SocketLevel::SOL_TCP, name.raw())
    }

    /// An option of level SOL_UDP.
    pub(super) fn udp(&self, name: Udp) -> i32 {
        self.number(SocketLevel::SOL_UDP, name.raw())
    }

    /// Whether multicast datagrams are sent over the loopback interface.
    pub(super) fn multicasts_over_loopback(&self) -> bool {
        self.values.lock().multicast_address.is_loopback() || self.v6(V6::IPV6_MULTICAST_IF) == 1
    }

    /// Whether the socket is a member of a group.
    pub(super) fn is_member(&self, group: std::net::IpAddr) -> bool {
        self.values.lock().memberships.has(group)
    }

    fn has_level(&self, level: SocketLevel) -> bool {
        match level {
            SocketLevel::SOL_IP => true,
            SocketLevel::SOL_IPV6 => self.family == AddressFamily::AF_INET6,
            SocketLevel::SOL_TCP => self.kind == SocketKind::SOCK_STREAM,
            SocketLevel::SOL_UDP => self.kind == SocketKind::SOCK_DGRAM,
            _ => false,
        }
    }

    /// Reads an option.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for options that the socket does not have (for other levels, IPv4 returns `EOPNOTSUPP`);
    /// `ENOTCONN` for those of connected sockets only.
    pub(super) fn get(&self, level: SocketLevel, name: i32, now: &SocketPhase) -> Result<Vec<u8>, Errno> {
        if !self.has_level(level) {
            let six = self.family == AddressFamily::AF_INET6;
            return Err(if six { Errno::ENOPROTOOPT.here() } else { Errno::EOPNOTSUPP.here() });
        }
        if let Some(at) = position(level, name) {
            return Ok(number(self.values.lock().numbers.get(at).copied().unwrap_or(0)));
        }
        let connected = || if now.is_connected { Ok(()) } else { Err(Errno::ENOTCONN.here()) };
        match level {
            SocketLevel::SOL_IP => match Ip::from_raw(name) {
                Ip::IP_MTU => connected().map(|()| number(65535)),
                Ip::IP_OPTIONS => Ok(Vec::new()),
                Ip::IP_MULTICAST_IF => Ok(self.values.lock().multicast_address.octets().to_vec()),
                Ip::IP_TRANSPARENT | Ip::IP_PASSSEC | Ip::IP_UNICAST_IF => Ok(number(0)),
                Ip::IP_PROTOCOL => Ok(number(self.protocol().raw())),
                _ => Err(Errno::ENOPROTOOPT.here()),
            },
            SocketLevel::SOL_IPV6 => match V6::from_raw(name) {
                V6::IPV6_MTU => connected().map(|()| number(65536)),
                V6::IPV6_TRANSPARENT | V6::IPV6_UNICAST_IF => Ok(number(0)),
                _ => Err(Errno::ENOPROTOOPT.here()),
            },
            SocketLevel::SOL_TCP => match Tcp::from_raw(name) {
                Tcp::TCP_MAXSEG => Ok(number(self.segment_size(now.is_connected))),
                Tcp::TCP_WINDOW_CLAMP | Tcp::TCP_INQ | Tcp::TCP_REPAIR | Tcp::TCP_FASTOPEN_CONNECT => Ok(number(0)),
                Tcp::TCP_CC_INFO | Tcp::TCP_SAVED_SYN => Ok(Vec::new()),
                Tcp::TCP_CONGESTION => {
                    let mut name = self.values.lock().congestion.as_bytes().to_vec();
                    name.resize(CONGESTION_LEN, 0);
                    Ok(name)
                }
                _ => Err(Errno::ENOPROTOOPT.here()),
            },
            _ => Err(Errno::ENOPROTOOPT.here()),
        }
    }

    /// The protocol.
    pub(super) fn protocol(&self) -> IpProtocol {
        if self.kind == SocketKind::SOCK_STREAM { IpProtocol::IPPROTO_TCP } else { IpProtocol::IPPROTO_UDP }
    }

    /// The maximum segment size: that of the loopback's packets without headers and time stamps.
    pub(super) fn segment_size(&self, connected: bool) -> i32 {
        let set = self.values.lock().segment;
        let most = if self.family == AddressFamily::AF_INET6 { 65464 } else { 65483 };
        match (connected, set) {
            (true, 0) => most,
            (true, set) => set.saturating_sub(12).min(most),
            (false, 0) => 536,
            (false, set) => set,
        }
    }

    /// Sets an option.
    ///
    /// # Errors
    /// `EINVAL` for invalid values; `EPERM` without the required capability; `ENOPROTOOPT` for options that the socket
    /// does not have.
    pub(super) fn set(
        &self,
        ctx: &TaskContext,
        level: SocketLevel,
        name: i32,
        value: &[u8],
        now: &SocketPhase,
    ) -> Result<(), Errno> {
        if !self.has_level(level) {
            return Err(Errno::ENOPROTOOPT.here());
        }
        if let Some(at) = position(level, name) {
            let given = if level == SocketLevel::SOL_IP { short_int(value)? } else { int(value)? };
            return self.set_number(at, given, now);
        }
        let privileged = || {
            let able = ctx.credentials().has(Capability::CAP_NET_ADMIN);
            if able { Errno::ENOPROTOOPT.here() } else { Errno::EPERM.here() }
        };
        let most = ctx.kernel().network.limits.numbers.igmp_max_memberships.count();
        match level {
            SocketLevel::SOL_IP => match Ip::from_raw(name) {
                Ip::IP_MULTICAST_IF => self.set_multicast_interface(value),
                Ip::IP_OPTIONS if value.is_empty() => Ok(()),
                Ip::IP_OPTIONS => Err(Errno::EINVAL.here()),
                Ip::IP_TRANSPARENT | Ip::IP_XFRM_POLICY | Ip::IP_IPSEC_POLICY => Err(privileged()),
                Ip::IP_UNICAST_IF => self.check_interface(i32::from_be(int(value)?)),
                option => self.values.lock().memberships.set_v4(option, value, most),
            },
            SocketLevel::SOL_IPV6 => match V6::from_raw(name) {
                V6::IPV6_TRANSPARENT | V6::IPV6_XFRM_POLICY | V6::IPV6_IPSEC_POLICY => Err(privileged()),
                V6::IPV6_UNICAST_IF => self.check_interface(i32::from_be(int(value)?)),
                V6::IPV6_MTU if (1280..=65535).contains(&int(value)?) || int(value)? == 0 => Ok(()),
                V6::IPV6_MTU => Err(Errno::EINVAL.here()),
                option => self.values.lock().memberships.set_v6(option, value),
            },
            SocketLevel::SOL_TCP => self.set_tcp(Tcp::from_raw(name), value, privileged),
            _ => Err(Errno::ENOPROTOOPT.here()),
        }
    }

    fn check_interface(&self, index: i32) -> Result<(), Errno> {
        if matches!(index, 0 | 1) { Ok(()) } else { Err(Errno::EADDRNOTAVAIL) }
    }

    fn set_number(&self, at: usize, given: i32, now: &SocketPhase) -> Result<(), Errno> {
        let rule = RULES.get(at).ok_or_else(|| Errno::ENOPROTOOPT.here())?;
        if rule.datagrams_only && self.kind == SocketKind::SOCK_STREAM {
            return Err(if rule.level == SocketLevel::SOL_IP {
                Errno::EINVAL.here()
            } else {
                Errno::ENOPROTOOPT.here()
            });
        }
        let is = |level, name| rule.level == level && rule.name == name;
        if is(SocketLevel::SOL_IPV6, V6::IPV6_V6ONLY.raw()) && now.is_bound {
            return Err(Errno::EINVAL.here());
        }
        let value = match rule.range {
            Range::Flag => i32::from(given != 0),
            // Only the low byte is used.
            Range::Within(0, 255) if is(SocketLevel::SOL_IP, Ip::IP_TOS.raw()) => given & 0xff,
            Range::OrDefault(..) if given == -1 => rule.default,
            Range::Within(least, most) | Range::OrDefault(least, most) => {
                if !(least..=most).contains(&given) {
                    return Err(Errno::EINVAL.here());
                }
                given
            }
            Range::Linger => match given {
                ..0 => -1,
                0 => rule.default,
                seconds => seconds.min(LONGEST_LINGER),
            },
            Range::Retransmissions => retransmission_time(given),
        };
        if let Some(slot) = self.values.lock().numbers.get_mut(at) {
            *slot = value;
        }
        Ok(())
    }

    fn set_multicast_interface(&self, value: &[u8]) -> Result<(), Errno> {
        if self.kind == SocketKind::SOCK_STREAM {
            return Err(Errno::EINVAL.here());
        }
        // An address, or a group, an address and an interface.
        let (first, rest) = value.split_first_chunk::<4>().ok_or_else(|| Errno::EINVAL.here())?;
        let (address, index) = match rest.split_first_chunk::<4>() {
            None => (first, 0),
            Some((address, index)) => (address, if index.len() < 4 { 0 } else { int(index)? }),
        };
        let address = Ipv4Addr::from(*address);
        let address = match index {
            0 if address.is_unspecified() || address.is_loopback() => address,
            1 => Ipv4Addr::LOCALHOST,
            _ => return Err(Errno::EADDRNOTAVAIL.here()),
        };
        self.values.lock().multicast_address = address;
        Ok(())
    }

    fn set_tcp(&self, option: Tcp, value: &[u8], privileged: impl Fn() -> Errno) -> Result<(), Errno> {
        match option {
            Tcp::TCP_CONGESTION => {
                let name = value.get(..CONGESTION_LEN).unwrap_or(value).split(|&b| b == 0).next().unwrap_or_default();
                let known =
                    CONGESTION.iter().find(|known| known.as_bytes() == name).ok_or_else(|| Errno::ENOENT.here())?;
                self.values.lock().congestion = known;
                Ok(())
            }
            Tcp::TCP_ULP => Err(Errno::ENOENT.here()),
            Tcp::TCP_MAXSEG => {
                let size = int(value)?;
                if size != 0 && !(88..=32767).contains(&size) {
                    return Err(Errno::EINVAL.here());
                }
                self.values.lock().segment = size;
                Ok(())
            }
            Tcp::TCP_REPAIR => Err(privileged()),
            _ => Err(Errno::ENOPROTOOPT.here()),
        }
    }
}
