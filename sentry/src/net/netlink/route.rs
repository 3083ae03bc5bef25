//! Requests of rtnetlink(7) on interfaces, addresses, routes and rules.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::netlink::*;
use amber_abi::socket::AddressFamily;
use zerocopy::{FromBytes, IntoBytes};

use super::message::{Message, attributes};
use crate::kernel::Kernel;
use crate::net::inet::{Interface, NetworkFacts};

/// The requesting socket.
pub(super) struct Requester {
    /// The protocol: NETLINK_ROUTE or NETLINK_SOCK_DIAG.
    pub protocol: NetlinkProtocol,
    /// The socket's address.
    pub port: u32,
    /// The requesting user, on which routes may depend; none for the kernel itself.
    pub uid: Option<u32>,
    /// Whether the requester has the privilege to change the network.
    pub privileged: bool,
    /// Whether errors omit the request they refer to (`NETLINK_CAP_ACK`).
    pub short_errors: bool,
    /// Whether requests are checked strictly (`NETLINK_GET_STRICT_CHK`).
    pub strict: bool,
}

/// The request type of sock_diag(7) for sockets of a family.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The highest message type (`RTM_MAX`).
const LAST_TYPE: u16 = 123;
/// The hardware address of an interface without one.
const NO_HARDWARE_ADDRESS: [u8; 6] = [0; 6];
/// An unlimited lifetime of an address.
const FOR_EVER: u32 = u32::MAX;
/// Attributes and action of a rule that looks up a route in a table (`linux/fib_rules.h`).
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
/// Reading requests, which are passed to the other kernel.
const READING: [RouteMessage; 10] = [
    RouteMessage::RTM_GETLINK,
    RouteMessage::RTM_GETADDR,
    RouteMessage::RTM_GETROUTE,
    RouteMessage::RTM_GETNEIGH,
    RouteMessage::RTM_GETRULE,
    RouteMessage::RTM_GETQDISC,
    RouteMessage::RTM_GETNEIGHTBL,
    RouteMessage::RTM_GETMULTICAST,
    RouteMessage::RTM_GETANYCAST,
    RouteMessage::RTM_GETNETCONF,
];
/// The metric of IPv6 routes that derive from addresses.
const ADDRESS_METRIC: u32 = 256;

/// Executes the requests in a datagram. Each reply is a datagram.
pub(super) fn answer(kernel: &Arc<Kernel>, mut bytes: &[u8], requester: &Requester) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    while let Ok((header, _)) = Nlmsghdr::read_from_prefix(bytes) {
        let len = header.nlmsg_len as usize;
        let Some(body) = bytes.get(size_of::<Nlmsghdr>()..len) else { break };
        let flags = NetlinkFlags::from_bits_retain(header.nlmsg_flags);
        let mut wants_ack = flags.contains(NetlinkFlags::NLM_F_ACK);
        // Control messages and messages that are not requests are only acknowledged.
        let mut result = Ok(());
        if flags.contains(NetlinkFlags::NLM_F_REQUEST) && header.nlmsg_type >= NLMSG_MIN_TYPE {
            let request = Request { kernel, header: &header, body, requester };
            match request.serve() {
                Ok(more) => {
                    wants_ack &= !request.is_dump();
                    answers.extend(more);
                }
                Err(errno) => result = Err(errno),
            }
        }
        if wants_ack || result.is_err() {
            answers.push(acknowledge(&header, body, requester, result));
        }
        bytes = bytes.get(align(len)..).unwrap_or_default();
    }
    answers
}

fn acknowledge(header: &Nlmsghdr, body: &[u8], requester: &Requester, result: Result<(), Errno>) -> Vec<u8> {
    let whole = result.is_err() && !requester.short_errors;
    let error = result.err().map_or(0, |errno| -errno.raw());
    let flags = if whole { 0 } else { NLM_F_CAPPED };
    let message = Message::new(NLMSG_ERROR, flags, header.nlmsg_seq, requester.port);
    message.body(&Nlmsgerr { error, msg: *header }).body(if whole { body } else { &[] }).finish()
}

struct Request<'a> {
    kernel: &'a Arc<Kernel>,
    header: &'a Nlmsghdr,
    body: &'a [u8],
    requester: &'a Requester,
}

