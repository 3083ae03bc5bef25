//! Numeric options of the levels IP, IPv6, TCP and UDP: one line each.

use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6, SocketLevel, TcpOption as Tcp, UdpOption as Udp};

use Range::{Flag, Linger, OrDefault, Retransmissions, Within};

use crate::net::limits::Numbers;

/// The values of an option.
#[derive(Clone, Copy)]
pub(super) enum Range {
    /// Zero, or any other number, which becomes one.
    Flag,
    /// A number in a range.
    Within(i32, i32),
    /// A number in a range, or -1 for the default.
    OrDefault(i32, i32),
    /// Seconds up to two minutes; 0 for the default, negative for none.
    Linger,
    /// Seconds, rounded up to the time of a number of retransmissions.
    Retransmissions,
}

/// An option.
pub(super) struct Rule {
    /// The level.
    pub level: SocketLevel,
    /// The number of the option.
    pub name: i32,
    /// The permitted values.
    pub range: Range,
    /// The initial value.
    pub default: i32,
    /// Whether only connectionless sockets have it.
    pub datagrams_only: bool,
}

impl Rule {
    /// The initial value, which may be a parameter of the network.
    pub(super) fn first(&self, numbers: &Numbers) -> i32 {
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

const fn rule(range: Range, default: i32) -> Rule {
    Rule { level: SocketLevel::SOL_IP, name: 0, range, default, datagrams_only: false }
}

const fn datagrams(rule: Rule) -> Rule {
    Rule { datagrams_only: true, ..rule }
}

/// Levels and options, grouped by values and default.
macro_rules! rules {
    ($($level:ident $names:ident { $($rule:expr => $($name:ident)+;)+ })+) => {
        /// All options.
        pub(super) const RULES: &[Rule] = &[
            $($($(Rule { level: SocketLevel::$level, name: $names::$name.raw(), ..$rule },)+)+)+
        ];
    };
}

rules! {
    SOL_IP Ip {
        rule(Within(0, 255), 0) => IP_TOS IP_MINTTL;
        rule(OrDefault(1, 255), 64) => IP_TTL;
        rule(Flag, 0) => IP_RECVOPTS IP_RETOPTS IP_PKTINFO IP_RECVERR IP_RECVTTL IP_RECVTOS IP_FREEBIND
            IP_ORIGDSTADDR IP_CHECKSUM IP_BIND_ADDRESS_NO_PORT IP_RECVFRAGSIZE;
        rule(Within(0, 5), 1) => IP_MTU_DISCOVER;
        rule(Within(0, 1), 0) => IP_RECVERR_RFC4884;
        datagrams(rule(OrDefault(0, 255), 1)) => IP_MULTICAST_TTL;
        rule(Flag, 1) => IP_MULTICAST_LOOP;
        rule(Within(0, 1), 1) => IP_MULTICAST_ALL;
    }
    SOL_IPV6 V6 {
        rule(Flag, 0) => IPV6_V6ONLY IPV6_RECVERR IPV6_FLOWINFO_SEND IPV6_RECVPKTINFO IPV6_RECVHOPLIMIT
            IPV6_RECVHOPOPTS IPV6_RECVRTHDR IPV6_RECVDSTOPTS IPV6_RECVPATHMTU IPV6_DONTFRAG IPV6_RECVTCLASS
            IPV6_ORIGDSTADDR IPV6_RECVFRAGSIZE IPV6_FREEBIND;
        rule(OrDefault(0, 255), 64) => IPV6_UNICAST_HOPS;
        rule(Within(0, 1), 0) => IPV6_MULTICAST_IF IPV6_RECVERR_RFC4884;
        datagrams(rule(OrDefault(0, 255), 1)) => IPV6_MULTICAST_HOPS;
        rule(Within(0, 1), 1) => IPV6_MULTICAST_LOOP IPV6_MULTICAST_ALL;
        rule(Within(0, 5), 1) => IPV6_MTU_DISCOVER;
        rule(OrDefault(0, 255), 0) => IPV6_TCLASS;
        rule(Flag, 1) => IPV6_AUTOFLOWLABEL;
        rule(Within(0, 255), 0) => IPV6_MINHOPCOUNT;
    }
    SOL_TCP Tcp {
        rule(Flag, 0) => TCP_NODELAY TCP_CORK;
        rule(Within(1, 32767), 7200) => TCP_KEEPIDLE;
        rule(Within(1, 32767), 75) => TCP_KEEPINTVL;
        rule(Within(1, 127), 9) => TCP_KEEPCNT;
        rule(Within(1, 127), 6) => TCP_SYNCNT;
        rule(Linger, 60) => TCP_LINGER2;
        rule(Retransmissions, 0) => TCP_DEFER_ACCEPT;
        rule(Flag, 1) => TCP_QUICKACK;
        rule(Within(0, 1), 0) => TCP_THIN_LINEAR_TIMEOUTS TCP_FASTOPEN_NO_COOKIE;
        rule(Within(0, i32::MAX), 0) => TCP_USER_TIMEOUT TCP_FASTOPEN;
        rule(Within(i32::MIN, i32::MAX), 0) => TCP_NOTSENT_LOWAT;
        rule(Within(0, 2), 0) => TCP_SAVE_SYN;
    }
    SOL_UDP Udp {
        rule(Flag, 0) => UDP_CORK UDP_NO_CHECK6_TX UDP_NO_CHECK6_RX UDP_GRO;
        rule(Within(0, 65535), 0) => UDP_SEGMENT;
    }
}
