//! Establishment of TCP connections.

use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::sockopt::TcpOption;

use super::Endpoint;
use super::address::{is_broadcast, parse, route};
use super::tcp::TcpSocket;
use super::tcp_state::{Phase, State};
use crate::clock::monotonic;
use crate::task::TaskContext;
use crate::time::Expire;
use crate::wait::{READABLE, SigioEvent};

impl TcpSocket {
    /// Begins a connection (connect(2)). On a network without packets the result is available at once, but as on Linux
    /// it is returned later.
    ///
    /// # Errors
    /// `EINPROGRESS` once it has begun; `EALREADY`; `EISCONN`; errors of addresses and ports.
    pub(super) fn begin_connect(&self, _ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        let asked = parse(self.family, address)?;
        {
            let state = self.state.lock();
            match state.phase {
                Phase::Idle => {}
                Phase::Connecting => return Err(Errno::EALREADY.here()),
                Phase::Connected | Phase::Done if state.in_progress => {
                    drop(state);
                    return self.end_connect();
                }
                _ => return Err(Errno::EISCONN.here()),
            }
        }
        if asked.ip.is_ipv4() && self.is_v6_only() {
            return Err(Errno::ENETUNREACH.here());
        }
        if is_broadcast(asked.ip) {
            return Err(Errno::ENETUNREACH.here());
        }
        let (to, mut from) = route(asked.ip)?;
        let bound = self.state.lock().bound.map(|(ip, _)| ip).filter(|ip| !ip.is_unspecified());
        if let Some(ip) = bound {
            if ip.is_ipv4() != to.is_ipv4() {
                return Err(Errno::EINVAL.here());
            }
            from = ip;
        }
        let to = Endpoint { ip: to, port: asked.port };
        self.stack.prune();
        self.bind_automatically().map_err(|_| Errno::EADDRNOTAVAIL.here())?;
        let from = Endpoint { ip: from, port: self.state.lock().port() };
        for other in self.stack.tcp.connected(from, to) {
            let state = other.state.lock();
            let twin = state.local == Some(from) && state.remote == Some(to) && !state.is_finished();
            let over = matches!(state.phase, Phase::TimeWait);
            drop(state);
            if !twin {
                continue;
            }
            // A connection in TIME_WAIT can be replaced if `tcp_tw_reuse` permits it.
            if !over || self.stack.limits.numbers.tcp_tw_reuse.get() == 0 {
                return Err(Errno::EADDRNOTAVAIL.here());
            }
            self.stack.forget(&other, from.port);
        }
        {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Idle) {
                return Err(Errno::EALREADY.here());
            }
            (state.local, state.remote) = (Some(from), Some(to));
            (state.fin_sent, state.no_receive, state.error) = (false, false, None);
            state.phase = Phase::Connecting;
            state.in_progress = true;
        }
        self.refile();
        self.stack.stats.tcp_active.count();
        self.request_connection(from, to);
        Err(Errno::EINPROGRESS.here())
    }

    /// Requests a connection from the listener.
    fn request_connection(&self, from: Endpoint, to: Endpoint) {
        let Some(me) = self.me.upgrade() else { return };
        match self.stack.tcp.find_listener(from, to) {
            Some(listener) => listener.admit(&me, from, to),
            None if from == to => self.join_itself(),
            None => self.reset(),
        }
    }

    /// Connects a socket to its own address (simultaneous open).
    fn join_itself(&self) {
        {
            let mut state = self.state.lock();
            state.phase = Phase::Connected;
            state.peer = self.me.clone();
        }
        self.grow();
        self.queue.notify_all();
        self.queue.signals().notify(SigioEvent::Output);
    }

    /// Makes a listener's end of a connection if the backlog has room; otherwise the client stays pending.
    fn admit(&self, client: &Arc<TcpSocket>, from: Endpoint, to: Endpoint) {
        let mut state = self.state.lock();
        let Phase::Listening(listening) = &mut state.phase else {
            drop(state);
            client.reset();
            return;
        };
        if listening.waiting.len() > listening.backlog {
            if listening.awaiting_backlog.len() == listening.awaiting_backlog.capacity() {
                // Compacted before the list grows, so the cost is amortized.
                listening.awaiting_backlog.retain(|client| client.strong_count() > 0);
                let present = listening.awaiting_backlog.len();
                listening.awaiting_backlog.reserve(present.max(1));
            }
            listening.awaiting_backlog.push_back(Arc::downgrade(client));
            return;
        }
        drop(state);
        self.forget_predecessor(to, from);
        let end = self.child();
        let deferral = u64::try_from(self.inet.tcp(TcpOption::TCP_DEFER_ACCEPT)).unwrap_or(0);
        {
            let mut state = end.state.lock();
            *state = State {
                phase: Phase::Connected,
                local: Some(to),
                bound: Some((to.ip, to.port)),
                remote: Some(from),
                peer: Arc::downgrade(client),
                ..State::default()
            };
        }
        end.grow();
        self.stack.tcp.share(&end, to.port);
        {
            let mut state = client.state.lock();
            if !matches!(state.phase, Phase::Connecting) {
                drop(state);
                self.stack.tcp.release(&end, to.port);
                return;
            }
            state.phase = Phase::Connected;
            state.peer = Arc::downgrade(&end);
        }
        client.grow();
        self.stack.stats.segment(to.ip, 0);
        self.stack.stats.tcp_passive.count();
        let mut state = self.state.lock();
        if let Phase::Listening(listening) = &mut state.phase {
            let deferred = deferral > 0;
            if deferred {
                listening.deferred.insert(Arc::as_ptr(&end).addr(), end.clone());
            } else {
                listening.waiting.push_back(end.clone());
            }
            drop(state);
            if deferred {
                end.defer(&self.me, deferral);
            }
            client.queue.notify_all();
            client.queue.signals().notify(SigioEvent::Output);
            if !deferred {
                self.queue.notify_and_signal(READABLE, SigioEvent::Input);
            }
        } else {
            drop(state);
            self.stack.tcp.release(&end, to.port);
            client.reset();
        }
    }

    /// Drops a connection in TIME_WAIT with the same ends.
    fn forget_predecessor(&self, local: Endpoint, remote: Endpoint) {
        for other in self.stack.tcp.connected(local, remote) {
            let is_it = {
                let state = other.state.lock();
                matches!(state.phase, Phase::TimeWait) && state.local == Some(local) && state.remote == Some(remote)
            };
            if is_it {
                self.stack.forget(&other, local.port);
            }
        }
    }

    /// Defers the acceptance of this connection until it has data, or for this many seconds.
    fn defer(&self, listener: &Weak<TcpSocket>, seconds: u64) {
        let alarm = self.timers.upgrade().map(|timers| {
            let at = monotonic().saturating_add(seconds.saturating_mul(1_000_000_000));
            timers.set(at, self.me.clone() as Weak<dyn Expire>)
        });
        let mut state = self.state.lock();
        state.deferred_by = Some(listener.clone());
        state.deferral = alarm;
    }

    /// Connects pending clients while the backlog has room.
    pub(super) fn let_in(&self) {
        loop {
            let client = {
                let mut state = self.state.lock();
                let Phase::Listening(listening) = &mut state.phase else { return };
                if listening.waiting.len() > listening.backlog {
                    return;
                }
                match listening.awaiting_backlog.pop_front() {
                    Some(client) => client.upgrade(),
                    None => return,
                }
            };
            let Some(client) = client else { continue };
            let ends = {
                let state = client.state.lock();
                matches!(state.phase, Phase::Connecting).then_some((state.local, state.remote))
            };
            if let Some((Some(from), Some(to))) = ends {
                self.admit(&client, from, to);
            }
        }
    }

    /// Returns the result of a connect in progress.
    ///
    /// # Errors
    /// `EINPROGRESS` if it is still in progress; the reason of a failure.
    pub(super) fn end_connect(&self) -> Result<(), Errno> {
        let (error, port) = {
            let mut state = self.state.lock();
            match state.phase {
                Phase::Connecting => return Err(Errno::EINPROGRESS.here()),
                Phase::Done if state.in_progress => {}
                _ => {
                    state.in_progress = false;
                    return Ok(());
                }
            }
            // SO_ERROR may have returned the error before.
            let error = state.error.take().unwrap_or_else(|| Errno::ECONNABORTED.here());
            (error, state.forget(Endpoint::unspecified(self.family)))
        };
        self.release(port);
        Err(error)
    }

    /// connect(2) with `AF_UNSPEC`: resets the connection; the socket can be used again.
    pub(super) fn disconnect(&self) -> Result<(), Errno> {
        let (peer, port, phase) = {
            let mut state = self.state.lock();
            let peer = if state.is_finished() { None } else { state.peer.upgrade() };
            let phase = std::mem::take(&mut state.phase);
            let port = state.forget(Endpoint::unspecified(self.family));
            (peer, port, phase)
        };
        self.release(port);
        if let Phase::Listening(listening) = phase {
            Self::stop_listening(listening);
        }
        if let Some(peer) = peer {
            peer.reset();
        }
        self.queue.notify_all();
        Ok(())
    }
}

impl Expire for TcpSocket {
    fn expire(&self) {
        let listener = self.state.lock().deferred_by.take();
        self.enter_queue(listener);
    }
}
