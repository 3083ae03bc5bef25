//! The state of a TCP socket, and its transitions.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::socket::TcpState;

use super::Endpoint;
use super::tcp::TcpSocket;
use crate::net::control::Control;
use crate::net::stream::ByteStream;
use crate::time::Alarm;
use crate::wait::{READABLE, WRITABLE};

/// The phase of a socket.
#[derive(Default)]
pub(super) enum Phase {
    /// Neither listening nor connected.
    #[default]
    Idle,
    /// Listening.
    Listening(Listening),
    /// Connecting: the listener's backlog has no room yet.
    Connecting,
    /// Connected; one or both directions may be closed.
    Connected,
    /// The connection was refused or reset.
    Done,
    /// TIME_WAIT: this end has closed a finished connection first, and keeps its ports for a while.
    TimeWait,
}

/// The state of a listener.
#[derive(Default)]
pub(super) struct Listening {
    /// Connections that wait to be accepted.
    pub waiting: VecDeque<Arc<TcpSocket>>,
    /// Clients that requested a connection while the backlog was full.
    pub awaiting_backlog: VecDeque<Weak<TcpSocket>>,
    /// Connections that accept(2) does not return before they have data (`TCP_DEFER_ACCEPT`), by address.
    pub deferred: HashMap<usize, Arc<TcpSocket>>,
    /// The maximum number of waiting connections, less one.
    pub backlog: usize,
}

/// The mutable state of a TCP socket.
#[derive(Default)]
pub(super) struct State {
    pub phase: Phase,
    /// The local end; its port is 0 while there is none.
    pub local: Option<Endpoint>,
    /// The address and port set by bind(2), which outlast connections.
    pub bound: Option<(IpAddr, u16)>,
    pub remote: Option<Endpoint>,
    pub peer: Weak<TcpSocket>,
    pub stream: ByteStream,
    /// Whether the peer has sent a FIN.
    pub fin_received: bool,
    /// Whether a FIN was sent.
    pub fin_sent: bool,
    /// Whether the FIN was sent before the peer's was received.
    pub fin_first: bool,
    /// The listener that waits for data of this deferred connection.
    pub deferred_by: Option<Weak<TcpSocket>>,
    /// The end of the deferral.
    pub deferral: Option<Alarm>,
    /// Whether receiving was shut down.
    pub no_receive: bool,
    pub error: Option<Errno>,
    /// Whether a connect has begun whose result was not returned yet.
    pub in_progress: bool,
    /// Whether the peer waits for room in the receive buffer.
    pub sender_waits: bool,
    pub closed: bool,
    /// For TCP_INFO.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl State {
    pub(super) fn port(&self) -> u16 {
        self.local.map_or(0, |local| local.port)
    }

    /// Whether both directions are closed.
    pub(super) fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Done => true,
            Phase::Connected => self.fin_sent && self.fin_received,
            _ => false,
        }
    }

    /// The state in Linux' terms.
    pub(super) fn name(&self) -> TcpState {
        match &self.phase {
            Phase::Idle | Phase::Done => TcpState::TCP_CLOSE,
            Phase::Listening(_) => TcpState::TCP_LISTEN,
            Phase::Connecting => TcpState::TCP_SYN_SENT,
            Phase::TimeWait => TcpState::TCP_TIME_WAIT,
            Phase::Connected => match (self.fin_sent, self.fin_received) {
                (false, false) => TcpState::TCP_ESTABLISHED,
                (true, false) => TcpState::TCP_FIN_WAIT2,
                (false, true) => TcpState::TCP_CLOSE_WAIT,
                (true, true) => TcpState::TCP_CLOSE,
            },
        }
    }

    /// Handles a reset by the peer. Returns false if it has no effect.
    pub(super) fn reset(&mut self) -> bool {
        if self.is_finished() || matches!(self.phase, Phase::Idle | Phase::Listening(_) | Phase::TimeWait) {
            return false;
        }
        self.error = Some(match self.phase {
            Phase::Connecting => Errno::ECONNREFUSED.here(),
            _ if self.fin_received => Errno::EPIPE.here(),
            _ => Errno::ECONNRESET.here(),
        });
        self.phase = Phase::Done;
        true
    }

    /// Appends bytes from the peer, the last of which may be urgent. As on Linux, an unread urgent byte at the mark is
    /// then lost, unless it is in line.
    pub(super) fn put(&mut self, data: &[u8], urgent: bool, inline: bool) {
        if urgent && !inline {
            self.stream.pass_mark();
        }
        self.stream.put(data, Control::default(), urgent);
        self.bytes_received += data.len() as u64;
    }

    /// The number of readable bytes before the urgent byte, or of all (`FIONREAD`).
    pub(super) fn readable(&self, inline: bool) -> usize {
        let bytes = self.stream.bytes();
        self.stream.mark().filter(|_| !inline).map_or(bytes, |mark| mark.min(bytes))
    }

    /// The events of poll(2), except writability.
    pub(super) fn poll(&self, inline: bool, low: usize) -> PollEvents {
        let mut events = PollEvents::empty();
        if let Phase::Listening(listening) = &self.phase {
            return if listening.waiting.is_empty() { events } else { READABLE };
        }
        let idle = matches!(self.phase, Phase::Idle);
        let finished = self.is_finished();
        if finished || idle || (self.fin_sent && self.no_receive) {
            events |= PollEvents::POLLHUP;
        }
        let receive_over = self.fin_received || self.no_receive || matches!(self.phase, Phase::Done);
        if receive_over {
            events |= READABLE | PollEvents::POLLRDHUP;
        }
        // An urgent byte at the mark does not count.
        let next = usize::from(self.stream.is_at_mark() && !inline);
        if self.stream.bytes() >= low.saturating_add(next) {
            events |= READABLE;
        }
        if self.stream.is_urgent() {
            events |= PollEvents::POLLPRI;
        }
        if self.fin_sent || idle || matches!(self.phase, Phase::Done) {
            events |= WRITABLE;
        }
        if self.error.is_some() {
            events |= PollEvents::POLLERR;
        }
        events
    }

    /// Sends a FIN. Returns false if it was sent before.
    pub(super) fn send_fin(&mut self) -> bool {
        let new = !self.fin_sent;
        self.fin_first |= new && !self.fin_received;
        self.fin_sent = true;
        new
    }

    /// Whether data can be sent, so that a send waits for room.
    pub(super) fn can_send(&self) -> bool {
        matches!(self.phase, Phase::Connected) && !self.fin_sent
    }

    /// Resets the state to that of an unconnected socket (`AF_UNSPEC`, or a refused connect). Returns the port to
    /// release.
    pub(super) fn forget(&mut self, unspecified: Endpoint) -> Option<u16> {
        let port = self.port();
        let bound = self.bound;
        *self = State { bound, closed: self.closed, ..State::default() };
        match bound {
            Some((ip, bound_port)) => {
                self.local = Some(Endpoint { ip, port: if bound_port == 0 { 0 } else { port } });
                (bound_port == 0 && port != 0).then_some(port)
            }
            None => {
                self.local = Some(unspecified);
                (port != 0).then_some(port)
            }
        }
    }
}
