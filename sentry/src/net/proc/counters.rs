//! Counters of `/proc/net`: snmp, snmp6, netstat, sockstat, sockstat6 and protocols. Counters without a meaning here,
//! such as retransmissions, are 0.

use std::fmt::Write;

use amber_abi::socket::{AddressFamily, IpProtocol, TcpState};

use crate::kernel::Kernel;
use crate::net::inet::stats::FamilyStats;
use crate::net::inet::{Facts, Report};
use crate::net::socket::Socket;

/// A group of counters in two lines, as in snmp and netstat.
fn lines(text: &mut String, group: &str, names: &str, value: impl Fn(&str) -> i64) {
    let values = names.split_whitespace().fold(String::new(), |text, name| format!("{text} {}", value(name)));
    let _ = writeln!(text, "{group}: {names}\n{group}:{values}");
}

/// A line for each counter, as in snmp6.
fn columns(text: &mut String, names: &str, value: impl Fn(&str) -> i64) {
    for name in names.split_whitespace() {
        let _ = writeln!(text, "{name:<32}\t{}", value(name));
    }
}

const IP: &str = "Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers \
     OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates \
     OutTransmits";
const ICMP: &str = "InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps \
     InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost \
     OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps \
     OutTimestampReps OutAddrMasks OutAddrMaskReps";
const TCP: &str = "RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs \
     RetransSegs InErrs OutRsts InCsumErrors";
const UDP: &str =
    "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors";
const TCP_EXT: &str = "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps \
     LockDroppedIcmps ArpFilter TW TWRecycled TWKilled PAWSActive PAWSEstab BeyondWindow TSEcrRejected PAWSOldAck \
     PAWSTimewait DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows ListenDrops TCPHPHits TCPPureAcks \
     TCPHPAcks TCPRenoRecovery TCPSackRecovery TCPSACKReneging TCPSACKReorder TCPRenoReorder TCPTSReorder TCPFullUndo \
     TCPPartialUndo TCPDSACKUndo TCPLossUndo TCPLostRetransmit TCPRenoFailures TCPSackFailures TCPLossFailures \
     TCPFastRetrans TCPSlowStartRetrans TCPTimeouts TCPLossProbes TCPLossProbeRecovery TCPRenoRecoveryFail \
     TCPSackRecoveryFail TCPRcvCollapsed TCPBacklogCoalesce TCPDSACKOldSent TCPDSACKOfoSent TCPDSACKRecv \
     TCPDSACKOfoRecv TCPAbortOnData TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout TCPAbortOnLinger \
     TCPAbortFailed TCPMemoryPressures TCPMemoryPressuresChrono TCPSACKDiscard TCPDSACKIgnoredOld \
     TCPDSACKIgnoredNoUndo TCPSpuriousRTOs TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted TCPSackMerged \
     TCPSackShiftFallback TCPBacklogDrop PFMemallocDrop TCPMinTTLDrop TCPDeferAcceptDrop IPReversePathFilter \
     TCPTimeWaitOverflow TCPReqQFullDoCookies TCPReqQFullDrop TCPRetransFail TCPRcvCoalesce TCPOFOQueue TCPOFODrop \
     TCPOFOMerge TCPChallengeACK TCPSYNChallenge TCPFastOpenActive TCPFastOpenActiveFail TCPFastOpenPassive \
     TCPFastOpenPassiveFail TCPFastOpenListenOverflow TCPFastOpenCookieReqd TCPFastOpenBlackhole \
     TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv TCPToZeroWindowAdv \
     TCPWantZeroWindowAdv TCPSynRetrans TCPOrigDataSent TCPHystartTrainDetect TCPHystartTrainCwnd \
     TCPHystartDelayDetect TCPHystartDelayCwnd TCPACKSkippedSynRecv TCPACKSkippedPAWS TCPACKSkippedSeq \
     TCPACKSkippedFinWait2 TCPACKSkippedTimeWait TCPACKSkippedChallenge TCPWinProbe TCPKeepAlive TCPMTUPFail \
     TCPMTUPSuccess TCPDelivered TCPDeliveredCE TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop TCPWqueueTooBig \
     TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash TCPDSACKRecvSegs TCPDSACKIgnoredDubious \
     TCPMigrateReqSuccess TCPMigrateReqFailure TCPPLBRehash TCPAORequired TCPAOBad TCPAOKeyNotFound TCPAOGood \
     TCPAODroppedIcmps";
const IP_EXT: &str = "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets \
     OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts \
     ReasmOverlaps";
const IP6: &str = "Ip6InReceives Ip6InHdrErrors Ip6InTooBigErrors Ip6InNoRoutes Ip6InAddrErrors Ip6InUnknownProtos \
     Ip6InTruncatedPkts Ip6InDiscards Ip6InDelivers Ip6OutForwDatagrams Ip6OutRequests Ip6OutDiscards Ip6OutNoRoutes \
     Ip6ReasmTimeout Ip6ReasmReqds Ip6ReasmOKs Ip6ReasmFails Ip6FragOKs Ip6FragFails Ip6FragCreates Ip6InMcastPkts \
     Ip6OutMcastPkts Ip6InOctets Ip6OutOctets Ip6InMcastOctets Ip6OutMcastOctets Ip6InBcastOctets Ip6OutBcastOctets \
     Ip6InNoECTPkts Ip6InECT1Pkts Ip6InECT0Pkts Ip6InCEPkts Ip6OutTransmits";
