//! Network interfaces, and their ioctl(2) commands (netdevice(7)).

use std::net::{IpAddr, Ipv4Addr};

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::ioctl::{Ifconf, Ifreq, IoctlRequest as Io};
use amber_abi::netlink::{ARPHRD_LOOPBACK, InterfaceFlags};
use amber_abi::socket::AddressFamily;

use super::{Endpoint, NetworkFacts};
use crate::error::SysResult;
use crate::slices::copy_fitting;
use crate::vfs::Caller;

/// A network interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    /// The index, from 1.
    pub index: i32,
    /// The name.
    pub name: &'static str,
    /// The hardware type (`ARPHRD_`).
    pub hardware: u16,
    /// The flags.
    pub flags: InterfaceFlags,
    /// The MTU in bytes.
    pub mtu: u32,
    /// The length of the transmit queue in packets.
    pub queue_len: u32,
    /// The addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The number of packets, both sent and received, as on a loopback they are the same.
    pub packets: u64,
    /// The number of bytes, as for `packets`.
    pub bytes: u64,
}

impl Interface {
    /// The loopback interface.
    pub(crate) fn loopback(packets: u64, bytes: u64) -> Self {
        Interface {
            index: 1,
            name: "lo",
            hardware: ARPHRD_LOOPBACK,
            flags: InterfaceFlags::IFF_UP
                | InterfaceFlags::IFF_LOOPBACK
                | InterfaceFlags::IFF_RUNNING
                | InterfaceFlags::IFF_LOWER_UP,
            mtu: 65536,
            queue_len: 1000,
            addresses: vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), 8), (IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 128)],
            packets,
            bytes,
        }
    }

    fn v4(&self) -> Option<(Ipv4Addr, u8)> {
        self.addresses.iter().find_map(|(ip, prefix)| match ip {
            IpAddr::V4(ip) => Some((*ip, *prefix)),
            IpAddr::V6(_) => None,
        })
    }

    fn named(&self) -> [u8; 16] {
        let mut name = [0; 16];
        copy_fitting(self.name.as_bytes(), &mut name[..15]);
        name
    }
}

fn v4_address(ip: Ipv4Addr) -> [u8; 24] {
    let mut data = [0; 24];
    data[..16].copy_from_slice(&Endpoint { ip: ip.into(), port: 0 }.encode(AddressFamily::AF_INET));
    data
}

fn word(value: u32) -> [u8; 24] {
    let mut data = [0; 24];
    data[..4].copy_from_slice(&value.to_ne_bytes());
    data
}

/// The commands on interfaces, which every socket supports; none for other commands.
pub(crate) fn ioctl(caller: &dyn Caller, command: u32, argument: u64) -> Option<SysResult> {
    let command = Io::from_raw(command);
    match command {
        Io::SIOCGIFCONF => Some(list(caller, argument)),
        Io::SIOCGIFNAME
        | Io::SIOCGIFFLAGS
        | Io::SIOCGIFADDR
        | Io::SIOCGIFDSTADDR
        | Io::SIOCGIFBRDADDR
        | Io::SIOCGIFNETMASK
        | Io::SIOCGIFMETRIC
        | Io::SIOCGIFMTU
        | Io::SIOCGIFHWADDR
        | Io::SIOCGIFINDEX
        | Io::SIOCGIFTXQLEN
        | Io::SIOCGIFMAP => Some(tell(caller, command, argument)),
        Io::SIOCGIFMEM | Io::SIOCGIFSLAVE => Some(Err(Errno::EINVAL.here().into())),
        Io::SIOCSIFFLAGS
        | Io::SIOCSIFADDR
        | Io::SIOCSIFDSTADDR
        | Io::SIOCSIFBRDADDR
        | Io::SIOCSIFNETMASK
        | Io::SIOCSIFMETRIC
        | Io::SIOCSIFMTU
        | Io::SIOCSIFNAME
        | Io::SIOCSIFHWADDR
        | Io::SIOCSIFTXQLEN
        | Io::SIOCSIFMAP
        | Io::SIOCADDMULTI
        | Io::SIOCDELMULTI
        | Io::SIOCADDRT
        | Io::SIOCDELRT => {
            // The network is set up outside the sandbox and cannot be changed in it.
            let able = caller.credentials().has(Capability::CAP_NET_ADMIN);
            Some(Err(if able { Errno::EOPNOTSUPP.here() } else { Errno::EPERM.here() }.into()))
        }
        Io::SIOCETHTOOL | Io::SIOCGMIIPHY => Some(Err(Errno::EOPNOTSUPP.here().into())),
        _ => None,
    }
}

