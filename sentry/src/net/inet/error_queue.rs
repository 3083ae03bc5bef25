//! The errors a datagram socket keeps with the datagrams they are about (`IP_RECVERR`, `MSG_ERRQUEUE`): see ip(7).

use std::net::IpAddr;

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, SockExtendedErr};
use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6, SocketLevel};
use zerocopy::IntoBytes;

use super::Endpoint;
use crate::net::control::Control;
use crate::net::receive_queue::{Packet, ReceiveQueue, RecvFlags};
use crate::net::socket::Received;

/// Whence an error comes (`SO_EE_ORIGIN_ICMP`, `SO_EE_ORIGIN_ICMP6`), and what those call a port that nobody has: type and
/// code.
const ICMP: (u8, u8, u8) = (2, 3, 3);
const ICMP_V6: (u8, u8, u8) = (3, 1, 4);

/// The errors, first to come first; all are of ports that nobody has.
#[derive(Default)]
pub struct ErrorQueue(ReceiveQueue);

impl ErrorQueue {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a datagram that a socket of a family sent to a port that nobody has, if there is room in its receive buffer.
    pub fn push_refused(&mut self, family: AddressFamily, to: Endpoint, data: &[u8], limit: usize) {
        if !self.0.has_room(limit) {
            return;
        }
        let (level, kind, (ee_origin, ee_type, ee_code), offender_family) = match to.ip {
            IpAddr::V4(_) => (SocketLevel::SOL_IP, Ip::IP_RECVERR.raw(), ICMP, AddressFamily::AF_INET),
            IpAddr::V6(_) => (SocketLevel::SOL_IPV6, V6::IPV6_RECVERR.raw(), ICMP_V6, AddressFamily::AF_INET6),
        };
        let error = SockExtendedErr {
            ee_errno: Errno::ECONNREFUSED.raw() as u32,
            ee_origin,
            ee_type,
            ee_code,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        };
        let offender = Endpoint { ip: to.ip, port: 0 }.encode(offender_family);
        let message = [error.as_bytes(), &offender].concat();
        let mut control = Control::default();
        control.others.push((level.raw(), kind, message));
        self.0.push(Packet::new(data, Some(to.encode(family)), control));
    }

    /// Takes the first.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    pub fn take(&mut self, buf: &mut [u8]) -> Result<Received, Errno> {
        self.0.take_message(buf, RecvFlags::default()).ok_or_else(|| Errno::EAGAIN.here())
    }
}
