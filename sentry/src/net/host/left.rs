//! Reuseport programs that outlive the socket they were attached to.
//!
//! A program that selects a socket of a port (`SO_ATTACH_REUSEPORT_CBPF`) belongs to all sockets of the port: the host
//! keeps it until the last one is closed. It is charged to the socket it was attached to and, after that is closed,
//! stays charged while a socket of the port is open. If the socket may have changed its port since, the program may
//! belong to any group, and stays charged while any socket that shares a port is open.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use amber_abi::socket::{AddressFamily, SocketKind};
use amber_abi::sockopt::{Ipv6Option, SocketLevel, SocketOption as So};
use amber_platform::KernelCharge;

use super::socket::HostSocket;
use crate::net::socket::Socket;
use crate::sync::{Mutex, Rank};

/// A socket type and a port.
type Port = (SocketKind, u16);

/// The identity of a group of sockets that share a program of the host: port, address, bound interface, and whether
/// they are IPv6 only. Connected sockets have another address than when they were bound, so their group is unknown;
/// their number distinguishes them.
type Group = (Port, Vec<u8>, i32, i32, Option<u64>);

/// The charges for such programs.
#[derive(Default)]
struct Charges {
    /// The largest charge of each group, since a group has one program at a time.
    by_group: HashMap<Group, KernelCharge>,
    /// Charges of programs with an unknown group.
    elsewhere: Vec<KernelCharge>,
}

/// Programs whose socket is closed.
pub(super) struct LeftPrograms(Mutex<Charges>);

impl Default for LeftPrograms {
    fn default() -> Self {
        LeftPrograms(Mutex::new(Rank::Leaf, Charges::default()))
    }
}

impl LeftPrograms {
    /// Keeps the charge of a program with an unknown group.
    pub(super) fn keep_for_unknown(&self, charge: Option<KernelCharge>) {
        self.0.lock().elsewhere.extend(charge);
    }

    /// Drops charges of ports that no open socket has, and attributes the others to an open socket of the port.
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
        // Dropping the last reference to a socket closes it and takes this lock, so the references are dropped after
        // the lock.
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
        (self.kind(), address.get(2..).and_then(|rest| rest.first_chunk()).map_or(0, |port| u16::from_be_bytes(*port)))
    }

    /// Keeps the charge of the program of a socket that the guest closes, since other sockets may use it.
    pub(super) fn leave_program(&self) {
        let (bytes, moved) = self.kept.choosers();
        if bytes == 0 || self.identity().0 == AddressFamily::AF_PACKET {
            return;
        }
        if moved {
            self.sockets.left.keep_for_unknown(Some(self.kept.another(bytes)));
            self.sockets.request_update();
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
        self.sockets.request_update();
    }
}
