//! Network interfaces for other parts of the kernel, read by rtnetlink(7).

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::netlink::*;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::message::attributes;
use super::route::{Requester, answer};
use crate::kernel::Kernel;

/// The state of an interface at one time.
pub(crate) struct Link {
    /// The index, from 1.
    pub index: i32,
    /// The name.
    pub name: String,
    /// The hardware type (`ARPHRD_`).
    pub hardware: u16,
    /// The flags.
    pub flags: InterfaceFlags,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Link {
    /// All interfaces by ascending index.
    ///
    /// # Errors
    /// Errors of the host, if it has the network.
    pub(crate) fn all(kernel: &Arc<Kernel>) -> Result<Vec<Link>, Errno> {
        let mut links = ask(kernel, NLM_F_DUMP, 0, None)?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The interface with an index.
    ///
    /// # Errors
    /// `ENODEV`.
    pub(crate) fn at(kernel: &Arc<Kernel>, index: i32) -> Result<Link, Errno> {
        ask(kernel, 0, index, None)?.pop().ok_or_else(|| Errno::ENODEV.here())
    }

    /// The interface with a name.
    ///
    /// # Errors
    /// `ENODEV`.
    pub(crate) fn named(kernel: &Arc<Kernel>, name: &[u8]) -> Result<Link, Errno> {
        /// `IFNAMSIZ`, including the terminating zero.
        const LONGEST: usize = 16;
        if name.is_empty() || name.len() >= LONGEST {
            return Err(Errno::ENODEV.here());
        }
        let found = ask(kernel, 0, 0, Some(name))?.pop().ok_or_else(|| Errno::ENODEV.here())?;
        // Linux also finds interfaces by alternative names.
        if found.name.as_bytes() == name { Ok(found) } else { Err(Errno::ENODEV.here()) }
    }

    /// The data of an attribute.
    pub(crate) fn attribute(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(other, _)| *other == kind).map(|(_, data)| data.as_slice())
    }

    /// An attribute with a number of one or four bytes; zero if it is missing.
    pub(crate) fn number(&self, kind: u16) -> u32 {
        match self.attribute(kind) {
            Some([byte]) => u32::from(*byte),
            Some(data) => data.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)),
            None => 0,
        }
    }

    /// The kind of a virtual interface, such as `bridge`; none for others.
    pub(crate) fn kind(&self) -> Option<String> {
        let info = attributes(self.attribute(IFLA_LINKINFO)?);
        let (_, name) = info.into_iter().find(|(kind, _)| *kind == IFLA_INFO_KIND)?;
        Some(text(name))
    }

    /// The counters. Those that an older host does not have are zero.
    pub(crate) fn statistics(&self) -> RtnlLinkStats64 {
        let mut all = RtnlLinkStats64::new_zeroed();
        let told = self.attribute(IFLA_STATS64).unwrap_or_default();
        for (place, &byte) in all.as_mut_bytes().iter_mut().zip(told) {
            *place = byte;
        }
        all
    }
}

/// The text up to the first zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

fn ask(kernel: &Arc<Kernel>, flags: u16, index: i32, name: Option<&[u8]>) -> Result<Vec<Link>, Errno> {
    let mut body = Ifinfomsg { ifi_index: index, ..Ifinfomsg::default() }.as_bytes().to_vec();
    if let Some(name) = name {
        let len = size_of::<Rtattr>() + name.len() + 1;
        body.extend_from_slice(Rtattr { rta_len: len as u16, rta_type: IFLA_IFNAME }.as_bytes());
        body.extend_from_slice(name);
        body.resize(align(body.len() + 1), 0);
    }
    let header = Nlmsghdr {
        nlmsg_len: (size_of::<Nlmsghdr>() + body.len()) as u32,
        nlmsg_type: RouteMessage::RTM_GETLINK.raw(),
        nlmsg_flags: NetlinkFlags::NLM_F_REQUEST.bits() | flags,
        nlmsg_seq: 1,
        nlmsg_pid: 0,
    };
    let protocol = NetlinkProtocol::NETLINK_ROUTE;
    let requester = Requester { protocol, port: 0, uid: None, privileged: false, short_errors: true, strict: false };
    let mut links = Vec::new();
    for datagram in answer(kernel, &[header.as_bytes(), &body].concat(), &requester) {
        read(&datagram, &mut links)?;
    }
    Ok(links)
}

/// Adds the interfaces in a datagram.
fn read(mut bytes: &[u8], links: &mut Vec<Link>) -> Result<(), Errno> {
    while let Ok((header, rest)) = Nlmsghdr::read_from_prefix(bytes) {
        let len = header.nlmsg_len as usize;
        let Some(body) = bytes.get(size_of::<Nlmsghdr>()..len) else { break };
        if header.nlmsg_type == NLMSG_ERROR {
            let error = rest.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            return Err(Errno::from_raw(error.wrapping_neg()));
        }
        if header.nlmsg_type == RouteMessage::RTM_NEWLINK.raw()
            && let Ok((info, rest)) = Ifinfomsg::read_from_prefix(body)
        {
            let attributes: Vec<_> = attributes(rest).into_iter().map(|(kind, data)| (kind, data.to_vec())).collect();
            let name = attributes.iter().find(|(kind, _)| *kind == IFLA_IFNAME).map(|(_, name)| text(name));
            links.push(Link {
                index: info.ifi_index,
                name: name.unwrap_or_default(),
                hardware: info.ifi_type,
                flags: InterfaceFlags::from_bits_retain(info.ifi_flags),
                attributes,
            });
        }
        bytes = bytes.get(align(len)..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, &mut Vec::new());
        }
    }

    #[test]
    fn links_are_read() {
        let info = Ifinfomsg { ifi_index: 7, ifi_type: 1, ..Ifinfomsg::default() };
        let kind = [&[11, 0, 1, 0][..], b"bridge\0"].concat();
        let message = Message::new(RouteMessage::RTM_NEWLINK.raw(), 0, 1, 0).body(&info).name(IFLA_IFNAME, "br0");
        let bytes = message.attribute(IFLA_MTU, &1500u32).attribute(IFLA_LINKINFO, &kind[..]).finish();
        let mut links = Vec::new();
        read(&bytes, &mut links).unwrap();
        let link = links.pop().unwrap();
        assert_eq!(
            (link.index, link.name.as_str(), link.number(IFLA_MTU), link.number(IFLA_GROUP)),
            (7, "br0", 1500, 0)
        );
        assert_eq!(link.kind().as_deref(), Some("bridge"));
        assert_eq!(link.statistics().rx_bytes, 0);
        let error = Nlmsghdr { nlmsg_len: 20, nlmsg_type: NLMSG_ERROR, ..Nlmsghdr::default() };
        assert_eq!(read(&[error.as_bytes(), &(-19i32).to_ne_bytes()].concat(), &mut links), Err(Errno::ENODEV));
    }
}
