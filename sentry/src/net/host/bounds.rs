//! Parameters that limit memory of the host kernel for a network namespace which is not charged to a socket.
//!
//! A guest with its own namespace may lower them, and raise them up to their initial values. Higher values could
//! exhaust the memory of the host beyond any limit of the sandbox.

use std::collections::HashMap;
use std::str;

use amber_abi::errno::Errno;

use crate::sync::{Mutex, Rank};

/// Paths below `/proc/sys/net`; `*` stands for an interface or for the rest of a name.
const BOUNDS: &[&str] = &[
    "core/optmem_max",
    "core/somaxconn",
    "core/xfrm_acq_expires",
    "ipv4/conf/*/accept_redirects",
    "ipv4/igmp_max_memberships",
    "ipv4/igmp_max_msf",
    "ipv4/ipfrag_high_thresh",
    "ipv4/ipfrag_low_thresh",
    "ipv4/ipfrag_time",
    "ipv4/neigh/*/app_solicit",
    "ipv4/neigh/*/delay_first_probe_time",
    "ipv4/neigh/*/mcast_resolicit",
    "ipv4/neigh/*/mcast_solicit",
    "ipv4/neigh/*/proxy_delay",
    "ipv4/neigh/*/proxy_qlen",
    "ipv4/neigh/*/retrans_time*",
    "ipv4/neigh/*/ucast_solicit",
    "ipv4/neigh/*/unres_qlen*",
    "ipv4/route/mtu_expires",
    "ipv4/tcp_fastopen",
    "ipv4/tcp_fin_timeout",
    "ipv4/tcp_max_orphans",
    "ipv4/tcp_orphan_retries",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_max_tw_buckets",
    "ipv4/tcp_migrate_req",
    "ipv4/tcp_rmem",
    "ipv4/tcp_rto_max_ms",
    "ipv4/tcp_synack_retries",
    "ipv4/tcp_wmem",
    "ipv4/udp_rmem_min",
    "ipv4/udp_wmem_min",
    "ipv6/conf/*/accept_ra",
    "ipv6/conf/*/accept_ra_defrtr",
    "ipv6/conf/*/accept_ra_from_local",
    "ipv6/conf/*/accept_ra_pinfo",
    "ipv6/conf/*/accept_ra_rt_info_max_plen",
    "ipv6/conf/*/accept_redirects",
    "ipv6/conf/*/autoconf",
    "ipv6/conf/*/max_addresses",
    "ipv6/flowlabel_reflect",
    "ipv6/ip6frag_high_thresh",
    "ipv6/ip6frag_low_thresh",
    "ipv6/ip6frag_time",
    "ipv6/mld_max_msf",
    "ipv6/neigh/*/app_solicit",
    "ipv6/neigh/*/delay_first_probe_time",
    "ipv6/neigh/*/mcast_resolicit",
    "ipv6/neigh/*/mcast_solicit",
    "ipv6/neigh/*/proxy_delay",
    "ipv6/neigh/*/proxy_qlen",
    "ipv6/neigh/*/retrans_time*",
    "ipv6/neigh/*/ucast_solicit",
    "ipv6/neigh/*/unres_qlen*",
    "ipv6/route/gc_*",
    "ipv6/route/max_size",
    "ipv6/route/mtu_expires",
    "mpls/platform_labels",
    "netfilter/nf_conntrack_acct",
    "netfilter/nf_conntrack_dccp_timeout_*",
    "netfilter/nf_conntrack_events",
    "netfilter/nf_conntrack_expect_max",
    "netfilter/nf_conntrack_frag6_high_thresh",
    "netfilter/nf_conntrack_frag6_low_thresh",
    "netfilter/nf_conntrack_frag6_timeout",
    "netfilter/nf_conntrack_generic_timeout",
    "netfilter/nf_conntrack_gre_timeout*",
    "netfilter/nf_conntrack_icmp_timeout",
    "netfilter/nf_conntrack_icmpv6_timeout",
    "netfilter/nf_conntrack_max",
    "netfilter/nf_conntrack_sctp_timeout_*",
    "netfilter/nf_conntrack_tcp_max_retrans",
    "netfilter/nf_conntrack_tcp_timeout_*",
    "netfilter/nf_conntrack_timestamp",
    "netfilter/nf_conntrack_udp_timeout*",
    "nf_conntrack_max",
    "unix/max_dgram_qlen",
];

/// The parameter for which zero means no limit.
const ENDLESS_AT_ZERO: &str = "max_addresses";

/// Whether the parameter at a path below `/proc/sys/net` is a limit.
fn is_bound(path: &str) -> bool {
    let names = || path.split('/');
    BOUNDS.iter().any(|bound| {
        let wanted = bound.split('/');
        wanted.clone().count() == names().count()
            && wanted.zip(names()).all(|(wanted, name)| match wanted.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => wanted == name,
            })
    })
}

