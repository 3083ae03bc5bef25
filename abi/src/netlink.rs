//! Netlink, and its routing family in which interfaces, addresses and routes are listed.

layout! {
    /// The header of a message.
    pub struct Nlmsghdr: 16 {
        /// With this header.
        nlmsg_len: u32,
        /// An `NLMSG_` number or a [`RouteMessage`].
        nlmsg_type: u16,
        /// [`NetlinkFlags`].
        nlmsg_flags: u16,
        nlmsg_seq: u32,
        nlmsg_pid: u32,
    }

    /// The acknowledgement, or an error; the message it is about follows.
    pub struct Nlmsgerr: 20 {
        /// Zero, or a negated errno.
        error: i32,
        msg: Nlmsghdr,
    }

    /// The header of an attribute; its data follow, padded to four bytes.
    pub struct Rtattr: 4 {
        /// With this header, without padding.
        rta_len: u16,
        rta_type: u16,
    }

    /// What a message with nothing special to say starts with.
    pub struct Rtgenmsg: 1 {
        rtgen_family: u8,
    }

    /// An interface.
    pub struct Ifinfomsg: 16 {
        ifi_family: u8,
        __ifi_pad: u8,
        /// An `ARPHRD_` number.
        ifi_type: u16,
        ifi_index: i32,
        /// [`InterfaceFlags`].
        ifi_flags: u32,
        ifi_change: u32,
    }

    /// An address of an interface.
    pub struct Ifaddrmsg: 8 {
        ifa_family: u8,
        ifa_prefixlen: u8,
        /// The low eight of the `IFA_F_` flags.
        ifa_flags: u8,
        ifa_scope: u8,
        ifa_index: u32,
    }

    /// How long an address is valid, in seconds and hundredths.
    pub struct IfaCacheinfo: 16 {
        ifa_prefered: u32,
        ifa_valid: u32,
        cstamp: u32,
        tstamp: u32,
    }

    /// A route.
    pub struct Rtmsg: 12 {
        rtm_family: u8,
        rtm_dst_len: u8,
        rtm_src_len: u8,
        rtm_tos: u8,
        rtm_table: u8,
        rtm_protocol: u8,
        rtm_scope: u8,
        rtm_type: u8,
        rtm_flags: u32,
    }

    /// A neighbour.
    pub struct Ndmsg: 12 {
        ndm_family: u8,
        ndm_pad1: u8,
        ndm_pad2: u16,
        ndm_ifindex: i32,
        ndm_state: u16,
        ndm_flags: u8,
        ndm_type: u8,
    }

    /// The counters of an interface: `IFLA_STATS64`.
    pub struct RtnlLinkStats64: 200 {
        rx_packets: u64,
        tx_packets: u64,
        rx_bytes: u64,
        tx_bytes: u64,
        rx_errors: u64,
        tx_errors: u64,
        rx_dropped: u64,
        tx_dropped: u64,
        multicast: u64,
        collisions: u64,
        rx_length_errors: u64,
        rx_over_errors: u64,
        rx_crc_errors: u64,
        rx_frame_errors: u64,
        rx_fifo_errors: u64,
        rx_missed_errors: u64,
        tx_aborted_errors: u64,
        tx_carrier_errors: u64,
        tx_fifo_errors: u64,
        tx_heartbeat_errors: u64,
        tx_window_errors: u64,
        rx_compressed: u64,
        tx_compressed: u64,
        rx_nohandler: u64,
        rx_otherhost_dropped: u64,
    }

    /// What `SOCK_DIAG_BY_FAMILY` of the socket family is asked about internet sockets.
    pub struct InetDiagReqV2: 56 {
        sdiag_family: u8,
        sdiag_protocol: u8,
        idiag_ext: u8,
        pad: u8,
        idiag_states: u32,
        /// Ports in network order, addresses, interface and cookie.
        id: [u32; 12],
    }

    /// What `TCPDIAG_GETSOCK` of the socket family is asked about TCP sockets, of IPv4 and of IPv6 at once.
    pub struct InetDiagReq: 60 {
        idiag_family: u8,
        idiag_src_len: u8,
        idiag_dst_len: u8,
        idiag_ext: u8,
        /// Ports in network order, addresses, interface and cookie.
        id: [u32; 12],
        idiag_states: u32,
        idiag_dbs: u32,
    }
}

