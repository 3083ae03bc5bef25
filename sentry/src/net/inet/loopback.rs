//! A network that consists of the loopback interface: sent data is put directly into the receiver's queue.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, IpProtocol, TcpState};

use super::ports::Ports;
use super::tcp::TcpSocket;
use super::udp::UdpSocket;
use super::{Facts, Interface, NetStats, NetworkFacts, NetworkStack, Report, Transport};
use crate::net::limits::Limits;
use crate::net::socket::Socket;
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;

/// Closed sockets that are kept until a time.
#[derive(Default)]
struct Remains {
    by_end: BTreeMap<(Instant, usize), Arc<TcpSocket>>,
    /// The end of each socket's time, by address.
    ends: HashMap<usize, Instant>,
}

impl Remains {
    fn key(socket: &TcpSocket) -> usize {
        std::ptr::from_ref(socket).addr()
    }

    fn insert(&mut self, socket: Arc<TcpSocket>, until: Instant) {
        self.remove(&socket);
        let key = Self::key(&socket);
        self.ends.insert(key, until);
        self.by_end.insert((until, key), socket);
    }

    fn remove(&mut self, socket: &TcpSocket) -> Option<Arc<TcpSocket>> {
        let key = Self::key(socket);
        let until = self.ends.remove(&key)?;
        self.by_end.remove(&(until, key))
    }

    /// Removes a socket whose time is over.
    fn take_over(&mut self, now: Instant) -> Option<Arc<TcpSocket>> {
        let first = self.by_end.first_entry().filter(|first| first.key().0 <= now)?;
        self.ends.remove(&first.key().1);
        Some(first.remove())
    }
}

/// The loopback network.
pub(crate) struct Loopback {
    me: SelfRef<Loopback>,
    pub(super) tcp: Ports<TcpSocket>,
    pub(super) udp: Ports<UdpSocket>,
    /// Closed sockets that keep their ports for a time: of finished connections (TIME_WAIT), and of those that wait for
    /// the peer's FIN.
    remains: Mutex<Remains>,
    pub(super) stats: NetStats,
    pub(super) limits: Arc<Limits>,
}

impl Loopback {
    /// A network without sockets.
    pub(crate) fn new(limits: Arc<Limits>) -> Arc<Self> {
        Arc::new_cyclic(|me| Loopback {
            me: SelfRef::new(me),
            tcp: Ports::new(limits.clone()),
            udp: Ports::new(limits.clone()),
            remains: Mutex::new(Rank::Leaf, Remains::default()),
            stats: NetStats::default(),
            limits,
        })
    }

    /// Keeps a closed socket, which still has its port, for the time that its peer may take to close.
    pub(super) fn adopt(&self, socket: &TcpSocket, time: Duration) {
        if let Some(socket) = socket.me.upgrade() {
            self.remember(socket, time);
        }
    }

    /// Keeps a port for a finished connection, unless there are too many.
    pub(super) fn keep(&self, remains: Arc<TcpSocket>, port: u16, time: Duration) {
        if (self.remains.lock().ends.len() as u64) < self.limits.numbers.tcp_max_tw_buckets.count() {
            self.stats.tcp_time_waits.count();
            self.tcp.share(&remains, port);
            self.remember(remains, time);
        }
    }

    fn remember(&self, socket: Arc<TcpSocket>, time: Duration) {
        self.prune();
        let until = Instant::now() + time;
        self.remains.lock().insert(socket, until);
    }

    /// Drops a closed socket and releases its port.
    pub(super) fn forget(&self, socket: &TcpSocket, port: u16) {
        let found = self.remains.lock().remove(socket);
        if let Some(kept) = found {
            kept.vanish(port);
        }
    }

    /// Drops closed sockets whose time is over.
    pub(super) fn prune(&self) {
        let now = Instant::now();
        loop {
            let over = self.remains.lock().take_over(now);
            let Some(socket) = over else { return };
            let port = socket.state.lock().port();
            socket.vanish(port);
        }
    }

    /// The time for which a closed socket is still kept.
    fn time_left(&self, socket: &Arc<TcpSocket>) -> Option<Duration> {
        let until = self.remains.lock().ends.get(&Remains::key(socket)).copied();
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    fn me(&self) -> Arc<Self> {
        self.me.get()
    }
}

impl NetworkStack for Loopback {
    fn socket(&self, ctx: &TaskContext, family: AddressFamily, transport: Transport) -> Result<Arc<dyn Socket>, Errno> {
        match transport {
            Transport::Tcp => Ok(TcpSocket::create(self.me(), family, ctx)),
            Transport::Udp => Ok(UdpSocket::create(self.me(), family, ctx.credentials().euid)),
            // By default no group may make ping sockets.
            Transport::Ping => Err(Errno::EACCES.here()),
            Transport::Raw(_) => Err(Errno::EPROTONOSUPPORT.here()),
        }
    }

    fn network_facts(&self) -> NetworkFacts<'_> {
        NetworkFacts::Own(self)
    }
}

impl Facts for Loopback {
    fn interfaces(&self) -> Vec<Interface> {
        let NetStats { v4, v6, .. } = &self.stats;
        vec![Interface::loopback(v4.packets.get() + v6.packets.get(), v4.bytes.get() + v6.bytes.get())]
    }

    fn stats(&self) -> &NetStats {
        &self.stats
    }

    fn reports(&self, protocol: IpProtocol) -> Vec<Report> {
        match protocol {
            IpProtocol::IPPROTO_TCP => {
                self.prune();
                let all = self.tcp.all();
                let reports = all.iter().map(|socket| Report { expires: self.time_left(socket), ..socket.report() });
                // Linux does not list sockets that are neither connected nor listening.
                reports.filter(|report| report.state != TcpState::TCP_CLOSE).collect()
            }
            IpProtocol::IPPROTO_UDP => self.udp.all().iter().map(|socket| socket.report()).collect(),
            _ => Vec::new(),
        }
    }
}
