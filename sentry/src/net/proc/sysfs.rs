//! `/sys/class/net` and `/sys/devices/virtual/net`: the network interfaces. They appear and disappear with those of the
//! network and cannot be changed here. All are shown as virtual, whatever they are on the host.
//!
//! `addr_assign_type` and the queues are missing, as netlink does not provide them.

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::netlink::*;

use crate::fs::pseudo::{Entry, Listed, Listing, Query, Subject, Text};
use crate::fs::sys::{directory, line};
use crate::kernel::Kernel;
use crate::net::inet::NetworkFacts;
use crate::net::netlink::links::{Link, text};

type Answer = Result<Vec<u8>, Errno>;

/// The kinds of interfaces with a `DEVTYPE` in `uevent`, which is their name.
const TYPES: [&str; 7] = ["bond", "bridge", "geneve", "ppp", "vlan", "vxlan", "wlan"];
/// `NET_NAME_PREDICTABLE`, the name assignment type of the loopback.
const PREDICTABLE: u32 = 2;

/// A file in `statistics` for each counter.
macro_rules! counters {
    ($($name:ident)+) => {
        const STATISTICS: &[Entry] =
            &[$(Entry::file(stringify!($name), 0o444, |query| line(link(query)?.statistics().$name))),+];
    };
}

counters! {
    collisions multicast rx_bytes rx_compressed rx_crc_errors rx_dropped rx_errors rx_fifo_errors rx_frame_errors
    rx_length_errors rx_missed_errors rx_nohandler rx_over_errors rx_packets tx_aborted_errors tx_bytes
    tx_carrier_errors tx_compressed tx_dropped tx_errors tx_fifo_errors tx_heartbeat_errors tx_packets tx_window_errors
}

const FILES: &[Entry] = &[
    Entry::file("addr_len", 0o444, |query| line(link(query)?.attribute(IFLA_ADDRESS).map_or(0, <[u8]>::len))),
    Entry::file("address", 0o444, |query| hardware_address(query, IFLA_ADDRESS)),
    Entry::file("broadcast", 0o444, |query| hardware_address(query, IFLA_BROADCAST)),
    changeable("carrier", |query| line(running(query)?.number(IFLA_CARRIER))),
    Entry::file("carrier_changes", 0o444, |query| line(link(query)?.number(IFLA_CARRIER_CHANGES))),
    Entry::file("carrier_down_count", 0o444, |query| line(link(query)?.number(IFLA_CARRIER_DOWN_COUNT))).since("4.16"),
    Entry::file("carrier_up_count", 0o444, |query| line(link(query)?.number(IFLA_CARRIER_UP_COUNT))).since("4.16"),
    Entry::file("dev_id", 0o444, |_| line("0x0")),
    Entry::file("dev_port", 0o444, |_| line(0)),
    Entry::file("dormant", 0o444, |query| line(u8::from(running(query)?.flags.contains(InterfaceFlags::IFF_DORMANT)))),
    Entry::file("duplex", 0o444, duplex),
    changeable("flags", flags),
    changeable("gro_flush_timeout", |_| line(0)),
    changeable("ifalias", alias),
    Entry::file("ifindex", 0o444, |query| line(link(query)?.index)),
    Entry::file("iflink", 0o444, |query| {
        let link = link(query)?;
        // An interface without a lower one is its own.
        line(link.attribute(IFLA_LINK).map_or(link.index as u32, |_| link.number(IFLA_LINK)))
    }),
    Entry::file("link_mode", 0o444, |query| line(link(query)?.number(IFLA_LINKMODE))),
    changeable("mtu", |query| line(link(query)?.number(IFLA_MTU))),
    Entry::file("name_assign_type", 0o444, |query| {
        // Unknown for other interfaces.
        if link(query)?.hardware == ARPHRD_LOOPBACK { line(PREDICTABLE) } else { Err(Errno::EINVAL.here()) }
    }),
    changeable("napi_defer_hard_irqs", |_| line(0)).since("5.8"),
    changeable("netdev_group", |query| line(link(query)?.number(IFLA_GROUP))),
    Entry::file("operstate", 0o444, |query| line(state(&link(query)?))),
    directory("power", &[]),
    changeable("proto_down", |query| line(link(query)?.number(IFLA_PROTO_DOWN))),
    Entry::file("speed", 0o444, |query| line(settings(query)?.0.cast_signed())),
    directory("statistics", STATISTICS),
    Entry::link("subsystem", |_| Ok(b"../../../../class/net".to_vec())),
    Entry::file("testing", 0o444, |query| {
        line(u8::from(running(query)?.number(IFLA_OPERSTATE) == u32::from(IF_OPER_TESTING)))
    })
    .since("5.8"),
    changeable("threaded", |_| line(0)).since("5.12"),
    changeable("tx_queue_len", |query| line(link(query)?.number(IFLA_TXQLEN))),
    Entry::file("type", 0o444, |query| line(link(query)?.hardware)),
    Entry::writable("uevent", 0o644, event, refuse),
];

static DIRECTORY: Entry = directory("", FILES);
static LINK: Entry =
    Entry::link("", |query| Ok(format!("../../devices/virtual/net/{}", link(query)?.name).into_bytes()));

