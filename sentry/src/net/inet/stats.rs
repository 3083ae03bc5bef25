//! Network counters, for `/proc/net/snmp` and similar files.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one.
    pub(crate) fn count(&self) {
        self.add(1);
    }

    /// Adds a number.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// Counters of IPv4 or IPv6.
#[derive(Default)]
pub(crate) struct FamilyStats {
    /// Packets sent, all of which arrive.
    pub packets: Counter,
    /// Bytes of these packets.
    pub bytes: Counter,
    /// UDP datagrams received.
    pub udp_received: Counter,
    /// UDP datagrams to ports without a socket.
    pub udp_no_ports: Counter,
    /// UDP datagrams sent.
    pub udp_sent: Counter,
    /// UDP datagrams dropped because the receive buffer was full.
    pub udp_no_room: Counter,
}

impl FamilyStats {
    /// Counts a packet.
    pub(crate) fn packet(&self, bytes: usize) {
        self.packets.count();
        self.bytes.add(bytes as u64);
    }
}

/// All counters.
#[derive(Default)]
pub(crate) struct NetStats {
    /// The counters of IPv4.
    pub v4: FamilyStats,
    /// The counters of IPv6.
    pub v6: FamilyStats,
    /// Active opens: connection requests.
    pub tcp_active: Counter,
    /// Passive opens: connections accepted by listeners.
    pub tcp_passive: Counter,
    /// Failed connection attempts.
    pub tcp_failed: Counter,
    /// Connections that were reset.
    pub tcp_reset: Counter,
    /// Segments sent.
    pub tcp_segments: Counter,
    /// Connections that entered TIME_WAIT.
    pub tcp_time_waits: Counter,
}

impl NetStats {
    /// The counters of the address's family.
    pub(crate) fn of(&self, ip: IpAddr) -> &FamilyStats {
        if ip.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    /// Counts a TCP segment.
    pub(crate) fn segment(&self, to: IpAddr, bytes: usize) {
        self.tcp_segments.count();
        self.of(to).packet(bytes);
    }
}
