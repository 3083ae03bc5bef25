//! `/proc/net`: interfaces, routes and sockets. All processes of a sandbox are in the same network.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, IpProtocol, SocketState, TcpState};

use super::counters;
use crate::fs::pseudo::{Entry, Listed, Listing, Pieces, Query, Subject, one_piece};
use crate::kernel::Kernel;
use crate::net::inet::{Endpoint, Facts, NetworkFacts, Report};
use crate::net::socket::Socket;
use crate::net::unix::{UnixName, UnixSocket};

/// A file of `/proc/net` on the sentry's own sockets: its name and the function that makes its content.
type OwnFile = (&'static str, fn(&Kernel) -> Pieces);

/// A file of `/proc/net` on AF_INET and AF_INET6.
type InetFile = (&'static str, fn(&Kernel, &dyn Facts) -> String);

static OWN_FILES: &[OwnFile] = &[
    ("netlink", netlink),
    ("ptype", |_| one_piece(b"Type Device      Function\n0800          ip_rcv\n86dd          ipv6_rcv\n".into())),
    ("unix", unix),
];

static INET_FILES: &[InetFile] = &[
    ("anycast6", |_, _| String::new()),
    ("arp", |_, _| "IP address       HW type     Flags       HW address            Mask     Device\n".into()),
    ("dev", interfaces),
    ("dev_mcast", |_, _| String::new()),
    ("fib_trie", |_, _| format!("Main:\n{LOOPBACK_TRIE}Local:\n{LOOPBACK_TRIE}")),
    ("icmp", |_, _| socket_head(AddressFamily::AF_INET, 2, true, DATAGRAM_WIDTH)),
    ("icmp6", |_, _| socket_head(AddressFamily::AF_INET6, 2, true, 0)),
    ("if_inet6", addresses),
    ("igmp", |_, _| format!("{IGMP_HEAD}1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n")),
    ("igmp6", |_, _| IGMP6.into()),
    ("ipv6_route", |_, _| IPV6_ROUTES.into()),
    ("mcfilter", |_, _| "Idx Device        MCA        SRC    INC    EXC\n".into()),
    ("netstat", counters::netstat),
    ("packet", |_, _| "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n".into()),
    ("protocols", counters::protocols),
    ("raw", |_, _| socket_head(AddressFamily::AF_INET, 2, true, 0)),
    ("raw6", |_, _| socket_head(AddressFamily::AF_INET6, 2, true, 0)),
    ("route", |_, _| format!("{:<127}\n", ROUTE_HEAD)),
    ("snmp", counters::snmp),
    ("snmp6", counters::snmp6),
    ("sockstat", counters::sockstat),
    ("sockstat6", counters::sockstat6),
    ("tcp", |_, facts| sockets(facts, IpProtocol::IPPROTO_TCP, AddressFamily::AF_INET)),
    ("tcp6", |_, facts| sockets(facts, IpProtocol::IPPROTO_TCP, AddressFamily::AF_INET6)),
    ("udp", |_, facts| sockets(facts, IpProtocol::IPPROTO_UDP, AddressFamily::AF_INET)),
    ("udp6", |_, facts| sockets(facts, IpProtocol::IPPROTO_UDP, AddressFamily::AF_INET6)),
    ("udplite", |_, _| socket_head(AddressFamily::AF_INET, 3, true, DATAGRAM_WIDTH)),
    ("udplite6", |_, _| socket_head(AddressFamily::AF_INET6, 2, true, 0)),
];

/// The routes of the loopback as a trie, the same for both tables.
const LOOPBACK_TRIE: &str = "  +-- 127.0.0.0/8 2 0 2
     +-- 127.0.0.0/31 1 0 0
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 127.255.255.255
        /32 link BROADCAST
";
/// Every interface is a member of the all-hosts and all-nodes groups.
const IGMP_HEAD: &str = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n";
const IGMP6: &str = "1    lo              ff020000000000000000000000000001     1 0000000C 0
1    lo              ff010000000000000000000000000001     1 00000008 0
";
/// The loopback's own address; all others are unreachable.
const IPV6_ROUTES: &str = "\
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 \
00000000 00000001       lo
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 \
00000000 00200200       lo
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 \
00000000 80200001       lo
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 \
00000000 00200200       lo
";

/// The table shown in this file has no route for the loopback.
const ROUTE_HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";

fn interfaces(_: &Kernel, facts: &dyn Facts) -> String {
    let mut text = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls \
         carrier compressed\n",
    );
    for interface in facts.interfaces() {
        let (bytes, packets) = (interface.bytes, interface.packets);
        let _ = writeln!(
            text,
            "{:>6}: {bytes:7} {packets:7}    0    0    0     0          0         0 {bytes:8} {packets:7}    0    0    \
             0     0       0          0",
            interface.name,
        );
    }
    text
}

fn addresses(_: &Kernel, facts: &dyn Facts) -> String {
    let mut text = String::new();
    for interface in facts.interfaces() {
        for (ip, prefix) in &interface.addresses {
            let IpAddr::V6(ip) = ip else { continue };
            // The scope: host, link, or global.
            let scope = if ip.is_loopback() {
                0x10
            } else if ip.is_unicast_link_local() {
                0x20
            } else {
                0
            };
            let digits = ip.octets().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
            let _ =
                writeln!(text, "{digits} {:02x} {prefix:02x} {scope:02x} 80 {:>8}", interface.index, interface.name);
        }
    }
    text
}

/// An address as words in memory order, and the port.
fn endpoint(end: &Endpoint) -> String {
    let words = |octets: &[u8]| {
        octets
            .chunks_exact(4)
            .fold(String::new(), |text, word| word.iter().rev().fold(text, |text, byte| format!("{text}{byte:02X}")))
    };
    let address = match end.ip {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{address}:{:04X}", end.port)
}

/// The line widths of IPv4 tables. Lines of IPv6 tables are not padded.
const TCP_WIDTH: usize = 149;
const DATAGRAM_WIDTH: usize = 127;

/// The header of a socket table: `indent` spaces, the columns of datagram sockets only, and padding up to a width.
fn socket_head(family: AddressFamily, indent: usize, datagrams: bool, width: usize) -> String {
    let (local, remote) = match family {
        AddressFamily::AF_INET6 => ("local_address                        ", "remote_address                       "),
        _ => ("local_address", "rem_address  "),
    };
    let tail = if datagrams { " ref pointer drops" } else { "" };
    let space = "";
    let head = format!(
        "{space:indent$}sl  {local} {remote} st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode{tail}"
    );
    format!("{head:<width$}\n")
}

fn sockets(facts: &dyn Facts, protocol: IpProtocol, family: AddressFamily) -> String {
    let tcp = protocol == IpProtocol::IPPROTO_TCP;
    let indent = if tcp || family == AddressFamily::AF_INET6 { 2 } else { 3 };
    let width = match (tcp, family) {
        (_, AddressFamily::AF_INET6) => 0,
        (true, _) => TCP_WIDTH,
        (false, _) => DATAGRAM_WIDTH,
    };
    let mut text = socket_head(family, indent, !tcp, width);
    let reports = facts.reports(protocol);
    for (i, report) in reports.iter().filter(|report| report.family == family).enumerate() {
        let line = socket(i, report, tcp);
        let _ = writeln!(text, "{line:<width$}");
    }
    text
}

fn socket(at: usize, report: &Report, tcp: bool) -> String {
    let nobody = match report.local.ip {
        IpAddr::V4(_) => "00000000:0000".to_owned(),
        IpAddr::V6(_) => format!("{:032}:0000", 0),
    };
    // In hundredths of a second. Timer 3 is that of TIME_WAIT.
    let timer = report.expires.map_or_else(|| "00:00000000".into(), |left| format!("03:{:08X}", left.as_millis() / 10));
    let line = format!(
        "{at:4}: {} {} {:02X} {:08X}:{:08X} {timer} 00000000 {:5}        0 {}",
        endpoint(&report.local),
        report.remote.as_ref().map_or(nobody, endpoint),
        report.state.raw(),
        // The backlog of a listener is not shown here.
        if report.state == TcpState::TCP_LISTEN { 0 } else { report.sending },
        report.receiving,
        report.uid,
        report.inode,
    );
    if report.expires.is_some() {
        return line + " 3 0000000000000000";
    }
    if tcp { line + " 1 0000000000000000 100 0 0 10 0" } else { format!("{line} 2 0000000000000000 {}", report.drops) }
}

/// The number of sockets listed with one acquisition of the table's lock.
const SOCKETS_AT_ONCE: usize = 64;

/// AF_UNIX sockets.
fn unix(_: &Kernel) -> Pieces {
    let mut head = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
    let mut from = 0;
    Box::new(move |query, text| {
        text.append(&mut std::mem::take(&mut head).into_bytes());
        let (sockets, next) = query.kernel.network.unix.some(from, SOCKETS_AT_ONCE);
        for socket in sockets.iter().filter(|socket| !socket.is_closed()) {
            text.extend_from_slice(unix_line(socket).as_bytes());
        }
        from = next.unwrap_or(from);
        Ok(next.is_some())
    })
}

fn unix_line(socket: &UnixSocket) -> String {
    /// `__SO_ACCEPTCON`: the socket listens.
    const LISTENS: u32 = 0x10000;
    let name = match socket.name() {
        Some(UnixName::Path(path, _)) => [b" ", path.as_slice()].concat(),
        Some(UnixName::Abstract(name)) => [b" @", name.as_slice()].concat(),
        None => Vec::new(),
    };
    let (_, kind, _) = socket.identity();
    let flags = if socket.is_listening() { LISTENS } else { 0 };
    // A socket that waits to be accepted has no inode yet. A connected one is also referenced by its peer.
    let connected = socket.is_connected();
    let inode = socket.options().look(|values| values.inode);
    let state = match (inode, connected) {
        (0, true) => SocketState::SS_CONNECTING,
        (_, true) => SocketState::SS_CONNECTED,
        (_, false) => SocketState::SS_UNCONNECTED,
    };
    let name: String = String::from_utf8_lossy(&name).replace('\0', "@");
    format!(
        "{:016x}: {:08X} 00000000 {flags:08X} {:04X} {:02X} {inode:5}{name}\n",
        0,
        2 + u32::from(connected),
        kind.raw(),
        state.raw(),
    )
}

/// AF_NETLINK sockets.
fn netlink(kernel: &Kernel) -> Pieces {
    let mut text =
        String::from("sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n");
    for report in kernel.network.netlink.all().iter().map(|socket| socket.report()) {
        let _ = writeln!(
            text,
            "{:016x} {:<3} {:<10} {:08x} {:<8} {:<8} {:<5} {:<8} {:<8} {:<8}",
            0, report.protocol, report.port, report.groups, report.receiving, 0, 0, 2, 0, report.inode,
        );
    }
    one_piece(text.into_bytes())
}

static FILE: Entry = Entry::long("", 0o444, content);

fn content(query: &Query<'_>) -> Result<Pieces, Errno> {
    let at = usize::try_from(query.subject.index).unwrap_or(usize::MAX);
    if let Some((_, make)) = OWN_FILES.get(at) {
        return Ok(make(query.kernel));
    }
    let (name, make) =
        at.checked_sub(OWN_FILES.len()).and_then(|at| INET_FILES.get(at)).ok_or_else(|| Errno::ENOENT.here())?;
    match query.kernel.network.inet.network_facts() {
        NetworkFacts::Own(facts) => Ok(one_piece(make(query.kernel, facts).into_bytes())),
        // Files that another kernel does not have are empty.
        NetworkFacts::Foreign(foreign) => match foreign.table(name) {
            Some(mut lines) => Ok(Box::new(move |_, text| lines(text))),
            None => Ok(one_piece(Vec::new())),
        },
    }
}

/// The names of all files, by index.
fn names() -> impl Iterator<Item = &'static str> {
    OWN_FILES.iter().map(|(name, _)| *name).chain(INET_FILES.iter().map(|(name, _)| *name))
}

/// The directory `net` of a process.
pub(super) struct NetFiles;

impl Listing for NetFiles {
    fn find(&self, _: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let at = names().position(|file| file.as_bytes() == name).ok_or_else(|| Errno::ENOENT.here())?;
        Ok((&FILE, Subject { index: at as i32, ..subject.clone() }))
    }

    fn list(&self, _: &Arc<Kernel>, _: &Subject) -> Result<Vec<Listed>, Errno> {
        let all = names().enumerate();
        Ok(all.map(|(i, name)| Listed { cookie: i as u64 + 1, name: name.to_owned(), entry: &FILE }).collect())
    }
}
