//! The sentry's own parameters in `/proc/sys/net`.

use crate::fs::proc::parameters::{Parameter, fixed, number, variable};

pub(super) const PARAMETERS: &[Parameter] = &[
    fixed("net/core/netdev_max_backlog", |_| "1000".into()),
    number("net/core/optmem_max", |k| &k.network.limits.numbers.optmem_max),
    number("net/core/rmem_default", |k| &k.network.limits.numbers.rmem_default),
    number("net/core/rmem_max", |k| &k.network.limits.numbers.rmem_max),
    number("net/core/somaxconn", |k| &k.tunables.somaxconn),
    number("net/core/wmem_default", |k| &k.network.limits.numbers.wmem_default),
    number("net/core/wmem_max", |k| &k.network.limits.numbers.wmem_max),
    number("net/ipv4/igmp_max_memberships", |k| &k.network.limits.numbers.igmp_max_memberships),
    number("net/ipv4/ip_default_ttl", |k| &k.network.limits.numbers.ip_default_ttl),
    fixed("net/ipv4/ip_forward", |_| "0".into()),
    variable(
        "net/ipv4/ip_local_port_range",
        |k| {
            let (first, last) = k.network.limits.port_range();
            format!("{first}\t{last}")
        },
        |k, text| k.network.limits.set_port_range(text),
    ),
    number("net/ipv4/ip_nonlocal_bind", |k| &k.network.limits.numbers.ip_nonlocal_bind),
    number("net/ipv4/ip_unprivileged_port_start", |k| &k.tunables.unprivileged_ports),
    fixed("net/ipv4/ping_group_range", |_| "1\t0".into()),
    fixed("net/ipv4/tcp_allowed_congestion_control", |_| "reno cubic".into()),
    fixed("net/ipv4/tcp_available_congestion_control", |_| "reno cubic".into()),
    fixed("net/ipv4/tcp_congestion_control", |_| "cubic".into()),
    number("net/ipv4/tcp_fin_timeout", |k| &k.network.limits.numbers.tcp_fin_timeout),
    number("net/ipv4/tcp_keepalive_intvl", |k| &k.network.limits.numbers.tcp_keepalive_intvl),
    number("net/ipv4/tcp_keepalive_probes", |k| &k.network.limits.numbers.tcp_keepalive_probes),
    number("net/ipv4/tcp_keepalive_time", |k| &k.network.limits.numbers.tcp_keepalive_time),
    fixed("net/ipv4/tcp_max_syn_backlog", |_| "512".into()),
    number("net/ipv4/tcp_max_tw_buckets", |k| &k.network.limits.numbers.tcp_max_tw_buckets),
    variable("net/ipv4/tcp_rmem", |k| k.network.limits.tcp_rmem.text(), |k, text| k.network.limits.tcp_rmem.set(text)),
    fixed("net/ipv4/tcp_sack", |_| "1".into()),
    number("net/ipv4/tcp_syn_retries", |k| &k.network.limits.numbers.tcp_syn_retries),
    fixed("net/ipv4/tcp_syncookies", |_| "1".into()),
    fixed("net/ipv4/tcp_timestamps", |_| "1".into()),
    number("net/ipv4/tcp_tw_reuse", |k| &k.network.limits.numbers.tcp_tw_reuse),
    fixed("net/ipv4/tcp_window_scaling", |_| "1".into()),
    variable("net/ipv4/tcp_wmem", |k| k.network.limits.tcp_wmem.text(), |k, text| k.network.limits.tcp_wmem.set(text)),
    number("net/ipv6/bindv6only", |k| &k.network.limits.numbers.bindv6only),
    fixed("net/ipv6/conf/all/disable_ipv6", |_| "0".into()),
    fixed("net/ipv6/conf/default/disable_ipv6", |_| "0".into()),
    number("net/ipv6/conf/default/hop_limit", |k| &k.network.limits.numbers.hop_limit),
    fixed("net/ipv6/conf/lo/disable_ipv6", |_| "0".into()),
    number("net/unix/max_dgram_qlen", |k| &k.network.limits.numbers.max_dgram_qlen),
];
