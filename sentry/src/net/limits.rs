//! Numeric parameters of the network, set by `/proc/sys/net`.

use std::sync::atomic::{AtomicU32, Ordering};

use amber_abi::errno::Errno;

use crate::tunables::{INT, Tunable, tunables};

tunables! {
/// All numbers of the network, with Linux' defaults and ranges.
Numbers {
    /// `net.core.optmem_max`: the maximum bytes of control messages of one message. Amber keeps these in its own
    /// memory, so the maximum is 16 MiB.
    optmem_max: 131_072, 0..=16 << 20;
    /// `net.core.rmem_default`: the receive buffer of a new socket, in bytes.
    rmem_default: 212_992, 2304..=INT;
    /// `net.core.rmem_max`: the maximum of `SO_RCVBUF`.
    rmem_max: 212_992, 2304..=INT;
    /// `net.core.wmem_default`: the send buffer of a new socket, in bytes.
    wmem_default: 212_992, 4608..=INT;
    /// `net.core.wmem_max`: the maximum of `SO_SNDBUF`.
    wmem_max: 212_992, 4608..=INT;
    /// `net.ipv4.igmp_max_memberships`: the maximum number of IPv4 groups that a socket joins.
    igmp_max_memberships: 20, 0..=INT;
    /// `net.ipv4.ip_default_ttl`: the default hop limit of IPv4.
    ip_default_ttl: 64, 1..=255;
    /// `net.ipv4.ip_nonlocal_bind`: whether sockets can be bound to addresses that are not local.
    ip_nonlocal_bind: 0, 0..=1;
    /// `net.ipv4.tcp_fin_timeout`: the time in seconds for which a closed socket waits for the peer's FIN.
    tcp_fin_timeout: 60, 0..=INT;
    /// `net.ipv4.tcp_keepalive_intvl`: the default of new sockets, in seconds.
    tcp_keepalive_intvl: 75, 1..=32767;
    /// `net.ipv4.tcp_keepalive_probes`: the default of new sockets.
    tcp_keepalive_probes: 9, 1..=127;
    /// `net.ipv4.tcp_keepalive_time`: the default of new sockets, in seconds.
    tcp_keepalive_time: 7200, 1..=32767;
    /// `net.ipv4.tcp_max_tw_buckets`: the maximum number of connections in TIME_WAIT.
    tcp_max_tw_buckets: 4096, 0..=INT;
    /// `net.ipv4.tcp_syn_retries`: the default of new sockets.
    tcp_syn_retries: 6, 1..=127;
    /// `net.ipv4.tcp_tw_reuse`: whether a connection in TIME_WAIT can be replaced; 2 for the loopback only.
    tcp_tw_reuse: 2, 0..=2;
    /// `net.ipv6.bindv6only`: whether new IPv6 sockets exclude IPv4.
    bindv6only: 0, 0..=1;
    /// `net.ipv6.conf.*.hop_limit`: the default hop limit of IPv6.
    hop_limit: 64, 1..=255;
    /// `net.unix.max_dgram_qlen`: the number of datagrams in the queue of an AF_UNIX socket above which others are
    /// refused.
    max_dgram_qlen: 10, 0..=INT;
}
}

/// The minimum, initial and maximum sizes of TCP buffers (`net.ipv4.tcp_rmem`, `net.ipv4.tcp_wmem`).
#[derive(Debug)]
pub(crate) struct Sizes([Tunable; 3]);

impl Sizes {
    const fn new(least: i64, first: i64, greatest: i64) -> Self {
        Sizes([Tunable::new(least, 1..=INT), Tunable::new(first, 1..=INT), Tunable::new(greatest, 1..=INT)])
    }

    /// The initial size.
    pub(crate) fn first(&self) -> u32 {
        self.0[1].count() as u32
    }

    /// The size to which buffers grow automatically.
    pub(crate) fn greatest(&self) -> u32 {
        self.0[2].count() as u32
    }

    /// The three numbers as text.
    pub(crate) fn text(&self) -> String {
        format!("{}\t{}\t{}", self.0[0].get(), self.0[1].get(), self.0[2].get())
    }

    /// Sets the first of the numbers, as many as are given.
    ///
    /// # Errors
    /// `EINVAL` for invalid numbers.
    pub(crate) fn set(&self, text: &[u8]) -> Result<(), Errno> {
        let values = numbers(text)?;
        values.iter().zip(&self.0).try_for_each(|(&value, size)| size.set(value))
    }
}

/// The parameters of the network in `/proc/sys/net`.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Single numbers.
    pub numbers: Numbers,
    /// `net.ipv4.tcp_rmem`.
    pub tcp_rmem: Sizes,
    /// `net.ipv4.tcp_wmem`.
    pub tcp_wmem: Sizes,
    /// The first and the last port of `net.ipv4.ip_local_port_range`, in the upper and lower half.
    port_range: AtomicU32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            numbers: Numbers::default(),
            tcp_rmem: Sizes::new(4096, 131_072, 6_291_456),
            tcp_wmem: Sizes::new(4096, 16_384, 4_194_304),
            port_range: AtomicU32::new(32_768 << 16 | 60_999),
        }
    }
}

impl Limits {
    /// The default send and receive buffer sizes of a socket.
    pub(crate) fn default_buffers(&self) -> (u32, u32) {
        (self.numbers.wmem_default.count() as u32, self.numbers.rmem_default.count() as u32)
    }

    /// The initial send and receive buffer sizes of a TCP socket.
    pub(crate) fn tcp_buffers(&self) -> (u32, u32) {
        (self.tcp_wmem.first(), self.tcp_rmem.first())
    }

    /// The first and the last port for automatic allocation.
    pub(crate) fn port_range(&self) -> (u16, u16) {
        let both = self.port_range.load(Ordering::Relaxed);
        ((both >> 16) as u16, both as u16)
    }

    /// Sets the range of ports from text.
    ///
    /// # Errors
    /// `EINVAL` if it is not a range of ports.
    pub(crate) fn set_port_range(&self, text: &[u8]) -> Result<(), Errno> {
        let [first, last] = numbers(text)?[..] else { return Err(Errno::EINVAL.here()) };
        if !(1..=65535).contains(&first) || !(first..=65535).contains(&last) {
            return Err(Errno::EINVAL.here());
        }
        self.port_range.store((first as u32) << 16 | last as u32, Ordering::Relaxed);
        Ok(())
    }
}

/// Parses numbers separated by white space.
fn numbers(text: &[u8]) -> Result<Vec<i64>, Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL.here())?;
    text.split_whitespace().map(|word| word.parse().map_err(|_| Errno::EINVAL.here())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let limits = Limits::default();
        assert_eq!(limits.port_range(), (32768, 60999));
        assert_eq!(limits.set_port_range(b"5000\t4000\n"), Err(Errno::EINVAL));
        assert_eq!(limits.set_port_range(b"0 4000"), Err(Errno::EINVAL));
        assert_eq!(limits.set_port_range(b"4000 5000\n"), Ok(()));
        assert_eq!(limits.port_range(), (4000, 5000));
        assert_eq!(limits.tcp_rmem.set(b"1000 2000 3000\n"), Ok(()));
        assert_eq!(limits.tcp_rmem.text(), "1000\t2000\t3000");
    }
}