flags! {
    /// The flags of a message.
    pub struct NetlinkFlags: u16 {
        NLM_F_REQUEST = 0x1,
        NLM_F_MULTI = 0x2,
        NLM_F_ACK = 0x4,
        NLM_F_ECHO = 0x8,
        NLM_F_DUMP_INTR = 0x10,
        NLM_F_DUMP_FILTERED = 0x20,
        NLM_F_ROOT = 0x100,
        NLM_F_MATCH = 0x200,
        NLM_F_ATOMIC = 0x400,
        NLM_F_APPEND = 0x800,
    }
}

consts! { u16:
    NLM_F_DUMP = 0x300,
    NLM_F_REPLACE = 0x100,
    NLM_F_EXCL = 0x200,
    NLM_F_CREATE = 0x400,
    NLM_F_NONREC = 0x100,
    NLM_F_BULK = 0x200,
    NLM_F_CAPPED = 0x100,
    NLM_F_ACK_TLVS = 0x200,
    NLMSG_NOOP = 1,
    NLMSG_ERROR = 2,
    NLMSG_DONE = 3,
    NLMSG_OVERRUN = 4,
    NLMSG_MIN_TYPE = 16,
    NLA_F_NESTED = 0x8000,
    NLA_F_NET_BYTEORDER = 0x4000,
    NLMSGERR_ATTR_MSG = 1,
    NLMSGERR_ATTR_OFFS = 2,
}

named! {
    /// A protocol of the netlink family.
    pub struct NetlinkProtocol(i32) {
        NETLINK_ROUTE = 0,
        NETLINK_UNUSED = 1,
        NETLINK_USERSOCK = 2,
        NETLINK_FIREWALL = 3,
        NETLINK_SOCK_DIAG = 4,
        NETLINK_NFLOG = 5,
        NETLINK_XFRM = 6,
        NETLINK_SELINUX = 7,
        NETLINK_ISCSI = 8,
        NETLINK_AUDIT = 9,
        NETLINK_FIB_LOOKUP = 10,
        NETLINK_CONNECTOR = 11,
        NETLINK_NETFILTER = 12,
        NETLINK_IP6_FW = 13,
        NETLINK_DNRTMSG = 14,
        NETLINK_KOBJECT_UEVENT = 15,
        NETLINK_GENERIC = 16,
        NETLINK_SCSITRANSPORT = 18,
        NETLINK_ECRYPTFS = 19,
        NETLINK_RDMA = 20,
        NETLINK_CRYPTO = 21,
        NETLINK_SMC = 22,
    }
}

named! {
    /// An option of the netlink level.
    pub struct NetlinkOption(i32) {
        NETLINK_ADD_MEMBERSHIP = 1,
        NETLINK_DROP_MEMBERSHIP = 2,
        NETLINK_PKTINFO = 3,
        NETLINK_BROADCAST_ERROR = 4,
        NETLINK_NO_ENOBUFS = 5,
        NETLINK_LISTEN_ALL_NSID = 8,
        NETLINK_LIST_MEMBERSHIPS = 9,
        NETLINK_CAP_ACK = 10,
        NETLINK_EXT_ACK = 11,
        NETLINK_GET_STRICT_CHK = 12,
    }
}

named! {
    /// The type of a message of the routing family.
    pub struct RouteMessage(u16) {
        RTM_NEWLINK = 16,
        RTM_DELLINK = 17,
        RTM_GETLINK = 18,
        RTM_SETLINK = 19,
        RTM_NEWADDR = 20,
        RTM_DELADDR = 21,
        RTM_GETADDR = 22,
        RTM_NEWROUTE = 24,
        RTM_DELROUTE = 25,
        RTM_GETROUTE = 26,
        RTM_NEWNEIGH = 28,
        RTM_DELNEIGH = 29,
        RTM_GETNEIGH = 30,
        RTM_NEWRULE = 32,
        RTM_DELRULE = 33,
        RTM_GETRULE = 34,
        RTM_NEWQDISC = 36,
        RTM_DELQDISC = 37,
        RTM_GETQDISC = 38,
        RTM_NEWTCLASS = 40,
        RTM_DELTCLASS = 41,
        RTM_GETTCLASS = 42,
        RTM_NEWTFILTER = 44,
        RTM_DELTFILTER = 45,
        RTM_GETTFILTER = 46,
        RTM_NEWACTION = 48,
        RTM_DELACTION = 49,
        RTM_GETACTION = 50,
        RTM_NEWPREFIX = 52,
        RTM_GETMULTICAST = 58,
        RTM_GETANYCAST = 62,
        RTM_NEWNEIGHTBL = 64,
        RTM_GETNEIGHTBL = 66,
        RTM_SETNEIGHTBL = 67,
        RTM_NEWNDUSEROPT = 68,
        RTM_NEWADDRLABEL = 72,
        RTM_DELADDRLABEL = 73,
        RTM_GETADDRLABEL = 74,
        RTM_GETDCB = 78,
        RTM_SETDCB = 79,
        RTM_NEWNETCONF = 80,
        RTM_DELNETCONF = 81,
        RTM_GETNETCONF = 82,
        RTM_NEWMDB = 84,
        RTM_DELMDB = 85,
        RTM_GETMDB = 86,
        RTM_NEWNSID = 88,
        RTM_DELNSID = 89,
        RTM_GETNSID = 90,
        RTM_NEWSTATS = 92,
        RTM_GETSTATS = 94,
        RTM_NEWNEXTHOP = 104,
        RTM_DELNEXTHOP = 105,
        RTM_GETNEXTHOP = 106,
    }
}

