//! Sockets: families, types, messages and addresses.

use core::fmt;

named! {
    /// An address family.
    pub struct AddressFamily(u16) {
        AF_UNSPEC = 0,
        AF_UNIX = 1,
        AF_INET = 2,
        AF_AX25 = 3,
        AF_IPX = 4,
        AF_APPLETALK = 5,
        AF_NETROM = 6,
        AF_BRIDGE = 7,
        AF_ATMPVC = 8,
        AF_X25 = 9,
        AF_INET6 = 10,
        AF_ROSE = 11,
        AF_DECNET = 12,
        AF_NETBEUI = 13,
        AF_SECURITY = 14,
        AF_KEY = 15,
        AF_NETLINK = 16,
        AF_PACKET = 17,
        AF_ASH = 18,
        AF_ECONET = 19,
        AF_ATMSVC = 20,
        AF_RDS = 21,
        AF_SNA = 22,
        AF_IRDA = 23,
        AF_PPPOX = 24,
        AF_WANPIPE = 25,
        AF_LLC = 26,
        AF_IB = 27,
        AF_MPLS = 28,
        AF_CAN = 29,
        AF_TIPC = 30,
        AF_BLUETOOTH = 31,
        AF_IUCV = 32,
        AF_RXRPC = 33,
        AF_ISDN = 34,
        AF_PHONET = 35,
        AF_IEEE802154 = 36,
        AF_CAIF = 37,
        AF_ALG = 38,
        AF_NFC = 39,
        AF_VSOCK = 40,
        AF_KCM = 41,
        AF_QIPCRTR = 42,
        AF_SMC = 43,
        AF_XDP = 44,
        AF_MCTP = 45,
    }
}

named! {
    /// The kind of a socket, without the flags that `socket` takes along.
    pub struct SocketKind(u32) {
        SOCK_STREAM = 1,
        SOCK_DGRAM = 2,
        SOCK_RAW = 3,
        SOCK_RDM = 4,
        SOCK_SEQPACKET = 5,
        SOCK_DCCP = 6,
        SOCK_PACKET = 10,
    }
}

flags! {
    /// The flags that `socket` takes within the type, and `accept4` by themselves.
    pub struct SocketFlags: u32 {
        SOCK_CLOEXEC = 0o2000000,
        SOCK_NONBLOCK = 0o4000,
    }
}

/// The type argument of `socket`: a kind and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketType(pub u32);

impl SocketType {
    /// The bits that are the kind.
    pub const SOCK_TYPE_MASK: u32 = 0xf;

    /// The kind.
    pub const fn kind(self) -> SocketKind {
        SocketKind::from_raw(self.0 & Self::SOCK_TYPE_MASK)
    }

    /// The flags, unknown ones included.
    pub const fn flags(self) -> SocketFlags {
        SocketFlags::from_bits_retain(self.0 & !Self::SOCK_TYPE_MASK)
    }
}

impl crate::FromRegister for SocketType {
    fn from_register(value: u64) -> Self {
        Self(value as u32)
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        if self.flags().is_empty() { Ok(()) } else { write!(f, "|{}", self.flags()) }
    }
}

named! {
    /// Which directions `shutdown` closes.
    pub struct ShutdownHow(u32) {
        SHUT_RD = 0,
        SHUT_WR = 1,
        SHUT_RDWR = 2,
    }
}

named! {
    /// The state of a TCP connection, as `tcp_info` and `/proc/net/tcp` tell it.
    pub struct TcpState(u8) {
        TCP_ESTABLISHED = 1,
        TCP_SYN_SENT = 2,
        TCP_SYN_RECV = 3,
        TCP_FIN_WAIT1 = 4,
        TCP_FIN_WAIT2 = 5,
        TCP_TIME_WAIT = 6,
        TCP_CLOSE = 7,
        TCP_CLOSE_WAIT = 8,
        TCP_LAST_ACK = 9,
        TCP_LISTEN = 10,
        TCP_CLOSING = 11,
        TCP_NEW_SYN_RECV = 12,
    }
}

named! {
    /// An IP protocol.
    pub struct IpProtocol(i32) {
        IPPROTO_IP = 0,
        IPPROTO_ICMP = 1,
        IPPROTO_IGMP = 2,
        IPPROTO_IPIP = 4,
        IPPROTO_TCP = 6,
        IPPROTO_EGP = 8,
        IPPROTO_PUP = 12,
        IPPROTO_UDP = 17,
        IPPROTO_IDP = 22,
        IPPROTO_TP = 29,
        IPPROTO_DCCP = 33,
        IPPROTO_IPV6 = 41,
        IPPROTO_RSVP = 46,
        IPPROTO_GRE = 47,
        IPPROTO_ESP = 50,
        IPPROTO_AH = 51,
        IPPROTO_MTP = 92,
        IPPROTO_ENCAP = 98,
        IPPROTO_PIM = 103,
        IPPROTO_COMP = 108,
        IPPROTO_SCTP = 132,
        IPPROTO_UDPLITE = 136,
        IPPROTO_MPLS = 137,
        IPPROTO_RAW = 255,
        IPPROTO_MPTCP = 262,
        IPPROTO_ICMPV6 = 58,
    }
}

