//! `TCP_INFO` of a connection without packets.

use amber_abi::socket::TcpInfo;
use zerocopy::IntoBytes;

use super::tcp::TcpSocket;
use super::tcp_state::Phase;

/// Linux' minimum retransmission timeout, and the round-trip time, in microseconds.
const RETRANSMIT: u32 = 204_000;
const ROUND_TRIP: u32 = 20;

/// Encodes `struct tcp_info`.
pub(super) fn encode(socket: &TcpSocket) -> Vec<u8> {
    let state = socket.state.lock();
    let connected = matches!(state.phase, Phase::Connected);
    let mut info = TcpInfo { tcpi_state: state.name().raw(), ..TcpInfo::default() };
    if let Phase::Listening(listening) = &state.phase {
        // For a listener, these are the number of waiting connections and the backlog.
        info.tcpi_unacked = listening.waiting.len() as u32;
        info.tcpi_sacked = listening.backlog as u32;
    }
    info.tcpi_bytes_sent = state.bytes_sent;
    info.tcpi_bytes_acked = state.bytes_sent;
    info.tcpi_bytes_received = state.bytes_received;
    drop(state);
    let segment = socket.inet.segment_size(connected) as u32;
    info.tcpi_snd_mss = segment;
    info.tcpi_rcv_mss = segment;
    info.tcpi_advmss = segment;
    info.tcpi_reordering = 3;
    info.tcpi_snd_cwnd = 10;
    info.tcpi_snd_ssthresh = i32::MAX as u32;
    if connected {
        info.tcpi_pmtu = 65535;
        info.tcpi_rto = RETRANSMIT;
        info.tcpi_rtt = ROUND_TRIP;
        info.tcpi_rttvar = ROUND_TRIP / 2;
        info.tcpi_min_rtt = ROUND_TRIP;
        info.tcpi_rcv_space = 65483;
    }
    info.as_bytes().to_vec()
}
