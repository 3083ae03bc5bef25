//! The end of TCP connections, and their remains.

use std::sync::Weak;
use std::time::Duration;

use amber_abi::sockopt::TcpOption;

use super::tcp::TcpSocket;
use super::tcp_state::{Listening, Phase, State};
use crate::wait::{READABLE, SigioEvent};

/// The time for which a finished connection keeps its ports (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT: Duration = Duration::from_secs(60);
/// The maximum time for which a closed socket waits for the peer's FIN (`TCP_FIN_TIMEOUT_MAX`).
const LONGEST_ORPHAN: Duration = Duration::from_secs(120);

impl TcpSocket {
    /// Stops listening: resets waiting connections and refuses pending clients.
    pub(super) fn stop_listening(listening: Listening) {
        for end in listening.waiting.into_iter().chain(listening.deferred.into_values()) {
            end.end(true);
        }
        for client in listening.awaiting_backlog.iter().filter_map(Weak::upgrade) {
            client.reset();
        }
    }

    /// Closes the socket after its last descriptor was closed, or its listener before it was accepted.
    pub(super) fn end(&self, abort: bool) {
        let (phase, peer, orderly, fin, waits, port) = {
            let mut state = self.state.lock();
            state.closed = true;
            let unread = state.stream.bytes() > 0;
            state.stream = Default::default();
            let peer = if state.is_finished() { None } else { state.peer.upgrade() };
            let connected = matches!(state.phase, Phase::Connected) && peer.is_some();
            let orderly = connected && !abort && !unread;
            let fin = orderly && state.send_fin();
            // Without the peer's FIN, the closed socket stays connected and waits for it.
            let waits = orderly && !state.fin_received;
            let phase = if waits { Phase::Connected } else { std::mem::replace(&mut state.phase, Phase::Done) };
            (phase, peer, orderly, fin, waits, state.port())
        };
        let timeout = if waits { self.orphan_time() } else { None };
        match timeout {
            Some(timeout) => self.stack.adopt(self, timeout),
            None => {
                self.state.lock().phase = Phase::Done;
                self.release((port != 0).then_some(port));
            }
        }
        match (phase, peer) {
            (Phase::Listening(listening), _) => Self::stop_listening(listening),
            (Phase::Connected, Some(peer)) if !orderly => peer.reset(),
            (Phase::Connected, Some(peer)) if fin => peer.receive_fin(),
            _ => {}
        }
        self.queue.notify_all();
    }

    /// The time for which a closed socket waits for the peer's FIN; none with a negative `TCP_LINGER2`.
    fn orphan_time(&self) -> Option<Duration> {
        let seconds = self.inet.tcp(TcpOption::TCP_LINGER2);
        u64::try_from(seconds).ok().map(|seconds| Duration::from_secs(seconds).min(LONGEST_ORPHAN))
    }

    /// Leaves a socket in TIME_WAIT, which keeps the ports of this connection.
    pub(super) fn wait_out(&self) {
        let (local, remote) = {
            let state = self.state.lock();
            (state.local, state.remote)
        };
        let (Some(local), Some(_)) = (local, remote) else { return };
        let remains = self.child();
        *remains.state.lock() =
            State { phase: Phase::TimeWait, local: Some(local), remote, closed: true, ..State::default() };
        self.stack.keep(remains, local.port, TIME_WAIT);
    }

    /// Drops a closed socket after its time is over.
    pub(super) fn vanish(&self, port: u16) {
        self.state.lock().phase = Phase::Done;
        self.release((port != 0).then_some(port));
    }

    /// Makes a deferred connection (TCP_DEFER_ACCEPT) acceptable, because it has data or its time is over.
    pub(super) fn enter_queue(&self, listener: Option<Weak<TcpSocket>>) {
        let Some(listener) = listener.and_then(|listener| listener.upgrade()) else { return };
        let entered = {
            let mut state = listener.state.lock();
            match &mut state.phase {
                Phase::Listening(listening) => {
                    let end = listening.deferred.remove(&std::ptr::from_ref(self).addr());
                    end.map(|end| listening.waiting.push_back(end)).is_some()
                }
                _ => false,
            }
        };
        if entered {
            listener.queue.notify_and_signal(READABLE, SigioEvent::Input);
        }
    }
}