consts! { u16:
    IFLA_UNSPEC = 0,
    IFLA_ADDRESS = 1,
    IFLA_BROADCAST = 2,
    IFLA_IFNAME = 3,
    IFLA_MTU = 4,
    IFLA_LINK = 5,
    IFLA_QDISC = 6,
    IFLA_STATS = 7,
    IFLA_MASTER = 10,
    IFLA_TXQLEN = 13,
    IFLA_MAP = 14,
    IFLA_OPERSTATE = 16,
    IFLA_LINKMODE = 17,
    IFLA_LINKINFO = 18,
    IFLA_NET_NS_PID = 19,
    IFLA_IFALIAS = 20,
    IFLA_NUM_VF = 21,
    IFLA_STATS64 = 23,
    IFLA_AF_SPEC = 26,
    IFLA_GROUP = 27,
    IFLA_NET_NS_FD = 28,
    IFLA_EXT_MASK = 29,
    IFLA_PROMISCUITY = 30,
    IFLA_NUM_TX_QUEUES = 31,
    IFLA_NUM_RX_QUEUES = 32,
    IFLA_CARRIER = 33,
    IFLA_CARRIER_CHANGES = 35,
    IFLA_PROTO_DOWN = 39,
    IFLA_GSO_MAX_SEGS = 40,
    IFLA_GSO_MAX_SIZE = 41,
    IFLA_MIN_MTU = 50,
    IFLA_MAX_MTU = 51,
    IFLA_PERM_ADDRESS = 54,
    IFLA_CARRIER_UP_COUNT = 47,
    IFLA_CARRIER_DOWN_COUNT = 48,
    IFLA_INFO_KIND = 1,
    IFA_UNSPEC = 0,
    IFA_ADDRESS = 1,
    IFA_LOCAL = 2,
    IFA_LABEL = 3,
    IFA_BROADCAST = 4,
    IFA_ANYCAST = 5,
    IFA_CACHEINFO = 6,
    IFA_MULTICAST = 7,
    IFA_FLAGS = 8,
    IFA_RT_PRIORITY = 9,
    IFA_TARGET_NETNSID = 10,
    IFA_PROTO = 11,
    RTA_UNSPEC = 0,
    RTA_DST = 1,
    RTA_SRC = 2,
    RTA_IIF = 3,
    RTA_OIF = 4,
    RTA_GATEWAY = 5,
    RTA_PRIORITY = 6,
    RTA_PREFSRC = 7,
    RTA_METRICS = 8,
    RTA_MULTIPATH = 9,
    RTA_FLOW = 11,
    RTA_CACHEINFO = 12,
    RTA_TABLE = 15,
    RTA_MARK = 16,
    RTA_PREF = 20,
    RTA_UID = 25,
    RTA_IP_PROTO = 27,
    RTA_SPORT = 28,
    RTA_DPORT = 29,
    NDA_UNSPEC = 0,
    NDA_DST = 1,
    NDA_LLADDR = 2,
    NDA_CACHEINFO = 3,
    ARPHRD_ETHER = 1,
    ARPHRD_LOOPBACK = 772,
    ARPHRD_NONE = 65534,
    TCPDIAG_GETSOCK = 18,
    SOCK_DIAG_BY_FAMILY = 20,
}