flags! {
    /// The flags of sending and receiving, and what `recvmsg` tells of the message.
    pub struct MessageFlags: u32 {
        MSG_OOB = 0x1,
        MSG_PEEK = 0x2,
        MSG_DONTROUTE = 0x4,
        MSG_CTRUNC = 0x8,
        MSG_PROBE = 0x10,
        MSG_TRUNC = 0x20,
        MSG_DONTWAIT = 0x40,
        MSG_EOR = 0x80,
        MSG_WAITALL = 0x100,
        MSG_FIN = 0x200,
        MSG_SYN = 0x400,
        MSG_CONFIRM = 0x800,
        MSG_RST = 0x1000,
        MSG_ERRQUEUE = 0x2000,
        MSG_NOSIGNAL = 0x4000,
        MSG_MORE = 0x8000,
        MSG_WAITFORONE = 0x10000,
        MSG_BATCH = 0x40000,
        MSG_ZEROCOPY = 0x4000000,
        MSG_FASTOPEN = 0x20000000,
        MSG_CMSG_CLOEXEC = 0x40000000,
    }
}

named! {
    /// How far a socket is, as `/proc/net/unix` tells it.
    pub struct SocketState(u32) {
        SS_UNCONNECTED = 1,
        SS_CONNECTING = 2,
        SS_CONNECTED = 3,
    }
}

named! {
    /// The type of a control message of [`SocketLevel::SOL_SOCKET`](crate::sockopt::SocketLevel::SOL_SOCKET).
    pub struct ControlType(i32) {
        SCM_RIGHTS = 1,
        SCM_CREDENTIALS = 2,
        SCM_SECURITY = 3,
        SCM_PIDFD = 4,
        SCM_TIMESTAMP_OLD = 29,
        SCM_TIMESTAMPNS_OLD = 35,
        SCM_TIMESTAMP_NEW = 63,
        SCM_TIMESTAMPNS_NEW = 64,
    }
}

consts! { usize:
    /// The most descriptors in one message.
    SCM_MAX_FD = 253,
    /// The longest path of a unix address.
    UNIX_PATH_MAX = 108,
    /// The size of the largest address.
    SOCKADDR_STORAGE_SIZE = 128,
    /// The greatest length `listen` queues by default.
    SOMAXCONN = 4096,
    /// What a control message is aligned to.
    CMSG_ALIGN = 8,
}

