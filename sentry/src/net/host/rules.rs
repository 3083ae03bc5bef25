//! Socket options that are passed to the host, with the required capabilities: one line each. The guest has no access
//! to others: their values contain pointers, or they affect more than the socket.

use amber_abi::sockopt::{
    IpOption as Ip, Ipv6Option as V6, PacketOption as Packet, SocketLevel, SocketOption as So, TcpOption as Tcp,
    UdpOption as Udp,
};

/// The permitted access to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Reading and setting require no capability.
    Free,
    /// Read only.
    Read,
    /// Set only; reading it would require an argument.
    Write,
    /// Setting it requires CAP_NET_RAW.
    Raw,
    /// Setting it requires CAP_NET_ADMIN.
    Admin,
    /// Setting it requires CAP_NET_RAW or CAP_NET_ADMIN.
    RawOrAdmin,
}

use Rule::{Admin, Free, Raw, RawOrAdmin, Read, Write};

/// Levels and options, grouped by rule.
macro_rules! rules {
    ($($level:ident $names:ident { $($rule:expr => $($name:ident)+;)+ })+) => {
        const RULES: &[(SocketLevel, i32, Rule)] = &[
            $($($((SocketLevel::$level, $names::$name.raw(), $rule),)+)+)+
        ];
    };
}

rules! {
    SOL_SOCKET So {
        Free => SO_REUSEADDR SO_REUSEPORT SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_OOBINLINE
            SO_NO_CHECK SO_TIMESTAMP_OLD SO_TIMESTAMP_NEW SO_TIMESTAMPNS_OLD SO_TIMESTAMPNS_NEW SO_TIMESTAMPING_OLD
            SO_TIMESTAMPING_NEW SO_RXQ_OVFL SO_SELECT_ERR_QUEUE SO_PEEK_OFF SO_INCOMING_CPU SO_MAX_PACING_RATE
            SO_LOCK_FILTER SO_BUF_LOCK SO_TXREHASH SO_BINDTODEVICE SO_BINDTOIFINDEX SO_PRIORITY;
        Write => SO_DETACH_FILTER SO_DETACH_REUSEPORT_BPF;
        Read => SO_MEMINFO SO_INCOMING_NAPI_ID;
        Admin => SO_SNDBUFFORCE SO_RCVBUFFORCE SO_BUSY_POLL SO_PREFER_BUSY_POLL SO_BUSY_POLL_BUDGET;
        RawOrAdmin => SO_MARK SO_RCVMARK;
    }
    SOL_IP Ip {
        Free => IP_TOS IP_TTL IP_HDRINCL IP_OPTIONS IP_ROUTER_ALERT IP_RECVOPTS IP_RETOPTS IP_PKTINFO IP_MTU_DISCOVER
            IP_RECVERR IP_RECVTTL IP_RECVTOS IP_FREEBIND IP_PASSSEC IP_ORIGDSTADDR IP_MINTTL IP_NODEFRAG IP_CHECKSUM
            IP_BIND_ADDRESS_NO_PORT IP_RECVFRAGSIZE IP_RECVERR_RFC4884 IP_MULTICAST_IF IP_MULTICAST_TTL
            IP_MULTICAST_LOOP IP_MULTICAST_ALL IP_UNICAST_IF IP_LOCAL_PORT_RANGE;
        Read => IP_MTU IP_PKTOPTIONS IP_PROTOCOL;
        Write => IP_ADD_MEMBERSHIP IP_DROP_MEMBERSHIP IP_BLOCK_SOURCE IP_UNBLOCK_SOURCE IP_ADD_SOURCE_MEMBERSHIP
            IP_DROP_SOURCE_MEMBERSHIP IP_MSFILTER MCAST_JOIN_GROUP MCAST_LEAVE_GROUP MCAST_BLOCK_SOURCE
            MCAST_UNBLOCK_SOURCE MCAST_JOIN_SOURCE_GROUP MCAST_LEAVE_SOURCE_GROUP MCAST_MSFILTER;
        RawOrAdmin => IP_TRANSPARENT;
    }
    SOL_IPV6 V6 {
        Free => IPV6_V6ONLY IPV6_UNICAST_HOPS IPV6_MULTICAST_IF IPV6_MULTICAST_HOPS IPV6_MULTICAST_LOOP
            IPV6_MULTICAST_ALL IPV6_ROUTER_ALERT IPV6_ROUTER_ALERT_ISOLATE IPV6_MTU_DISCOVER IPV6_MTU IPV6_RECVERR
            IPV6_RECVERR_RFC4884 IPV6_FLOWINFO IPV6_FLOWINFO_SEND IPV6_RECVPKTINFO IPV6_PKTINFO IPV6_RECVHOPLIMIT
            IPV6_RECVHOPOPTS IPV6_RECVRTHDR IPV6_RECVDSTOPTS IPV6_RECVPATHMTU IPV6_DONTFRAG IPV6_RECVTCLASS
            IPV6_TCLASS IPV6_AUTOFLOWLABEL IPV6_ADDR_PREFERENCES IPV6_MINHOPCOUNT IPV6_ORIGDSTADDR IPV6_UNICAST_IF
            IPV6_RECVFRAGSIZE IPV6_FREEBIND IPV6_CHECKSUM IPV6_HDRINCL IPV6_2292PKTINFO IPV6_2292HOPLIMIT;
        Read => IPV6_PATHMTU;
        Write => IPV6_ADD_MEMBERSHIP IPV6_DROP_MEMBERSHIP IPV6_JOIN_ANYCAST IPV6_LEAVE_ANYCAST;
        Raw => IPV6_HOPOPTS IPV6_RTHDRDSTOPTS IPV6_RTHDR IPV6_DSTOPTS;
        RawOrAdmin => IPV6_TRANSPARENT;
    }
    SOL_IPV6 Ip {
        Write => MCAST_JOIN_GROUP MCAST_LEAVE_GROUP MCAST_BLOCK_SOURCE MCAST_UNBLOCK_SOURCE MCAST_JOIN_SOURCE_GROUP
            MCAST_LEAVE_SOURCE_GROUP MCAST_MSFILTER;
    }
    SOL_TCP Tcp {
        Free => TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2
            TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_QUICKACK TCP_CONGESTION TCP_THIN_LINEAR_TIMEOUTS TCP_THIN_DUPACK
            TCP_USER_TIMEOUT TCP_FASTOPEN TCP_NOTSENT_LOWAT TCP_SAVE_SYN TCP_FASTOPEN_CONNECT TCP_FASTOPEN_KEY
            TCP_FASTOPEN_NO_COOKIE TCP_INQ TCP_TX_DELAY;
        Read => TCP_INFO TCP_CC_INFO TCP_SAVED_SYN TCP_TIMESTAMP;
        Write => TCP_MD5SIG TCP_MD5SIG_EXT;
    }
    // Packet rings in memory shared with the host are not supported, so their options are missing.
    SOL_PACKET Packet {
        Free => PACKET_COPY_THRESH PACKET_AUXDATA PACKET_ORIGDEV PACKET_VNET_HDR PACKET_TIMESTAMP PACKET_FANOUT
            PACKET_QDISC_BYPASS PACKET_IGNORE_OUTGOING;
        Read => PACKET_STATISTICS PACKET_ROLLOVER_STATS;
        Write => PACKET_ADD_MEMBERSHIP PACKET_DROP_MEMBERSHIP;
    }
    SOL_UDP Udp {
        Free => UDP_CORK UDP_NO_CHECK6_TX UDP_NO_CHECK6_RX UDP_SEGMENT UDP_GRO;
    }
}

