//! A network with nothing but the loopback interface: what is sent is put straight into the receiver's queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::socket::{AddressFamily, IpProtocol};

use super::ports::Ports;
use super::tcp::TcpSocket;
use super::udp::UdpSocket;
use super::{Interface, NetworkStack, Report};
use crate::net::limits::Limits;
use crate::net::socket::Socket;
use crate::task::TaskContext;

/// The network.
pub struct Loopback {
    me: Weak<Loopback>,
    pub(super) tcp: Ports<TcpSocket>,
    pub(super) udp: Ports<UdpSocket>,
    packets: AtomicU64,
    bytes: AtomicU64,
    pub(super) limits: Arc<Limits>,
}

impl Loopback {
    /// A network without sockets.
    pub fn new(limits: Arc<Limits>) -> Arc<Self> {
        Arc::new_cyclic(|me| Loopback {
            me: me.clone(),
            tcp: Ports::new(),
            udp: Ports::new(),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            limits,
        })
    }

    /// Counts what went over the interface.
    pub(super) fn count(&self, bytes: usize) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("a network in use is alive")
    }
}

impl NetworkStack for Loopback {
    fn tcp(&self, ctx: &TaskContext, family: AddressFamily) -> Arc<dyn Socket> {
        TcpSocket::create(self.me(), family, ctx.credentials().euid)
    }

    fn udp(&self, ctx: &TaskContext, family: AddressFamily) -> Arc<dyn Socket> {
        UdpSocket::create(self.me(), family, ctx.credentials().euid)
    }

    fn interfaces(&self) -> Vec<Interface> {
        let (packets, bytes) = (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        vec![Interface::loopback(packets, bytes)]
    }

    fn reports(&self, protocol: IpProtocol) -> Vec<Report> {
        match protocol {
            IpProtocol::IPPROTO_TCP => self.tcp.all().iter().map(|socket| socket.report()).collect(),
            IpProtocol::IPPROTO_UDP => self.udp.all().iter().map(|socket| socket.report()).collect(),
            _ => Vec::new(),
        }
    }
}
