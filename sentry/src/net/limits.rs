//! The numbers of the network that `/proc/sys/net` sets and sockets go by.

use std::sync::atomic::{AtomicU32, Ordering};

use amber_abi::errno::Errno;

use crate::tunables::{INT, Tunable, tunables};

tunables! {
/// All numbers of the network, each with the default and the range that Linux gives it.
Numbers {
    /// `net.core.optmem_max`: bytes of control messages that go with one message; Amber keeps them in its own memory, and
    /// so no more than 16 MiB.
    optmem_max: 131_072, 0..=16 << 20;
    /// `net.core.rmem_default`: the receive buffer of a new socket.
    rmem_default: 212_992, 2304..=INT;
    /// `net.core.rmem_max`: what `SO_RCVBUF` asks for at most.
    rmem_max: 212_992, 2304..=INT;
    /// `net.core.wmem_default`: the send buffer of a new socket.
    wmem_default: 212_992, 4608..=INT;
    /// `net.core.wmem_max`: what `SO_SNDBUF` asks for at most.
    wmem_max: 212_992, 4608..=INT;
    /// `net.ipv4.igmp_max_memberships`: groups of IPv4 a socket may join.
    igmp_max_memberships: 20, 0..=INT;
    /// `net.ipv4.ip_default_ttl`: the hops of packets whose sender does not choose.
    ip_default_ttl: 64, 1..=255;
    /// `net.ipv4.ip_nonlocal_bind`: whether sockets may have addresses that are not the machine's.
    ip_nonlocal_bind: 0, 0..=1;
    /// `net.ipv4.tcp_fin_timeout`: seconds a closed socket waits for its peer to end.
    tcp_fin_timeout: 60, 0..=INT;
    /// `net.ipv4.tcp_keepalive_intvl` in seconds, as new sockets have it.
    tcp_keepalive_intvl: 75, 1..=32767;
    /// `net.ipv4.tcp_keepalive_probes`, as new sockets have it.
    tcp_keepalive_probes: 9, 1..=127;
    /// `net.ipv4.tcp_keepalive_time` in seconds, as new sockets have it.
    tcp_keepalive_time: 7200, 1..=32767;
    /// `net.ipv4.tcp_max_tw_buckets`: connections that are over and keep their ports for a while.
    tcp_max_tw_buckets: 4096, 0..=INT;
    /// `net.ipv4.tcp_syn_retries`, as new sockets have it.
    tcp_syn_retries: 6, 1..=127;
    /// `net.ipv4.tcp_tw_reuse`: whether such a port may be connected from again; 2 for over the loopback.
    tcp_tw_reuse: 2, 0..=2;
    /// `net.ipv6.bindv6only`: whether new sockets of IPv6 leave IPv4 out.
    bindv6only: 0, 0..=1;
    /// `net.ipv6.conf.*.hop_limit`: the hops of packets whose sender does not choose.
    hop_limit: 64, 1..=255;
    /// `net.unix.max_dgram_qlen`: datagrams at a socket of AF_UNIX for more to be refused.
    max_dgram_qlen: 10, 0..=INT;
}
}

/// A least, a first and a greatest size of TCP's buffers (`net.ipv4.tcp_rmem`, `net.ipv4.tcp_wmem`).
#[derive(Debug)]
pub struct Sizes([Tunable; 3]);

impl Sizes {
    const fn new(least: i64, first: i64, greatest: i64) -> Self {
        Sizes([Tunable::new(least, 1..=INT), Tunable::new(first, 1..=INT), Tunable::new(greatest, 1..=INT)])
    }

    /// What a new socket has.
    pub fn first(&self) -> u32 {
        self.0[1].count() as u32
    }

    /// What it grows to by itself at most.
    pub fn greatest(&self) -> u32 {
        self.0[2].count() as u32
    }

    /// The three, as they are read.
    pub fn text(&self) -> String {
        format!("{}\t{}\t{}", self.0[0].get(), self.0[1].get(), self.0[2].get())
    }

    /// Sets as many of them as are written.
    ///
    /// # Errors
    /// `EINVAL` for what is no number of theirs.
    pub fn set(&self, text: &[u8]) -> Result<(), Errno> {
        let values = numbers(text)?;
        values.iter().zip(&self.0).try_for_each(|(&value, size)| size.set(value))
    }
}

/// What `/proc/sys/net` tells and changes.
#[derive(Debug)]
pub struct Limits {
    /// The plain numbers.
    pub numbers: Numbers,
    /// `net.ipv4.tcp_rmem`.
    pub tcp_rmem: Sizes,
    /// `net.ipv4.tcp_wmem`.
    pub tcp_wmem: Sizes,
    /// The first and the last port of `net.ipv4.ip_local_port_range`, in the upper and the lower half.
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
    /// The sizes of a new socket's send and receive buffers.
    pub fn default_buffers(&self) -> (u32, u32) {
        (self.numbers.wmem_default.count() as u32, self.numbers.rmem_default.count() as u32)
    }

    /// The same of a TCP socket.
    pub fn tcp_buffers(&self) -> (u32, u32) {
        (self.tcp_wmem.first(), self.tcp_rmem.first())
    }

    /// The first and the last port that are given to who asks for none in particular.
    pub fn port_range(&self) -> (u16, u16) {
        let both = self.port_range.load(Ordering::Relaxed);
        ((both >> 16) as u16, both as u16)
    }

    /// Sets those as they are written.
    ///
    /// # Errors
    /// `EINVAL` for what is no range of ports.
    pub fn set_port_range(&self, text: &[u8]) -> Result<(), Errno> {
        let [first, last] = numbers(text)?[..] else { return Err(Errno::EINVAL.here()) };
        if !(1..=65535).contains(&first) || !(first..=65535).contains(&last) {
            return Err(Errno::EINVAL.here());
        }
        self.port_range.store((first as u32) << 16 | last as u32, Ordering::Relaxed);
        Ok(())
    }
}

/// Numbers with space between them.
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
