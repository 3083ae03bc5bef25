//! AF_INET and AF_INET6 with sockets of the host, in the network namespace of Amber's process.

mod bounds;
mod closed;
mod control;
mod events;
mod facts;
mod handshakes;
mod kept;
mod left;
mod options;
mod parameters;
mod rules;
mod socket;
mod waiting;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, IpProtocol, SocketKind};
use amber_host::socket as host;
use amber_host::trees::HostTrees;
use amber_platform::GuestMemory;

use crate::net::inet::{NetworkFacts, NetworkStack, Transport};
use crate::net::socket::Socket;
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;

use closed::ClosedSockets;
use events::HostEvents;
use facts::HostFacts;
use handshakes::Handshakes;
use left::LeftPrograms;
use socket::HostSocket;

/// The host's network.
pub(crate) struct HostNetwork {
    sockets: Arc<Sockets>,
    facts: HostFacts,
    /// Whether the namespace belongs to the sandbox.
    own: bool,
}

/// All sockets of guests, for accounting and for `/proc/net`.
struct Sockets {
    next: AtomicU64,
    all: Mutex<HashMap<u64, Weak<HostSocket>>>,
    /// Sockets that receive events for netlink sockets.
    watches: Mutex<HashMap<u64, Weak<HostEvents>>>,
    /// Connections that still send after the guest has closed them.
    closed: ClosedSockets,
    /// Programs that outlive their socket.
    left: LeftPrograms,
    /// Connections in a handshake.
    handshakes: Handshakes,
    memory: Arc<GuestMemory>,
    updates: kept::Updates,
}

impl Sockets {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn add(&self, number: u64, socket: &Arc<HostSocket>) {
        let first = {
            let mut all = self.all.lock();
            all.insert(number, Arc::downgrade(socket));
            all.len() == 1
        };
        if first {
            self.request_update();
        }
    }

    fn forget(&self, number: u64) {
        self.all.lock().remove(&number);
    }

    /// The open sockets. An upgraded reference must not be dropped under a lock, since the last one closes the socket.
    fn all(&self) -> Vec<Weak<HostSocket>> {
        self.all.lock().values().cloned().collect()
    }
}

impl HostNetwork {
    /// The network of the namespace that this process is in, which may belong to the sandbox.
    ///
    /// # Errors
    /// The host has no descriptors left, or no internet sockets.
    pub(crate) fn new(trees: &HostTrees, memory: &Arc<GuestMemory>, own: bool) -> Result<Arc<Self>, Errno> {
        let sockets = Arc::new(Sockets {
            next: AtomicU64::new(0),
            all: Mutex::new(Rank::Leaf, HashMap::new()),
            watches: Mutex::new(Rank::Leaf, HashMap::new()),
            closed: ClosedSockets::default(),
            left: LeftPrograms::default(),
            handshakes: Handshakes::default(),
            memory: memory.clone(),
            updates: kept::Updates::default(),
        });
        Ok(Arc::new(HostNetwork { facts: HostFacts::new(sockets.clone(), trees, own)?, sockets, own }))
    }
}

fn open(family: AddressFamily, kind: SocketKind, protocol: i32) -> Result<OwnedFd, Errno> {
    host::open(family.raw(), kind.raw(), protocol)
}

impl NetworkStack for HostNetwork {
    fn socket(&self, ctx: &TaskContext, family: AddressFamily, transport: Transport) -> Result<Arc<dyn Socket>, Errno> {
        let (kind, protocol) = match (transport, family) {
            (Transport::Tcp, _) => (SocketKind::SOCK_STREAM, IpProtocol::IPPROTO_TCP.raw()),
            (Transport::Udp, _) => (SocketKind::SOCK_DGRAM, IpProtocol::IPPROTO_UDP.raw()),
            (Transport::Raw(protocol), _) => (SocketKind::SOCK_RAW, protocol),
            (Transport::Ping, AddressFamily::AF_INET6) => (SocketKind::SOCK_DGRAM, IpProtocol::IPPROTO_ICMPV6.raw()),
            (Transport::Ping, _) => (SocketKind::SOCK_DGRAM, IpProtocol::IPPROTO_ICMP.raw()),
        };
        if transport == Transport::Ping && !self.facts.may_ping(&ctx.credentials()) {
            return Err(Errno::EACCES.here());
        }
        self.sockets.admit()?;
        let file = open(family, kind, protocol)?;
        Ok(HostSocket::create(self.sockets.clone(), Arc::new(file), (family, kind, protocol), ctx.credentials().euid))
    }

    fn adopt(&self, file: &Arc<OwnedFd>, uid: u32) -> Result<Option<Arc<dyn Socket>>, Errno> {
        Ok(Some(HostSocket::adopt(self.sockets.clone(), file.clone(), uid)?))
    }

    /// In a namespace that does not belong to the guest, it could receive packets of other processes.
    fn packet_socket(&self, ctx: &TaskContext, kind: SocketKind, protocol: i32) -> Result<Arc<dyn Socket>, Errno> {
        if !self.own {
            return Err(Errno::EAFNOSUPPORT.here());
        }
        if !ctx.credentials().has(Capability::CAP_NET_RAW) {
            return Err(Errno::EPERM.here());
        }
        if !matches!(kind, SocketKind::SOCK_RAW | SocketKind::SOCK_DGRAM | SocketKind::SOCK_PACKET) {
            return Err(Errno::ESOCKTNOSUPPORT.here());
        }
        let identity = (AddressFamily::AF_PACKET, kind, protocol);
        self.sockets.admit()?;
        let file = open(AddressFamily::AF_PACKET, kind, protocol)?;
        Ok(HostSocket::create(self.sockets.clone(), Arc::new(file), identity, ctx.credentials().euid))
    }

    fn network_facts(&self) -> NetworkFacts<'_> {
        NetworkFacts::Foreign(&self.facts)
    }

    fn begin(&self) {
        if self.sockets.memory.is_limited() {
            self.facts.shorten_queues();
        }
    }

    fn charge(&self, always: bool) -> Option<u64> {
        self.sockets.charge(always)
    }

    fn give_up(&self, bytes: u64) {
        self.sockets.give_up(bytes);
    }
}