fn tell(caller: &dyn Caller, command: Io, argument: u64) -> SysResult {
    let mut request = caller.read_object::<Ifreq>(argument)?;
    let facts = match caller.kernel().network.inet.network_facts() {
        NetworkFacts::Own(facts) => facts,
        NetworkFacts::Foreign(foreign) => {
            foreign.interface(command, &mut request)?;
            caller.write_object(argument, &request)?;
            return Ok(0);
        }
    };
    let interfaces = facts.interfaces();
    if command == Io::SIOCGIFNAME {
        let index = i32::from_ne_bytes(*request.ifr_ifru.first_chunk().ok_or_else(|| Errno::EINVAL.here())?);
        let found = interfaces.iter().find(|interface| interface.index == index).ok_or_else(|| Errno::ENODEV.here())?;
        request.ifr_name = found.named();
        caller.write_object(argument, &request)?;
        return Ok(0);
    }
    let name = request.ifr_name.split(|&b| b == 0).next().unwrap_or_default();
    // The addresses of an alias such as `lo:1` belong to the interface.
    let name = name.split(|&b| b == b':').next().unwrap_or_default();
    let found =
        interfaces.iter().find(|interface| interface.name.as_bytes() == name).ok_or_else(|| Errno::ENODEV.here())?;
    let (ip, prefix) = found.v4().unwrap_or((Ipv4Addr::UNSPECIFIED, 0));
    request.ifr_ifru = match command {
        Io::SIOCGIFFLAGS => word(found.flags.bits() & 0xffff),
        Io::SIOCGIFADDR | Io::SIOCGIFDSTADDR => v4_address(ip),
        Io::SIOCGIFBRDADDR => v4_address(Ipv4Addr::UNSPECIFIED),
        Io::SIOCGIFNETMASK => v4_address(Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))),
        Io::SIOCGIFMETRIC => word(0),
        Io::SIOCGIFMTU => word(found.mtu),
        Io::SIOCGIFINDEX => word(found.index as u32),
        Io::SIOCGIFTXQLEN => word(found.queue_len),
        Io::SIOCGIFHWADDR => word(u32::from(found.hardware)),
        _ => [0; 24],
    };
    caller.write_object(argument, &request)?;
    Ok(0)
}

fn addressed(interfaces: &[Interface]) -> Vec<Ifreq> {
    let entry = |interface: &Interface| {
        let (ip, _) = interface.v4()?;
        Some(Ifreq { ifr_name: interface.named(), ifr_ifru: v4_address(ip) })
    };
    interfaces.iter().filter_map(entry).collect()
}

fn list(caller: &dyn Caller, argument: u64) -> SysResult {
    let mut conf = caller.read_object::<Ifconf>(argument)?;
    let lines = match caller.kernel().network.inet.network_facts() {
        NetworkFacts::Own(facts) => addressed(&facts.interfaces()),
        NetworkFacts::Foreign(foreign) => foreign.addressed()?,
    };
    let size = size_of::<Ifreq>();
    let room = if conf.ifc_req == 0 { usize::MAX } else { usize::try_from(conf.ifc_len).unwrap_or(0) / size };
    let mut count = 0;
    for line in lines.iter().take(room) {
        if conf.ifc_req != 0 {
            caller.write_object(conf.ifc_req.wrapping_add((count * size) as u64), line)?;
        }
        count += 1;
    }
    conf.ifc_len = (count * size) as i32;
    caller.write_object(argument, &conf)?;
    Ok(0)
}
