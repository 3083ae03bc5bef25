//! Programs that outlive the socket they were attached to.
//!
//! A program that chooses among sockets of one port (`SO_ATTACH_REUSEPORT_CBPF`) belongs to all of them: the host keeps
//! it until the last is closed. It is charged to the socket it was attached to; once that is closed, has another address or
//! another program, to nobody in particular while a socket of that port is open.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use amber_abi::socket::{AddressFamily, SocketKind};
use amber_abi::sockopt::{Ipv6Option, SocketLevel, SocketOption as So};
use amber_platform::KernelCharge;

use super::socket::HostSocket;
use crate::net::socket::Socket;
use crate::sync::{Mutex, Rank};

/// A kind of socket and one of its ports.
type Port = (SocketKind, u16);

/// What sockets have in common that share a program of the host's: of a port the address, the interface they are bound
/// to and whether they are of IPv6 alone. Those that are connected have other addresses than when they were bound, so
/// that nothing tells with whom they share; their numbers tell them apart.
type Group = (Port, Vec<u8>, i32, i32, Option<u64>);

/// The charges for those programs; of a group the greatest, since it has one at a time.
pub(super) struct LeftPrograms(Mutex<HashMap<Group, KernelCharge>>);

impl Default for LeftPrograms {
    fn default() -> Self {
        LeftPrograms(Mutex::new(Rank::Leaf, HashMap::new()))
    }
}

impl LeftPrograms {
    /// Takes back the charges of ports that none of the open sockets has, and counts the others for one that has it.
    pub(super) fn let_go(&self, open: &[Weak<HostSocket>]) {
        if self.0.lock().is_empty() {
            return;
        }
        let shares = |socket: &Arc<HostSocket>| socket.shares_port.load(Ordering::Relaxed);
        let sharing: Vec<_> = open.iter().filter_map(Weak::upgrade).filter(shares).collect();
        let holders: HashMap<Port, &Arc<HostSocket>> = sharing.iter().map(|socket| (socket.port(), socket)).collect();
        sharing.iter().for_each(|socket| socket.inherited.store(0, Ordering::Relaxed));
        // The last to hold a socket closes it and asks for this lock: they are let go of after it.
        let mut left = self.0.lock();
        left.retain(|(port, ..), _| holders.contains_key(port));
        for ((port, ..), charge) in left.iter() {
            if let Some(holder) = holders.get(port) {
                holder.inherited.fetch_add(charge.bytes(), Ordering::Relaxed);
            }
        }
    }
}

impl HostSocket {
    fn port(&self) -> Port {
        let address = self.local_address();
        (self.kind(), address.get(2..4).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    /// The guest closes it, or gives it another address: charges on for what others may go on using.
    pub(super) fn leave_program(&self) {
        let bytes = self.kept.choosers();
        if bytes == 0 || self.identity().0 == AddressFamily::AF_PACKET {
            return;
        }
        let number = |level, name| self.number_option(level, name).unwrap_or(0);
        let interface = number(SocketLevel::SOL_SOCKET, So::SO_BINDTOIFINDEX.raw());
        let alone = number(SocketLevel::SOL_IPV6, Ipv6Option::IPV6_V6ONLY.raw());
        let apart = self.peer_address().is_ok().then_some(self.number);
        let group = (self.port(), self.local_address(), interface, alone, apart);
        let mut left = self.sockets.left.0.lock();
        if left.get(&group).is_none_or(|charge| charge.bytes() < bytes) {
            left.insert(group, self.kept.another(bytes));
        }
        drop(left);
        self.sockets.ask_for_look();
    }
}