/// The numbers of a value, in the bases that the kernel parses.
fn numbers(value: &[u8]) -> Option<Vec<i64>> {
    let number = |word: &str| {
        let (digits, negative) = word.strip_prefix('-').map_or((word, false), |digits| (digits, true));
        if !digits.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let number = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            Some(digits) => i64::from_str_radix(digits, 16),
            None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8),
            None => digits.parse(),
        };
        number.ok().map(|number| if negative { -number } else { number })
    };
    str::from_utf8(value).ok()?.split_ascii_whitespace().map(number).collect()
}

/// The initial values of the parameters that the guest has changed.
pub(super) struct Bounds(Mutex<HashMap<String, Vec<i64>>>);

impl Default for Bounds {
    fn default() -> Self {
        Bounds(Mutex::new(Rank::Leaf, HashMap::new()))
    }
}

impl Bounds {
    /// Checks a value that the guest writes to the parameter at `path` below `/proc/sys/net`; `now` returns the present
    /// value. For a limit, returns the text to write instead.
    ///
    /// # Errors
    /// `EPERM` for a value above the initial one; `EINVAL` if it is not a number; errors of `now`.
    pub(super) fn check(
        &self,
        path: &str,
        now: impl FnOnce() -> Result<Vec<u8>, Errno>,
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, Errno> {
        if !is_bound(path) {
            return Ok(None);
        }
        let wanted = numbers(value).filter(|wanted| !wanted.is_empty()).ok_or_else(|| Errno::EINVAL.here())?;
        let now = numbers(&now()?).ok_or_else(|| Errno::EPERM.here())?;
        let mut first = self.0.lock();
        let most = first.entry(path.to_owned()).or_insert(now);
        // A negative number may mean no limit.
        let endless = |value: i64| value < 0 || (value == 0 && path.ends_with(ENDLESS_AT_ZERO));
        let raises = |(&wanted, &most): (&i64, &i64)| !endless(most) && (wanted > most || endless(wanted));
        if wanted.len() > most.len() || wanted.iter().zip(most.iter()).any(raises) {
            log::info!("the guest may not raise net/{path} above {most:?}: it bounds what the host keeps for it");
            return Err(Errno::EPERM.here());
        }
        let words: Vec<String> = wanted.iter().map(i64::to_string).collect();
        Ok(Some(words.join(" ").into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_goes_down_and_back_up_and_no_higher() {
        let bounds = Bounds::default();
        let check = |path: &str, now: &str, value: &str| bounds.check(path, || Ok(now.into()), value.as_bytes());
        let thresh = "ipv4/ipfrag_high_thresh";
        let fragments = |now: &str, value: &str| check(thresh, now, value);
        assert_eq!(fragments("4194304\n", "4194305"), Err(Errno::EPERM));
        assert_eq!(fragments("4194304\n", "1000\n"), Ok(Some(b"1000".to_vec())));
        assert_eq!(fragments("1000\n", " 0x400000 "), Ok(Some(b"4194304".to_vec())));
        for more in ["0x400001", "020000001", "-1", "9223372036854775807", "1 2"] {
            assert_eq!(fragments("1000\n", more), Err(Errno::EPERM), "{more}");
        }
        for other in ["", "a", "1a", "9223372036854775808", "--1"] {
            assert_eq!(fragments("1000\n", other), Err(Errno::EINVAL), "{other}");
        }
        assert_eq!(check("ipv4/tcp_rmem", "4096 131072 33554432", "4096 131072 33554433"), Err(Errno::EPERM));
        assert_eq!(
            check("ipv4/tcp_rmem", "4096 131072 33554432", "4096\t4096 4096"),
            Ok(Some(b"4096 4096 4096".to_vec()))
        );
        assert_eq!(check("ipv4/tcp_fastopen", "1", "3"), Err(Errno::EPERM));
        assert_eq!(check("ipv6/neigh/eth0/retrans_time_ms", "1000", "2000"), Err(Errno::EPERM));
        assert_eq!(check("netfilter/nf_conntrack_tcp_timeout_established", "1", "2"), Err(Errno::EPERM));
        assert_eq!(check("ipv4/tcp_keepalive_time", "7200", "7201"), Ok(None));
        assert_eq!(check("ipv4/tcp_rmem/x", "1", "2"), Ok(None));
        assert_eq!(check("ipv4/neigh/eth0/unres_qlen", "101", "102"), Err(Errno::EPERM));
        assert_eq!(check("ipv6/conf/lo/max_addresses", "16", "0"), Err(Errno::EPERM));
        assert_eq!(check("ipv6/conf/lo/max_addresses", "16", "1"), Ok(Some(b"1".to_vec())));
        assert_eq!(check("ipv4/neigh/eth0/gc_stale_time", "60", "61"), Ok(None));
    }
}