layout! {
    /// A unix address.
    pub struct SockaddrUn: 110 {
        sun_family: u16,
        sun_path: [u8; 108],
    }

    /// An IPv4 address.
    pub struct SockaddrIn: 16 {
        sin_family: u16,
        /// In network order.
        sin_port: [u8; 2],
        /// In network order.
        sin_addr: [u8; 4],
        sin_zero: [u8; 8],
    }

    /// An IPv6 address.
    pub struct SockaddrIn6: 28 {
        sin6_family: u16,
        /// In network order.
        sin6_port: [u8; 2],
        /// In network order.
        sin6_flowinfo: [u8; 4],
        sin6_addr: [u8; 16],
        sin6_scope_id: u32,
    }

    /// A netlink address.
    pub struct SockaddrNl: 12 {
        nl_family: u16,
        nl_pad: u16,
        nl_pid: u32,
        nl_groups: u32,
    }

    /// A packet address.
    pub struct SockaddrLl: 20 {
        sll_family: u16,
        /// In network order.
        sll_protocol: [u8; 2],
        sll_ifindex: i32,
        sll_hatype: u16,
        sll_pkttype: u8,
        sll_halen: u8,
        sll_addr: [u8; 8],
    }

    /// What `sendmsg` and `recvmsg` take.
    pub struct Msghdr: 56 {
        msg_name: u64,
        msg_namelen: i32,
        _pad0: u32,
        msg_iov: u64,
        msg_iovlen: u64,
        msg_control: u64,
        msg_controllen: u64,
        /// [`MessageFlags`].
        msg_flags: u32,
        _pad1: u32,
    }

    /// One message of `sendmmsg` and `recvmmsg`.
    pub struct Mmsghdr: 64 {
        msg_hdr: Msghdr,
        msg_len: u32,
        _pad0: u32,
    }

    /// The header of a control message; its data follow.
    pub struct Cmsghdr: 16 {
        /// With this header.
        cmsg_len: u64,
        cmsg_level: i32,
        cmsg_type: i32,
    }

    /// Who is at the other end.
    pub struct Ucred: 12 {
        pid: i32,
        uid: u32,
        gid: u32,
    }

    /// The option `SO_LINGER`.
    pub struct Linger: 8 {
        l_onoff: i32,
        /// In seconds.
        l_linger: i32,
    }

    /// The control message `IP_PKTINFO`.
    pub struct InPktinfo: 12 {
        ipi_ifindex: i32,
        ipi_spec_dst: [u8; 4],
        ipi_addr: [u8; 4],
    }

    /// The control message `IPV6_PKTINFO`.
    pub struct In6Pktinfo: 20 {
        ipi6_addr: [u8; 16],
        ipi6_ifindex: i32,
    }

    /// The argument of `IP_ADD_MEMBERSHIP`.
    pub struct IpMreqn: 12 {
        imr_multiaddr: [u8; 4],
        imr_address: [u8; 4],
        imr_ifindex: i32,
    }

    /// The argument of `IPV6_ADD_MEMBERSHIP`.
    pub struct Ipv6Mreq: 20 {
        ipv6mr_multiaddr: [u8; 16],
        ipv6mr_ifindex: i32,
    }

    /// What is in the error queue.
    pub struct SockExtendedErr: 16 {
        ee_errno: u32,
        /// 1 local, 2 ICMP, 3 ICMPv6.
        ee_origin: u8,
        ee_type: u8,
        ee_code: u8,
        ee_pad: u8,
        ee_info: u32,
        ee_data: u32,
    }

    /// The option `TCP_INFO`, as far as programs of every release know it.
    pub struct TcpInfo: 248 {
        /// [`TcpState`].
        tcpi_state: u8,
        tcpi_ca_state: u8,
        tcpi_retransmits: u8,
        tcpi_probes: u8,
        tcpi_backoff: u8,
        tcpi_options: u8,
        /// Two fields of four bits: send, then receive.
        tcpi_wscale: u8,
        tcpi_delivery_rate_app_limited: u8,
        /// In microseconds, as the times below.
        tcpi_rto: u32,
        tcpi_ato: u32,
        tcpi_snd_mss: u32,
        tcpi_rcv_mss: u32,
        tcpi_unacked: u32,
        tcpi_sacked: u32,
        tcpi_lost: u32,
        tcpi_retrans: u32,
        tcpi_fackets: u32,
        tcpi_last_data_sent: u32,
        tcpi_last_ack_sent: u32,
        tcpi_last_data_recv: u32,
        tcpi_last_ack_recv: u32,
        tcpi_pmtu: u32,
        tcpi_rcv_ssthresh: u32,
        tcpi_rtt: u32,
        tcpi_rttvar: u32,
        tcpi_snd_ssthresh: u32,
        tcpi_snd_cwnd: u32,
        tcpi_advmss: u32,
        tcpi_reordering: u32,
        tcpi_rcv_rtt: u32,
        tcpi_rcv_space: u32,
        tcpi_total_retrans: u32,
        tcpi_pacing_rate: u64,
        tcpi_max_pacing_rate: u64,
        tcpi_bytes_acked: u64,
        tcpi_bytes_received: u64,
        tcpi_segs_out: u32,
        tcpi_segs_in: u32,
        tcpi_notsent_bytes: u32,
        tcpi_min_rtt: u32,
        tcpi_data_segs_in: u32,
        tcpi_data_segs_out: u32,
        tcpi_delivery_rate: u64,
        tcpi_busy_time: u64,
        tcpi_rwnd_limited: u64,
        tcpi_sndbuf_limited: u64,
        tcpi_delivered: u32,
        tcpi_delivered_ce: u32,
        tcpi_bytes_sent: u64,
        tcpi_bytes_retrans: u64,
        tcpi_dsack_dups: u32,
        tcpi_reord_seen: u32,
        tcpi_rcv_ooopack: u32,
        tcpi_snd_wnd: u32,
        tcpi_rcv_wnd: u32,
        tcpi_rehash: u32,
        tcpi_total_rto: u16,
        tcpi_total_rto_recoveries: u16,
        tcpi_total_rto_time: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts_and_spelling() {
        assert_eq!(size_of::<Msghdr>(), size_of::<libc::msghdr>());
        assert_eq!(offset_of!(Msghdr, msg_flags), offset_of!(libc::msghdr, msg_flags));
        assert_eq!(size_of::<Mmsghdr>(), size_of::<libc::mmsghdr>());
        assert_eq!(size_of::<SockaddrUn>(), size_of::<libc::sockaddr_un>());
        assert_eq!(size_of::<SockaddrIn6>(), size_of::<libc::sockaddr_in6>());
        assert_eq!(size_of::<SockaddrLl>(), size_of::<libc::sockaddr_ll>());
        assert_eq!(offset_of!(TcpInfo, tcpi_total_retrans), 100);
        assert_eq!(SocketType(0o2000001).to_string(), "SOCK_STREAM|SOCK_CLOEXEC");
        assert_eq!(AddressFamily::AF_INET6.to_string(), "AF_INET6");
        assert_eq!((MessageFlags::MSG_PEEK | MessageFlags::MSG_DONTWAIT).to_string(), "MSG_PEEK|MSG_DONTWAIT");
    }
}