consts! { u32:
    IFA_F_SECONDARY = 0x1,
    IFA_F_NODAD = 0x2,
    IFA_F_TENTATIVE = 0x40,
    IFA_F_PERMANENT = 0x80,
    IFA_F_NOPREFIXROUTE = 0x200,
    RTMGRP_LINK = 0x1,
    RTMGRP_NOTIFY = 0x2,
    RTMGRP_NEIGH = 0x4,
    RTMGRP_IPV4_IFADDR = 0x10,
    RTMGRP_IPV4_ROUTE = 0x40,
    RTMGRP_IPV6_IFADDR = 0x100,
    RTMGRP_IPV6_ROUTE = 0x400,
    RTM_F_CLONED = 0x200,
    RTM_F_LOOKUP_TABLE = 0x1000,
    RTM_F_FIB_MATCH = 0x2000,
    RTEXT_FILTER_VF = 0x1,
    RTEXT_FILTER_SKIP_STATS = 0x8,
    RTNLGRP_LINK = 1,
    RTNLGRP_NOTIFY = 2,
    RTNLGRP_NEIGH = 3,
    RTNLGRP_IPV4_IFADDR = 5,
    RTNLGRP_IPV4_ROUTE = 7,
    RTNLGRP_IPV6_IFADDR = 9,
    RTNLGRP_IPV6_ROUTE = 11,
}

consts! { u8:
    RTN_UNSPEC = 0,
    RTN_UNICAST = 1,
    RTN_LOCAL = 2,
    RTN_BROADCAST = 3,
    RTN_ANYCAST = 4,
    RTN_MULTICAST = 5,
    RTN_BLACKHOLE = 6,
    RTN_UNREACHABLE = 7,
    RTN_PROHIBIT = 8,
    RTPROT_UNSPEC = 0,
    RTPROT_REDIRECT = 1,
    RTPROT_KERNEL = 2,
    RTPROT_BOOT = 3,
    RTPROT_STATIC = 4,
    RT_SCOPE_UNIVERSE = 0,
    RT_SCOPE_SITE = 200,
    RT_SCOPE_LINK = 253,
    RT_SCOPE_HOST = 254,
    RT_SCOPE_NOWHERE = 255,
    RT_TABLE_UNSPEC = 0,
    RT_TABLE_DEFAULT = 253,
    RT_TABLE_MAIN = 254,
    RT_TABLE_LOCAL = 255,
    IF_OPER_UNKNOWN = 0,
    IF_OPER_NOTPRESENT = 1,
    IF_OPER_DOWN = 2,
    IF_OPER_LOWERLAYERDOWN = 3,
    IF_OPER_TESTING = 4,
    IF_OPER_DORMANT = 5,
    IF_OPER_UP = 6,
}

flags! {
    /// The flags of an interface.
    pub struct InterfaceFlags: u32 {
        IFF_UP = 0x1,
        IFF_BROADCAST = 0x2,
        IFF_DEBUG = 0x4,
        IFF_LOOPBACK = 0x8,
        IFF_POINTOPOINT = 0x10,
        IFF_NOTRAILERS = 0x20,
        IFF_RUNNING = 0x40,
        IFF_NOARP = 0x80,
        IFF_PROMISC = 0x100,
        IFF_ALLMULTI = 0x200,
        IFF_MASTER = 0x400,
        IFF_SLAVE = 0x800,
        IFF_MULTICAST = 0x1000,
        IFF_PORTSEL = 0x2000,
        IFF_AUTOMEDIA = 0x4000,
        IFF_DYNAMIC = 0x8000,
        IFF_LOWER_UP = 0x1_0000,
        IFF_DORMANT = 0x2_0000,
        IFF_ECHO = 0x4_0000,
    }
}

/// The length of a message or attribute with its padding.
pub const fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        assert_eq!(size_of::<Nlmsghdr>(), size_of::<libc::nlmsghdr>());
        assert_eq!(size_of::<Nlmsgerr>(), size_of::<libc::nlmsgerr>());
        assert_eq!(IFLA_STATS64, libc::IFLA_STATS64);
        assert_eq!(RTA_TABLE, libc::RTA_TABLE);
        assert_eq!(RouteMessage::RTM_GETLINK.raw(), libc::RTM_GETLINK);
        assert_eq!((align(1), align(4), align(5)), (4, 4, 8));
    }
}