const ICMP6: &str = "Icmp6InMsgs Icmp6InErrors Icmp6OutMsgs Icmp6OutErrors Icmp6InCsumErrors Icmp6OutRateLimitHost \
     Icmp6InDestUnreachs Icmp6InPktTooBigs Icmp6InTimeExcds Icmp6InParmProblems Icmp6InEchos Icmp6InEchoReplies \
     Icmp6InGroupMembQueries Icmp6InGroupMembResponses Icmp6InGroupMembReductions Icmp6InRouterSolicits \
     Icmp6InRouterAdvertisements Icmp6InNeighborSolicits Icmp6InNeighborAdvertisements Icmp6InRedirects \
     Icmp6InMLDv2Reports Icmp6OutDestUnreachs Icmp6OutPktTooBigs Icmp6OutTimeExcds Icmp6OutParmProblems Icmp6OutEchos \
     Icmp6OutEchoReplies Icmp6OutGroupMembQueries Icmp6OutGroupMembResponses Icmp6OutGroupMembReductions \
     Icmp6OutRouterSolicits Icmp6OutRouterAdvertisements Icmp6OutNeighborSolicits Icmp6OutNeighborAdvertisements \
     Icmp6OutRedirects Icmp6OutMLDv2Reports";

/// The minimum and maximum retransmission timeout of TCP, in milliseconds.
const RTO: (i64, i64) = (200, 120_000);

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An IP counter by name.
fn ip(family: &FamilyStats, name: &str) -> i64 {
    match name {
        "InReceives" | "InDelivers" | "OutRequests" | "OutTransmits" | "InNoECTPkts" => signed(family.packets.get()),
        "InOctets" | "OutOctets" => signed(family.bytes.get()),
        _ => 0,
    }
}

/// A UDP counter by name.
fn udp(family: &FamilyStats, name: &str) -> i64 {
    match name {
        "InDatagrams" => signed(family.udp_received.get()),
        "NoPorts" => signed(family.udp_no_ports.get()),
        "OutDatagrams" => signed(family.udp_sent.get()),
        "InErrors" | "RcvbufErrors" => signed(family.udp_no_room.get()),
        _ => 0,
    }
}

/// An ICMP counter by name. Every datagram to a port without a socket is answered by an ICMP message.
fn icmp(family: &FamilyStats, name: &str) -> i64 {
    match name {
        "InMsgs" | "OutMsgs" | "InDestUnreachs" | "OutDestUnreachs" => signed(family.udp_no_ports.get()),
        _ => 0,
    }
}

/// `/proc/net/snmp`.
pub(super) fn snmp(kernel: &Kernel, facts: &dyn Facts) -> String {
    let stats = facts.stats();
    let mut text = String::new();
    lines(&mut text, "Ip", IP, |name| match name {
        // 2 means that forwarding is off.
        "Forwarding" => 2,
        "DefaultTTL" => kernel.network.limits.numbers.ip_default_ttl.get(),
        name => ip(&stats.v4, name),
    });
    lines(&mut text, "Icmp", ICMP, |name| icmp(&stats.v4, name));
    let established = facts.reports(IpProtocol::IPPROTO_TCP).iter().filter(|r| is_established(r)).count();
    lines(&mut text, "Tcp", TCP, |name| match name {
        "RtoAlgorithm" => 1,
        "RtoMin" => RTO.0,
        "RtoMax" => RTO.1,
        "MaxConn" => -1,
        "ActiveOpens" => signed(stats.tcp_active.get()),
        "PassiveOpens" => signed(stats.tcp_passive.get()),
        "AttemptFails" => signed(stats.tcp_failed.get()),
        "EstabResets" => signed(stats.tcp_reset.get()),
        "CurrEstab" => established as i64,
        "InSegs" | "OutSegs" => signed(stats.tcp_segments.get()),
        "OutRsts" => signed(stats.tcp_reset.get() + stats.tcp_failed.get()),
        _ => 0,
    });
    lines(&mut text, "Udp", UDP, |name| udp(&stats.v4, name));
    lines(&mut text, "UdpLite", UDP, |_| 0);
    text
}

fn is_established(report: &Report) -> bool {
    matches!(report.state, TcpState::TCP_ESTABLISHED | TcpState::TCP_CLOSE_WAIT)
}