impl Request<'_> {
    fn is_dump(&self) -> bool {
        let flags = NetlinkFlags::from_bits_retain(self.header.nlmsg_flags);
        flags.contains(NetlinkFlags::NLM_F_ROOT | NetlinkFlags::NLM_F_MATCH)
    }

    /// A request for one route with the user added, since Amber has another user ID on the host. A user in the request
    /// itself follows and takes precedence.
    fn with_uid(&self) -> Cow<'_, [u8]> {
        match (self.body.split_at_checked(size_of::<Rtmsg>()), self.requester.uid) {
            (Some((header, attributes)), Some(uid)) if !self.is_dump() => {
                let rta_len = (size_of::<Rtattr>() + size_of::<u32>()) as u16;
                let attribute = Rtattr { rta_len, rta_type: RTA_UID };
                [header, attribute.as_bytes(), &uid.to_ne_bytes(), attributes].concat().into()
            }
            _ => self.body.into(),
        }
    }

    fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or(0)
    }

    fn wants(&self, family: AddressFamily) -> bool {
        self.family() == 0 || u16::from(self.family()) == family.raw()
    }

    fn reply(&self, kind: RouteMessage) -> Message {
        let flags = if self.is_dump() { NetlinkFlags::NLM_F_MULTI.bits() } else { 0 };
        Message::new(kind.raw(), flags, self.header.nlmsg_seq, self.requester.port)
    }

    fn serve(&self) -> Result<Vec<Vec<u8>>, Errno> {
        if self.requester.protocol == NetlinkProtocol::NETLINK_SOCK_DIAG {
            return self.sockets();
        }
        // Types are in groups of four: new, delete, get, set.
        let kind = self.header.nlmsg_type;
        let gets = kind % 4 == 2;
        if kind > LAST_TYPE {
            return Err(Errno::EOPNOTSUPP.here());
        }
        if !gets && !self.requester.privileged {
            return Err(Errno::EPERM.here());
        }
        let kind = RouteMessage::from_raw(kind);
        if let NetworkFacts::Foreign(foreign) = self.kernel.network.inet.network_facts() {
            // The network is set up outside the sandbox and cannot be changed in it.
            let reads = READING.contains(&kind);
            return if reads {
                let body = if kind == RouteMessage::RTM_GETROUTE { self.with_uid() } else { self.body.into() };
                let _maker = self.kernel.mm.admit_maker()?;
                foreign.route(self.header, &body, self.requester.port, self.requester.strict)
            } else {
                Err(Errno::EOPNOTSUPP.here())
            };
        }
        if !self.is_dump() {
            return match kind {
                RouteMessage::RTM_GETLINK => self.one_link(),
                RouteMessage::RTM_GETROUTE => self.one_route(),
                _ => Err(Errno::EOPNOTSUPP.here()),
            };
        }
        let messages = match kind {
            RouteMessage::RTM_GETLINK => self.links(),
            RouteMessage::RTM_GETADDR => self.addresses(),
            RouteMessage::RTM_GETROUTE => self.routes(),
            RouteMessage::RTM_GETRULE => self.rules(),
            RouteMessage::RTM_GETNEIGH => Vec::new(),
            _ => return Err(Errno::EOPNOTSUPP.here()),
        };
        let flags = NetlinkFlags::NLM_F_MULTI.bits();
        let done = Message::new(NLMSG_DONE, flags, self.header.nlmsg_seq, self.requester.port).body(&0i32).finish();
        let all = messages.concat();
        Ok(if all.is_empty() { vec![done] } else { vec![all, done] })
    }

    /// Executes a request of sock_diag(7), which only another kernel supports, for its sockets.
    fn sockets(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let families = [AddressFamily::AF_INET, AddressFamily::AF_INET6];
        if self.header.nlmsg_type != SOCK_DIAG_BY_FAMILY {
            return Err(Errno::EOPNOTSUPP.here());
        }
        match self.kernel.network.inet.network_facts() {
            NetworkFacts::Foreign(foreign)
                if families.iter().any(|family| family.raw() == u16::from(self.family())) =>
            {
                let _maker = self.kernel.mm.admit_maker()?;
                foreign.sockets(self.header, self.body, self.requester.port)
            }
            _ => Err(Errno::ENOENT.here()),
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        match self.kernel.network.inet.network_facts() {
            NetworkFacts::Own(facts) => facts.interfaces(),
            NetworkFacts::Foreign(_) => Vec::new(),
        }
    }

    fn links(&self) -> Vec<Vec<u8>> {
        self.interfaces().iter().map(|interface| self.link(interface)).collect()
    }

    fn one_link(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let (asked, rest) = Ifinfomsg::read_from_prefix(self.body).map_err(|_| Errno::EINVAL.here())?;
        let attributes = attributes(rest);
        let name = attributes.iter().find(|(kind, _)| *kind == IFLA_IFNAME);
        let name = name.map(|(_, name)| name.split(|&b| b == 0).next().unwrap_or_default());
        if asked.ifi_index <= 0 && name.is_none() {
            return Err(Errno::EINVAL.here());
        }
        let interfaces = self.interfaces();
        let found = interfaces.iter().find(|interface| match asked.ifi_index {
            index if index > 0 => interface.index == index,
            _ => name == Some(interface.name.as_bytes()),
        });
        Ok(vec![self.link(found.ok_or_else(|| Errno::ENODEV.here())?)])
    }

    fn link(&self, interface: &Interface) -> Vec<u8> {
        let info = Ifinfomsg {
            ifi_type: interface.hardware,
            ifi_index: interface.index,
            ifi_flags: interface.flags.bits(),
            ..Ifinfomsg::default()
        };
        let statistics = RtnlLinkStats64 {
            rx_packets: interface.packets,
            tx_packets: interface.packets,
            rx_bytes: interface.bytes,
            tx_bytes: interface.bytes,
            ..RtnlLinkStats64::default()
        };
        self.reply(RouteMessage::RTM_NEWLINK)
            .body(&info)
            .name(IFLA_IFNAME, interface.name)
            .attribute(IFLA_TXQLEN, &interface.queue_len)
            .attribute(IFLA_OPERSTATE, &IF_OPER_UNKNOWN)
            .attribute(IFLA_LINKMODE, &0u8)
            .attribute(IFLA_MTU, &interface.mtu)
            .attribute(IFLA_MIN_MTU, &0u32)
            .attribute(IFLA_MAX_MTU, &0u32)
            .attribute(IFLA_GROUP, &0u32)
            .attribute(IFLA_PROMISCUITY, &0u32)
            .attribute(IFLA_NUM_TX_QUEUES, &1u32)
            .attribute(IFLA_NUM_RX_QUEUES, &1u32)
            .attribute(IFLA_CARRIER, &1u8)
            .name(IFLA_QDISC, "noqueue")
            .attribute(IFLA_CARRIER_CHANGES, &0u32)
            .attribute(IFLA_PROTO_DOWN, &0u8)
            .attribute(IFLA_ADDRESS, &NO_HARDWARE_ADDRESS)
            .attribute(IFLA_BROADCAST, &NO_HARDWARE_ADDRESS)
            .attribute(IFLA_STATS64, &statistics)
            .finish()
    }

    fn addresses(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for interface in self.interfaces() {
            for &(ip, prefix) in &interface.addresses {
                let family = if ip.is_ipv4() { AddressFamily::AF_INET } else { AddressFamily::AF_INET6 };
                if self.wants(family) {
                    all.push(self.address(&interface, family, ip, prefix));
                }
            }
        }
        all
    }

    fn address(&self, interface: &Interface, family: AddressFamily, ip: IpAddr, prefix: u8) -> Vec<u8> {
        let message = Ifaddrmsg {
            ifa_family: family.raw() as u8,
            ifa_prefixlen: prefix,
            ifa_flags: IFA_F_PERMANENT as u8,
            ifa_scope: if ip.is_loopback() { RT_SCOPE_HOST } else { RT_SCOPE_UNIVERSE },
            ifa_index: interface.index as u32,
        };
        let mut reply = self.reply(RouteMessage::RTM_NEWADDR).body(&message);
        reply = match ip {
            IpAddr::V4(ip) => reply
                .attribute(IFA_ADDRESS, &ip.octets())
                .attribute(IFA_LOCAL, &ip.octets())
                .name(IFA_LABEL, interface.name),
            IpAddr::V6(ip) => reply.attribute(IFA_ADDRESS, &ip.octets()),
        };
        let validity = IfaCacheinfo { ifa_prefered: FOR_EVER, ifa_valid: FOR_EVER, ..IfaCacheinfo::default() };
        reply.attribute(IFA_FLAGS, &IFA_F_PERMANENT).attribute(IFA_CACHEINFO, validity.as_bytes()).finish()
    }

    fn routes(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let local = Ipv4Addr::LOCALHOST;
        if self.wants(AddressFamily::AF_INET) {
            let net = Ipv4Addr::new(127, 0, 0, 0);
            let everybody = Ipv4Addr::new(127, 255, 255, 255);
            all.push(self.route_v4(net, 8, RTN_LOCAL, RT_SCOPE_HOST));
            all.push(self.route_v4(local, 32, RTN_LOCAL, RT_SCOPE_HOST));
            all.push(self.route_v4(everybody, 32, RTN_BROADCAST, RT_SCOPE_LINK));
        }
        if self.wants(AddressFamily::AF_INET6) {
            all.push(self.route_v6(RTN_UNICAST, RT_TABLE_MAIN, ADDRESS_METRIC));
            all.push(self.route_v6(RTN_LOCAL, RT_TABLE_LOCAL, 0));
        }
        all
    }

    fn route_v4(&self, to: Ipv4Addr, prefix: u8, kind: u8, scope: u8) -> Vec<u8> {
        let route = Rtmsg {
            rtm_family: AddressFamily::AF_INET.raw() as u8,
            rtm_dst_len: prefix,
            rtm_table: RT_TABLE_LOCAL,
            rtm_protocol: RTPROT_KERNEL,
            rtm_scope: scope,
            rtm_type: kind,
            ..Rtmsg::default()
        };
        self.reply(RouteMessage::RTM_NEWROUTE)
            .body(&route)
            .attribute(RTA_TABLE, &u32::from(RT_TABLE_LOCAL))
            .attribute(RTA_DST, &to.octets())
            .attribute(RTA_PREFSRC, &Ipv4Addr::LOCALHOST.octets())
            .attribute(RTA_OIF, &1i32)
            .finish()
    }

    fn route_v6(&self, kind: u8, table: u8, metric: u32) -> Vec<u8> {
        let route = Rtmsg {
            rtm_family: AddressFamily::AF_INET6.raw() as u8,
            rtm_dst_len: 128,
            rtm_table: table,
            rtm_protocol: RTPROT_KERNEL,
            rtm_scope: RT_SCOPE_UNIVERSE,
            rtm_type: kind,
            ..Rtmsg::default()
        };
        self.reply(RouteMessage::RTM_NEWROUTE)
            .body(&route)
            .attribute(RTA_TABLE, &u32::from(table))
            .attribute(RTA_DST, &Ipv6Addr::LOCALHOST.octets())
            .attribute(RTA_PRIORITY, &metric)
            .attribute(RTA_OIF, &1i32)
            .attribute(RTA_PREF, &0u8)
            .finish()
    }

    /// The route to one address (`ip route get`).
    fn one_route(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let (asked, rest) = Rtmsg::read_from_prefix(self.body).map_err(|_| Errno::EINVAL.here())?;
        let attributes = attributes(rest);
        let to = attributes.iter().find(|(kind, _)| *kind == RTA_DST).map(|(_, data)| *data).unwrap_or_default();
        let family = AddressFamily::from_raw(asked.rtm_family.into());
        let (source, scope) = match family {
            AddressFamily::AF_INET => {
                let to: [u8; 4] = to.try_into().map_err(|_| Errno::EINVAL.here())?;
                if !Ipv4Addr::from(to).is_loopback() {
                    return Err(Errno::ENETUNREACH.here());
                }
                (Ipv4Addr::LOCALHOST.octets().to_vec(), RT_SCOPE_UNIVERSE)
            }
            AddressFamily::AF_INET6 => {
                let to: [u8; 16] = to.try_into().map_err(|_| Errno::EINVAL.here())?;
                if !Ipv6Addr::from(to).is_loopback() {
                    return Err(Errno::ENETUNREACH.here());
                }
                (Ipv6Addr::LOCALHOST.octets().to_vec(), RT_SCOPE_UNIVERSE)
            }
            _ => return Err(Errno::EOPNOTSUPP.here()),
        };
        let route = Rtmsg {
            rtm_family: asked.rtm_family,
            rtm_dst_len: (to.len() * 8) as u8,
            rtm_table: RT_TABLE_LOCAL,
            rtm_protocol: if family == AddressFamily::AF_INET { RTPROT_UNSPEC } else { RTPROT_KERNEL },
            rtm_scope: scope,
            rtm_type: RTN_LOCAL,
            rtm_flags: RTM_F_CLONED,
            ..Rtmsg::default()
        };
        let reply = self
            .reply(RouteMessage::RTM_NEWROUTE)
            .body(&route)
            .attribute(RTA_TABLE, &u32::from(RT_TABLE_LOCAL))
            .attribute(RTA_DST, to)
            .attribute(RTA_OIF, &1i32)
            .attribute(RTA_PREFSRC, &source[..]);
        Ok(vec![reply.finish()])
    }

    fn rules(&self) -> Vec<Vec<u8>> {
        let (local, main, default) = ((0, RT_TABLE_LOCAL), (32766, RT_TABLE_MAIN), (32767, RT_TABLE_DEFAULT));
        let mut all = Vec::new();
        for (family, rules) in
            [(AddressFamily::AF_INET, &[local, main, default][..]), (AddressFamily::AF_INET6, &[local, main][..])]
        {
            if self.wants(family) {
                all.extend(rules.iter().map(|&(priority, table)| self.rule(family, priority, table)));
            }
        }
        all
    }

    fn rule(&self, family: AddressFamily, priority: u32, table: u8) -> Vec<u8> {
        // The header of a rule has the layout of a route's, with the action in place of the type.
        let rule =
            Rtmsg { rtm_family: family.raw() as u8, rtm_table: table, rtm_type: FR_ACT_TO_TBL, ..Rtmsg::default() };
        let mut reply = self
            .reply(RouteMessage::RTM_NEWRULE)
            .body(&rule)
            .attribute(FRA_TABLE, &u32::from(table))
            .attribute(FRA_SUPPRESS_PREFIXLEN, &u32::MAX);
        if priority != 0 {
            reply = reply.attribute(FRA_PRIORITY, &priority);
        }
        reply.attribute(FRA_PROTOCOL, &RTPROT_KERNEL).finish()
    }
}
