//! The state of a TCP socket, and what can be said and done with it alone.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{MessageFlags, TcpState};

use super::Endpoint;
use super::tcp::TcpSocket;
use crate::net::inbox::Inbox;
use crate::net::socket::Received;

pub const READABLE: PollEvents = PollEvents::POLLIN.union(PollEvents::POLLRDNORM);
pub const WRITABLE: PollEvents = PollEvents::POLLOUT.union(PollEvents::POLLWRNORM);

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
}

/// What a listener has.
pub struct Listening {
    /// Connections that are made and wait to be accepted.
    pub waiting: VecDeque<Arc<TcpSocket>>,
    /// Sockets that asked for a connection while there was no room.
    pub knocking: VecDeque<Weak<TcpSocket>>,
    /// How many wait at most, less one.
    pub backlog: usize,
}

/// A byte that was sent as urgent (`MSG_OOB`).
pub struct Urgent {
    /// Where in the stream it is, counted in bytes from the start.
    at: u64,
    byte: u8,
    /// It was received by itself already.
    taken: bool,
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
    pub inbox: Inbox,
    /// Bytes taken out of the inbox so far.
    pub taken: u64,
    pub urgent: Option<Urgent>,
    /// The peer said that nothing more comes.
    pub fin_received: bool,
    /// Nothing more will be sent.
    pub fin_sent: bool,
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
        if self.is_finished() || matches!(self.phase, Phase::Idle | Phase::Listening(_)) {
            return false;
        }
        self.error = Some(match self.phase {
            Phase::Connecting => Errno::ECONNREFUSED,
            _ if self.fin_received => Errno::EPIPE,
            _ => Errno::ECONNRESET,
        });
        self.phase = Phase::Done;
        true
    }

    /// Puts bytes from the peer into the inbox; the last may be urgent.
    pub fn put(&mut self, data: &[u8], urgent: bool) {
        self.inbox.push_bytes(data, Default::default());
        self.bytes_received += data.len() as u64;
        if let (Some(&byte), true) = (data.last(), urgent) {
            let at = self.taken + self.inbox.bytes() as u64 - 1;
            self.urgent = Some(Urgent { at, byte, taken: false });
        }
    }

    /// How far ahead the urgent byte is, if there is one.
    fn mark(&self) -> Option<usize> {
        self.urgent.as_ref().map(|urgent| urgent.at.saturating_sub(self.taken) as usize)
    }

    /// Whether the next byte is the urgent one (`SIOCATMARK`).
    pub fn is_at_mark(&self) -> bool {
        self.mark() == Some(0)
    }

    /// Bytes that can be read before the urgent one, or all.
    pub fn readable(&self, inline: bool) -> usize {
        let bytes = self.inbox.bytes();
        match self.mark() {
            Some(0) if !inline => bytes.saturating_sub(1),
            Some(mark) if !inline => mark.min(bytes),
            _ => bytes,
        }
    }

    fn take(&mut self, buf: &mut [u8], peek: bool) -> usize {
        let len = self.inbox.take_bytes(buf, peek).map_or(0, |received| received.len);
        if !peek {
            self.taken += len as u64;
            if self.urgent.as_ref().is_some_and(|urgent| urgent.at < self.taken) {
                self.urgent = None;
            }
        }
        len
    }

    /// Takes bytes of the stream: up to the urgent byte, or on from it, leaving it out unless it belongs to the stream.
    pub fn take_stream(&mut self, buf: &mut [u8], peek: bool, inline: bool) -> usize {
        match self.mark() {
            Some(0) if !inline && peek => {
                let mut with_mark = vec![0; buf.len() + 1];
                let len = self.take(&mut with_mark, true).saturating_sub(1);
                buf[..len].copy_from_slice(&with_mark[1..=len]);
                len
            }
            Some(0) => {
                if !inline {
                    self.take(&mut [0], false);
                }
                self.take(buf, peek)
            }
            Some(mark) => {
                let len = buf.len().min(mark);
                self.take(&mut buf[..len], peek)
            }
            None => self.take(buf, peek),
        }
    }

    /// Takes the urgent byte by itself (`MSG_OOB`).
    ///
    /// # Errors
    /// `EINVAL` if there is none, it was taken or it belongs to the stream.
    pub fn take_urgent(&mut self, buf: &mut [u8], peek: bool, inline: bool) -> Result<Received, Errno> {
        let urgent = self.urgent.as_mut().filter(|urgent| !urgent.taken && !inline).ok_or(Errno::EINVAL)?;
        let mut flags = MessageFlags::MSG_OOB;
        let len = match buf.first_mut() {
            Some(first) => {
                *first = urgent.byte;
                1
            }
            None => {
                flags |= MessageFlags::MSG_TRUNC;
                0
            }
        };
        if !peek {
            urgent.taken = true;
        }
        Ok(Received { len, full_len: len, flags, ..Received::default() })
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
        let readable = self.readable(inline);
        if readable > 0 && readable >= low {
            events |= READABLE;
        }
        if self.urgent.as_ref().is_some_and(|urgent| !urgent.taken) {
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
