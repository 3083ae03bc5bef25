//! What went over the network, as `/proc/net/snmp` and its kin count it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// How much it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// What is counted for IPv4 and IPv6 apart.
#[derive(Default)]
pub struct FamilyStats {
    /// Packets that were sent, all of which arrive.
    pub packets: Counter,
    /// Bytes of those.
    pub bytes: Counter,
    /// Datagrams of UDP that found a receiver with room.
    pub udp_received: Counter,
    /// Those that nobody waits for.
    pub udp_no_ports: Counter,
    /// All that were sent.
    pub udp_sent: Counter,
    /// Those whose receiver has no room.
    pub udp_no_room: Counter,
}

impl FamilyStats {
    /// A packet is sent.
    pub fn packet(&self, bytes: usize) {
        self.packets.count();
        self.bytes.add(bytes as u64);
    }
}

/// All counters.
#[derive(Default)]
pub struct NetStats {
    /// Those of IPv4.
    pub v4: FamilyStats,
    /// Those of IPv6.
    pub v6: FamilyStats,
    /// Connections that were asked for.
    pub tcp_active: Counter,
    /// Connections that a listener made.
    pub tcp_passive: Counter,
    /// Connections that were refused.
    pub tcp_failed: Counter,
    /// Connections that were reset.
    pub tcp_reset: Counter,
    /// Segments that were sent.
    pub tcp_segments: Counter,
    /// Connections whose ports were kept for a while.
    pub tcp_time_waits: Counter,
}

impl NetStats {
    /// The counters of an address's family.
    pub fn of(&self, ip: IpAddr) -> &FamilyStats {
        if ip.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    /// A segment of TCP is sent.
    pub fn segment(&self, to: IpAddr, bytes: usize) {
        self.tcp_segments.count();
        self.of(to).packet(bytes);
    }
}