/// `/proc/net/snmp6`.
pub(super) fn snmp6(_: &Kernel, facts: &dyn Facts) -> String {
    let family = &facts.stats().v6;
    let mut text = String::new();
    columns(&mut text, IP6, |name| ip(family, name.strip_prefix("Ip6").unwrap_or(name)));
    columns(&mut text, ICMP6, |name| icmp(family, name.strip_prefix("Icmp6").unwrap_or(name)));
    for protocol in ["Udp6", "UdpLite6"] {
        for name in UDP.split_whitespace().filter(|&name| protocol == "Udp6" || name != "IgnoredMulti") {
            let value = if protocol == "Udp6" { udp(family, name) } else { 0 };
            let _ = writeln!(text, "{:<32}\t{value}", format!("{protocol}{name}"));
        }
    }
    text
}

/// `/proc/net/netstat`.
pub(super) fn netstat(_: &Kernel, facts: &dyn Facts) -> String {
    let stats = facts.stats();
    let mut text = String::new();
    lines(&mut text, "TcpExt", TCP_EXT, |name| if name == "TW" { signed(stats.tcp_time_waits.get()) } else { 0 });
    lines(&mut text, "IpExt", IP_EXT, |name| ip(&stats.v4, name));
    text
}

/// The sockets of a protocol and family that have a port.
fn in_use(facts: &dyn Facts, protocol: IpProtocol, family: AddressFamily) -> Vec<Report> {
    let mut reports = facts.reports(protocol);
    reports.retain(|report| report.family == family);
    reports
}

/// The number of open sockets of all families.
fn open(kernel: &Kernel, facts: &dyn Facts) -> usize {
    let unix = kernel.network.unix.all().iter().filter(|socket| !socket.is_closed()).count();
    let tcp = facts.reports(IpProtocol::IPPROTO_TCP).iter().filter(|report| report.expires.is_none()).count();
    unix + kernel.network.netlink.all().len() + tcp + facts.reports(IpProtocol::IPPROTO_UDP).len()
}

/// `/proc/net/sockstat`.
pub(super) fn sockstat(kernel: &Kernel, facts: &dyn Facts) -> String {
    let all = facts.reports(IpProtocol::IPPROTO_TCP);
    let (kept, live): (Vec<&Report>, Vec<&Report>) = all.iter().partition(|report| report.expires.is_some());
    let waiting = kept.iter().filter(|report| report.state == TcpState::TCP_TIME_WAIT).count();
    let four = live.iter().filter(|report| report.family == AddressFamily::AF_INET).count();
    let udp = in_use(facts, IpProtocol::IPPROTO_UDP, AddressFamily::AF_INET).len();
    format!(
        "sockets: used {}\nTCP: inuse {four} orphan {} tw {waiting} alloc {} mem 0\nUDP: inuse {udp} mem 0\nUDPLITE: \
         inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n",
        open(kernel, facts),
        kept.len() - waiting,
        live.len() + kept.len() - waiting,
    )
}

/// `/proc/net/sockstat6`.
pub(super) fn sockstat6(_: &Kernel, facts: &dyn Facts) -> String {
    let tcp = in_use(facts, IpProtocol::IPPROTO_TCP, AddressFamily::AF_INET6);
    let live = tcp.iter().filter(|report| report.expires.is_none()).count();
    let udp = in_use(facts, IpProtocol::IPPROTO_UDP, AddressFamily::AF_INET6).len();
    format!("TCP6: inuse {live}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n")
}

/// `/proc/net/protocols`: the socket types, the number of sockets of each, and the operations each supports.
pub(super) fn protocols(kernel: &Kernel, facts: &dyn Facts) -> String {
    let count = |protocol, family| in_use(facts, protocol, family).len();
    let unix = kernel.network.unix.all();
    let streams = unix.iter().filter(|socket| !socket.keeps_borders()).count();
    let (tcp, udp) = (IpProtocol::IPPROTO_TCP, IpProtocol::IPPROTO_UDP);
    let (four, six) = (AddressFamily::AF_INET, AddressFamily::AF_INET6);
    let all_calls = "y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y";
    let datagram_calls = "y  y  y  n  y  y  y  n  y  y  y  y  n  n  y  y  y  n";
    let no_calls = "n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n";
    let close_alone = "y  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n";
    let rows = [
        ("UDPv6", 1472, count(udp, six), "0", "NI", 0, "yes", datagram_calls),
        ("TCPv6", 2432, count(tcp, six), "0", "no", 192, "yes", all_calls),
        ("UNIX-STREAM", 1152, streams, "-1", "NI", 0, "yes", close_alone),
        ("UNIX", 1152, unix.len() - streams, "-1", "NI", 0, "yes", close_alone),
        ("UDP", 1344, count(udp, four), "0", "NI", 0, "yes", datagram_calls),
        ("TCP", 2304, count(tcp, four), "0", "no", 192, "yes", all_calls),
        ("NETLINK", 1096, kernel.network.netlink.all().len(), "-1", "NI", 0, "no", no_calls),
    ];
    let mut text = String::from(
        "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp \
         em\n",
    );
    for (name, size, sockets, memory, pressure, header, slab, calls) in rows {
        let _ = writeln!(
            text,
            "{name:<9} {size:4} {sockets:6}  {memory:>6}   {pressure:<3} {header:6}   {slab:<3}  {:<10}  {calls}",
            "kernel",
        );
    }
    text
}