/// A file that is writable with the privilege to change the network.
const fn changeable(name: &'static str, text: Text) -> Entry {
    Entry::writable(name, 0o644, text, refuse)
}

/// The network is set up outside the sandbox and cannot be changed in it.
fn refuse(query: &Query<'_>, _: &[u8]) -> Result<(), Errno> {
    let able = query.caller().1.has(Capability::CAP_NET_ADMIN);
    Err(if able { Errno::EOPNOTSUPP.here() } else { Errno::EPERM.here() })
}

fn link(query: &Query<'_>) -> Result<Link, Errno> {
    Link::at(query.kernel, query.subject.index)
}

/// The interface, for attributes that exist only while it is up.
fn running(query: &Query<'_>) -> Result<Link, Errno> {
    let link = link(query)?;
    if link.flags.contains(InterfaceFlags::IFF_UP) { Ok(link) } else { Err(Errno::EINVAL.here()) }
}

fn hardware_address(query: &Query<'_>, kind: u16) -> Answer {
    let link = link(query)?;
    let bytes = link.attribute(kind).unwrap_or_default();
    line(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

fn alias(query: &Query<'_>) -> Answer {
    match link(query)?.attribute(IFLA_IFALIAS) {
        Some(alias) => line(text(alias)),
        None => Ok(Vec::new()),
    }
}

/// The flags as they were set, without those that netlink derives from the state.
fn flags(query: &Query<'_>) -> Answer {
    let link = link(query)?;
    let derived = InterfaceFlags::IFF_RUNNING
        | InterfaceFlags::IFF_LOWER_UP
        | InterfaceFlags::IFF_DORMANT
        | InterfaceFlags::IFF_PROMISC;
    let mut flags = link.flags & !derived;
    flags.set(InterfaceFlags::IFF_PROMISC, link.number(IFLA_PROMISCUITY) > 0);
    line(format_args!("{:#x}", flags.bits()))
}

fn state(link: &Link) -> &'static str {
    match u8::try_from(link.number(IFLA_OPERSTATE)) {
        Ok(IF_OPER_NOTPRESENT) => "notpresent",
        Ok(IF_OPER_DOWN) => "down",
        Ok(IF_OPER_LOWERLAYERDOWN) => "lowerlayerdown",
        Ok(IF_OPER_TESTING) => "testing",
        Ok(IF_OPER_DORMANT) => "dormant",
        Ok(IF_OPER_UP) => "up",
        _ => "unknown",
    }
}

/// Speed and duplex mode; `EINVAL` if there are none.
fn settings(query: &Query<'_>) -> Result<(u32, u8), Errno> {
    let link = running(query)?;
    match query.kernel.network.inet.network_facts() {
        NetworkFacts::Own(_) => Err(Errno::EINVAL.here()),
        NetworkFacts::Foreign(foreign) => foreign.link_settings(link.name.as_bytes()).map_err(|_| Errno::EINVAL.here()),
    }
}

fn duplex(query: &Query<'_>) -> Answer {
    line(match settings(query)?.1 {
        0 => "half",
        1 => "full",
        _ => "unknown",
    })
}

fn event(query: &Query<'_>) -> Answer {
    let link = link(query)?;
    let kind = link.kind().filter(|kind| TYPES.contains(&kind.as_str()));
    let kind = kind.map(|kind| format!("DEVTYPE={kind}\n")).unwrap_or_default();
    line(format_args!("{kind}INTERFACE={}\nIFINDEX={}", link.name, link.index))
}

fn find(kernel: &Arc<Kernel>, name: &[u8], entry: &'static Entry) -> Result<(&'static Entry, Subject), Errno> {
    let link = Link::named(kernel, name).map_err(|_| Errno::ENOENT.here())?;
    Ok((entry, Subject { index: link.index, ..Subject::default() }))
}

fn list(kernel: &Arc<Kernel>, entry: &'static Entry) -> Result<Vec<Listed>, Errno> {
    let listed = |link: Link| Listed { cookie: u64::from(link.index.unsigned_abs()), name: link.name, entry };
    Ok(Link::all(kernel)?.into_iter().map(listed).collect())
}

/// A symbolic link for each interface, by name.
pub(super) struct Links;

impl Listing for Links {
    fn find(&self, kernel: &Arc<Kernel>, _: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        find(kernel, name, &LINK)
    }

    fn list(&self, kernel: &Arc<Kernel>, _: &Subject) -> Result<Vec<Listed>, Errno> {
        list(kernel, &LINK)
    }
}

/// A directory for each interface, by name.
pub(super) struct Directories;

impl Listing for Directories {
    fn find(&self, kernel: &Arc<Kernel>, _: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        find(kernel, name, &DIRECTORY)
    }

    fn list(&self, kernel: &Arc<Kernel>, _: &Subject) -> Result<Vec<Listed>, Errno> {
        list(kernel, &DIRECTORY)
    }

    fn links(&self, kernel: &Arc<Kernel>, _: &Subject) -> u32 {
        Link::all(kernel).map_or(0, |links| links.len() as u32)
    }
}