/// `ICMP_FILTER` of raw sockets, and `ICMPV6_FILTER`.
const ICMP_FILTER: i32 = 1;
/// `IPV6_CHECKSUM` at the level of raw sockets.
const RAW_CHECKSUM: i32 = 7;
/// `SO_ORIGINAL_DST`: the destination of a connection before it was redirected.
const ORIGINAL_DESTINATION: i32 = 80;

/// The permitted access to an option; none if it is not passed to the host.
pub(super) fn rule(level: SocketLevel, name: i32) -> Option<Rule> {
    match (level, name) {
        (SocketLevel::SOL_RAW, ICMP_FILTER | RAW_CHECKSUM) | (SocketLevel::SOL_ICMPV6, ICMP_FILTER) => Some(Free),
        (SocketLevel::SOL_IP | SocketLevel::SOL_IPV6, ORIGINAL_DESTINATION) => Some(Read),
        _ => RULES.iter().find(|entry| (entry.0, entry.1) == (level, name)).map(|entry| entry.2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_pointers_cannot_be_reached() {
        assert_eq!(rule(SocketLevel::SOL_TCP, Tcp::TCP_ZEROCOPY_RECEIVE.raw()), None);
        assert_eq!(rule(SocketLevel::SOL_SOCKET, So::SO_ATTACH_FILTER.raw()), None);
        assert_eq!(rule(SocketLevel::SOL_SOCKET, So::SO_ATTACH_BPF.raw()), None);
        assert_eq!(rule(SocketLevel::SOL_TCP, Tcp::TCP_NODELAY.raw()), Some(Free));
    }
}
