//! The state of a TCP socket, and what can be said and done with it alone.

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

/// Where a socket is in its life.
#[derive(Default)]
pub enum Phase {
    /// Neither listening nor connected.
    #[default]
    Idle,
    /// Connections come to it.
    Listening(Listening),
    /// A connection was asked for, but the listener has no room for it yet.
    Connecting,
    /// Connected, perhaps with one or both directions ended.
    Connected,
    /// The connection is gone: refused or reset.
    Done,
    /// What remains of a connection that this end was the first to end: it keeps its ports for a while.
    TimeWait,
}

/// What a listener has.
#[derive(Default)]
pub struct Listening {
    /// Connections that are made and wait to be accepted.
    pub waiting: VecDeque<Arc<TcpSocket>>,
    /// Sockets that asked for a connection while there was no room.
    pub knocking: VecDeque<Weak<TcpSocket>>,
    /// Connections that are made, but not offered to accept(2) before they have data (`TCP_DEFER_ACCEPT`); by
    /// address.
    pub deferred: HashMap<usize, Arc<TcpSocket>>,
    /// How many wait at most, less one.
    pub backlog: usize,
}

/// What can change in a TCP socket.
#[derive(Default)]
pub struct State {
    pub phase: Phase,
    /// The own end; its port is 0 until there is one.
    pub local: Option<Endpoint>,
    /// The address and port that bind(2) gave, which outlast connections.
    pub bound: Option<(IpAddr, u16)>,
    pub remote: Option<Endpoint>,
    pub peer: Weak<TcpSocket>,
    pub stream: ByteStream,
    /// The peer said that nothing more comes.
    pub fin_received: bool,
    /// Nothing more will be sent.
    pub fin_sent: bool,
    /// That was said before the peer said it.
    pub fin_first: bool,
    /// The listener that waits for this connection's data.
    pub deferred_by: Option<Weak<TcpSocket>>,
    /// When that has waited long enough.
    pub deferral: Option<Alarm>,
    /// Nothing more will be received: shutdown(2).
    pub no_receive: bool,
    pub error: Option<Errno>,
    /// A connect was begun and its end was not told yet.
    pub in_progress: bool,
    /// The peer waits until there is room here.
    pub sender_waits: bool,
    pub closed: bool,
    /// For TCP_INFO.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl State {
    pub fn port(&self) -> u16 {
        self.local.map_or(0, |local| local.port)
    }

    /// Both directions are over.
    pub fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Done => true,
            Phase::Connected => self.fin_sent && self.fin_received,
            _ => false,
        }
    }

    /// The state as Linux names it.
    pub fn name(&self) -> TcpState {
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

    /// The connection is reset by the peer; false if that changes nothing any more.
    pub fn reset(&mut self) -> bool {
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

    /// Takes in bytes from the peer; the last may be urgent. As on Linux an urgent byte that comes next is lost then,
    /// unless it belongs to the stream.
    pub fn put(&mut self, data: &[u8], urgent: bool, inline: bool) {
        if urgent && !inline {
            self.stream.pass_mark();
        }
        self.stream.put(data, Control::default(), urgent);
        self.bytes_received += data.len() as u64;
    }

    /// Bytes that can be read before the urgent one, or all (`FIONREAD`).
    pub fn readable(&self, inline: bool) -> usize {
        let bytes = self.stream.bytes();
        self.stream.mark().filter(|_| !inline).map_or(bytes, |mark| mark.min(bytes))
    }

    /// What poll(2) says, but for room to write.
    pub fn poll(&self, inline: bool, low: usize) -> PollEvents {
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
        // An urgent byte that comes next does not count.
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

    /// Says that nothing more will be sent; false if that was said before.
    pub fn send_fin(&mut self) -> bool {
        let new = !self.fin_sent;
        self.fin_first |= new && !self.fin_received;
        self.fin_sent = true;
        new
    }

    /// Whether sending waits for room at the peer.
    pub fn can_send(&self) -> bool {
        matches!(self.phase, Phase::Connected) && !self.fin_sent
    }

    /// The socket forgets its connection and is as it was before (`AF_UNSPEC`, or a refused connect). Answers the port
    /// that it gives back.
    pub fn forget(&mut self, unspecified: Endpoint) -> Option<u16> {
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
