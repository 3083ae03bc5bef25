//! The options of the levels IP, IPv6, TCP and UDP that are plain numbers: one line each.

use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6, SocketLevel, TcpOption as Tcp};

use crate::net::limits::Numbers;

/// What values an option takes.
#[derive(Clone, Copy)]
pub enum Range {
    /// Zero, and everything else as one.
    Flag,
    /// A number within bounds.
    Within(i32, i32),
    /// A number within bounds, or -1 for the default.
    OrDefault(i32, i32),
    /// A number within bounds; lesser ones count as the first.
    AtLeast(i32),
    /// Seconds, rounded up to the time some number of retransmissions takes.
    Retransmissions,
}

/// One option.
pub struct Rule {
    /// Its level.
    pub level: SocketLevel,
    /// Its number.
    pub name: i32,
    /// Its values.
    pub range: Range,
    /// What it is at first.
    pub default: i32,
    /// Only sockets without connections have it.
    pub datagrams_only: bool,
}

impl Rule {
    /// What it is at first, where a parameter of the network says.
    pub fn first(&self, numbers: &Numbers) -> i32 {
        let is = |level, name| self.level == level && self.name == name;
        let tcp = |name: Tcp| is(SocketLevel::SOL_TCP, name.raw());
        let parameter = if is(SocketLevel::SOL_IP, Ip::IP_TTL.raw()) {
            &numbers.ip_default_ttl
        } else if is(SocketLevel::SOL_IPV6, V6::IPV6_UNICAST_HOPS.raw()) {
            &numbers.hop_limit
        } else if is(SocketLevel::SOL_IPV6, V6::IPV6_V6ONLY.raw()) {
            &numbers.bindv6only
        } else if tcp(Tcp::TCP_KEEPIDLE) {
            &numbers.tcp_keepalive_time
        } else if tcp(Tcp::TCP_KEEPINTVL) {
            &numbers.tcp_keepalive_intvl
        } else if tcp(Tcp::TCP_KEEPCNT) {
            &numbers.tcp_keepalive_probes
        } else if tcp(Tcp::TCP_SYNCNT) {
            &numbers.tcp_syn_retries
        } else if tcp(Tcp::TCP_LINGER2) {
            &numbers.tcp_fin_timeout
        } else {
            return self.default;
        };
        parameter.get() as i32
    }
}

const fn rule(level: SocketLevel, name: i32, range: Range, default: i32) -> Rule {
    Rule { level, name, range, default, datagrams_only: false }
}

const fn ip(name: Ip, range: Range, default: i32) -> Rule {
    rule(SocketLevel::SOL_IP, name.raw(), range, default)
}

const fn v6(name: V6, range: Range, default: i32) -> Rule {
    rule(SocketLevel::SOL_IPV6, name.raw(), range, default)
}

const fn tcp(name: Tcp, range: Range, default: i32) -> Rule {
    rule(SocketLevel::SOL_TCP, name.raw(), range, default)
}

const fn udp(name: i32, range: Range) -> Rule {
    rule(SocketLevel::SOL_UDP, name, range, 0)
}

const fn datagrams(mut rule: Rule) -> Rule {
    rule.datagrams_only = true;
    rule
}

/// `UDP_CORK`: what is sent is collected into one datagram.
pub const UDP_CORK: i32 = 1;
/// `UDP_NO_CHECK6_TX` and `UDP_NO_CHECK6_RX`.
const UDP_NO_CHECK6: [i32; 2] = [101, 102];
/// `UDP_SEGMENT`: what is sent is cut into datagrams of that size.
pub const UDP_SEGMENT: i32 = 103;
/// `UDP_GRO`: datagrams may be received together.
const UDP_GRO: i32 = 104;

