//! Programs that outlive the socket they were attached to.
//!
//! A program that chooses among sockets of one port (`SO_ATTACH_REUSEPORT_CBPF`) belongs to all of them: the host keeps
//! it until the last is closed. It is charged to the socket it was attached to. Once that is closed, it stays charged while a
//! socket of that port is open. A socket that may have changed its port since it got the program may have left it to any group:
//! then it stays charged while any socket that shares a port is open.

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

/// The charges for those programs.
#[derive(Default)]
struct Charges {
    /// Of a group the greatest, since it has one program at a time.
    by_group: HashMap<Group, KernelCharge>,
    /// Those whose group is not known.
    elsewhere: Vec<KernelCharge>,
}

/// The programs that are charged to no socket.
pub(super) struct LeftPrograms(Mutex<Charges>);

impl Default for LeftPrograms {
    fn default() -> Self {
        LeftPrograms(Mutex::new(Rank::Leaf, Charges::default()))
    }
}

impl LeftPrograms {
    /// Charges on for a program of a group that is not known.
    pub(super) fn keep_for_unknown(&self, charge: Option<KernelCharge>) {
        self.0.lock().elsewhere.extend(charge);
    }

    /// Takes back the charges of ports that none of the open sockets has, and counts the others for one that has it.
    pub(super) fn let_go(&self, open: &[Weak<HostSocket>]) {
        {
            let left = self.0.lock();
            if left.by_group.is_empty() && left.elsewhere.is_empty() {
                return;
            }
        }
        let shares = |socket: &Arc<HostSocket>| socket.shares_port.load(Ordering::Relaxed);
        let sharing: Vec<_> = open.iter().filter_map(Weak::upgrade).filter(shares).collect();
        let holders: HashMap<Port, &Arc<HostSocket>> = sharing.iter().map(|socket| (socket.port(), socket)).collect();
        sharing.iter().for_each(|socket| socket.inherited.store(0, Ordering::Relaxed));
        // The last to hold a socket closes it and asks for this lock: they are let go of after it.
        let mut left = self.0.lock();
        left.by_group.retain(|(port, ..), _| holders.contains_key(port));
        for ((port, ..), charge) in &left.by_group {
            if let Some(holder) = holders.get(port) {
                holder.inherited.fetch_add(charge.bytes(), Ordering::Relaxed);
            }
        }
        match sharing.last() {
            Some(holder) => {
                let bytes = left.elsewhere.iter().map(KernelCharge::bytes).sum();
                holder.inherited.fetch_add(bytes, Ordering::Relaxed);
            }
            None => left.elsewhere.clear(),
        }
    }
}

impl HostSocket {
    pub(super) fn port(&self) -> Port {
        let address = self.local_address();
        (self.kind(), address.get(2..4).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    /// The guest closes it: its program stays charged, since others may go on using it.
    pub(super) fn leave_program(&self) {
        let (bytes, moved) = self.kept.choosers();
        if bytes == 0 || self.identity().0 == AddressFamily::AF_PACKET {
            return;
        }
        if moved {
            self.sockets.left.keep_for_unknown(Some(self.kept.another(bytes)));
            self.sockets.ask_for_look();
            return;
        }
        let number = |level, name| self.number_option(level, name).unwrap_or(0);
        let interface = number(SocketLevel::SOL_SOCKET, So::SO_BINDTOIFINDEX.raw());
        let alone = number(SocketLevel::SOL_IPV6, Ipv6Option::IPV6_V6ONLY.raw());
        let apart = self.peer_address().is_ok().then_some(self.number);
        let group = (self.port(), self.local_address(), interface, alone, apart);
        let mut left = self.sockets.left.0.lock();
        if left.by_group.get(&group).is_none_or(|charge| charge.bytes() < bytes) {
            left.by_group.insert(group, self.kept.another(bytes));
        }
        drop(left);
        self.sockets.ask_for_look();
    }
}
