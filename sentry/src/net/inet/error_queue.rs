//! The error queue of a datagram socket, with the datagrams that caused the errors (`IP_RECVERR`, `MSG_ERRQUEUE`;
//! ip(7)).

use std::net::IpAddr;

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, SockExtendedErr};
use amber_abi::sockopt::{IpOption as Ip, Ipv6Option as V6, SocketLevel};
use zerocopy::IntoBytes;

use super::Endpoint;
use crate::net::control::Control;
use crate::net::receive_queue::{Packet, ReceiveQueue, RecvFlags};
use crate::net::socket::Received;

/// The origin of an error (`SO_EE_ORIGIN_ICMP`, `SO_EE_ORIGIN_ICMP6`), and the ICMP type and code of an unreachable
/// port.
const ICMP: (u8, u8, u8) = (2, 3, 3);
const ICMP_V6: (u8, u8, u8) = (3, 1, 4);

/// The errors, oldest first. All are about unreachable ports.
#[derive(Default)]
pub(super) struct ErrorQueue(ReceiveQueue);

impl ErrorQueue {
    /// Whether there are no errors.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a datagram that a socket of the family sent to a port without a socket, if it fits into the receive buffer.
    pub(super) fn push_refused(&mut self, family: AddressFamily, to: Endpoint, data: &[u8], limit: usize) {
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

    /// Removes the oldest error.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    pub(super) fn take(&mut self, buf: &mut [u8]) -> Result<Received, Errno> {
        self.0.take_message(buf, RecvFlags::default()).ok_or_else(|| Errno::EAGAIN.here())
    }
}