/// All of them.
pub const RULES: &[Rule] = &[
    ip(Ip::IP_TOS, Range::Within(0, 255), 0),
    ip(Ip::IP_TTL, Range::OrDefault(1, 255), 64),
    ip(Ip::IP_RECVOPTS, Range::Flag, 0),
    ip(Ip::IP_RETOPTS, Range::Flag, 0),
    ip(Ip::IP_PKTINFO, Range::Flag, 0),
    ip(Ip::IP_MTU_DISCOVER, Range::Within(0, 5), 1),
    ip(Ip::IP_RECVERR, Range::Flag, 0),
    ip(Ip::IP_RECVTTL, Range::Flag, 0),
    ip(Ip::IP_RECVTOS, Range::Flag, 0),
    ip(Ip::IP_FREEBIND, Range::Flag, 0),
    ip(Ip::IP_ORIGDSTADDR, Range::Flag, 0),
    ip(Ip::IP_MINTTL, Range::Within(0, 255), 0),
    ip(Ip::IP_CHECKSUM, Range::Flag, 0),
    ip(Ip::IP_BIND_ADDRESS_NO_PORT, Range::Flag, 0),
    ip(Ip::IP_RECVFRAGSIZE, Range::Flag, 0),
    ip(Ip::IP_RECVERR_RFC4884, Range::Within(0, 1), 0),
    datagrams(ip(Ip::IP_MULTICAST_TTL, Range::OrDefault(0, 255), 1)),
    ip(Ip::IP_MULTICAST_LOOP, Range::Flag, 1),
    ip(Ip::IP_MULTICAST_ALL, Range::Within(0, 1), 1),
    v6(V6::IPV6_V6ONLY, Range::Flag, 0),
    v6(V6::IPV6_UNICAST_HOPS, Range::OrDefault(0, 255), 64),
    v6(V6::IPV6_MULTICAST_IF, Range::Within(0, 1), 0),
    datagrams(v6(V6::IPV6_MULTICAST_HOPS, Range::OrDefault(0, 255), 1)),
    v6(V6::IPV6_MULTICAST_LOOP, Range::Within(0, 1), 1),
    v6(V6::IPV6_MULTICAST_ALL, Range::Within(0, 1), 1),
    v6(V6::IPV6_MTU_DISCOVER, Range::Within(0, 5), 1),
    v6(V6::IPV6_RECVERR, Range::Flag, 0),
    v6(V6::IPV6_RECVERR_RFC4884, Range::Within(0, 1), 0),
    v6(V6::IPV6_FLOWINFO_SEND, Range::Flag, 0),
    v6(V6::IPV6_RECVPKTINFO, Range::Flag, 0),
    v6(V6::IPV6_RECVHOPLIMIT, Range::Flag, 0),
    v6(V6::IPV6_RECVHOPOPTS, Range::Flag, 0),
    v6(V6::IPV6_RECVRTHDR, Range::Flag, 0),
    v6(V6::IPV6_RECVDSTOPTS, Range::Flag, 0),
    v6(V6::IPV6_RECVPATHMTU, Range::Flag, 0),
    v6(V6::IPV6_DONTFRAG, Range::Flag, 0),
    v6(V6::IPV6_RECVTCLASS, Range::Flag, 0),
    v6(V6::IPV6_TCLASS, Range::OrDefault(0, 255), 0),
    v6(V6::IPV6_AUTOFLOWLABEL, Range::Flag, 1),
    v6(V6::IPV6_MINHOPCOUNT, Range::Within(0, 255), 0),
    v6(V6::IPV6_ORIGDSTADDR, Range::Flag, 0),
    v6(V6::IPV6_RECVFRAGSIZE, Range::Flag, 0),
    v6(V6::IPV6_FREEBIND, Range::Flag, 0),
    tcp(Tcp::TCP_NODELAY, Range::Flag, 0),
    tcp(Tcp::TCP_CORK, Range::Flag, 0),
    tcp(Tcp::TCP_KEEPIDLE, Range::Within(1, 32767), 7200),
    tcp(Tcp::TCP_KEEPINTVL, Range::Within(1, 32767), 75),
    tcp(Tcp::TCP_KEEPCNT, Range::Within(1, 127), 9),
    tcp(Tcp::TCP_SYNCNT, Range::Within(1, 127), 6),
    tcp(Tcp::TCP_LINGER2, Range::AtLeast(-1), 60),
    tcp(Tcp::TCP_DEFER_ACCEPT, Range::Retransmissions, 0),
    tcp(Tcp::TCP_QUICKACK, Range::Flag, 1),
    tcp(Tcp::TCP_THIN_LINEAR_TIMEOUTS, Range::Within(0, 1), 0),
    tcp(Tcp::TCP_USER_TIMEOUT, Range::Within(0, i32::MAX), 0),
    tcp(Tcp::TCP_FASTOPEN, Range::Within(0, i32::MAX), 0),
    tcp(Tcp::TCP_FASTOPEN_NO_COOKIE, Range::Within(0, 1), 0),
    tcp(Tcp::TCP_NOTSENT_LOWAT, Range::Within(i32::MIN, i32::MAX), 0),
    tcp(Tcp::TCP_SAVE_SYN, Range::Within(0, 2), 0),
    udp(UDP_CORK, Range::Flag),
    udp(UDP_NO_CHECK6[0], Range::Flag),
    udp(UDP_NO_CHECK6[1], Range::Flag),
    udp(UDP_SEGMENT, Range::Within(0, 65535)),
    udp(UDP_GRO, Range::Flag),
];
