//! Connections that the guest closed before the peer had all of it, the end included.
//!
//! The host's kernel goes on sending for them, and keeps them until then. Where memory is limited, their descriptors stay
//! open for so long, so that this memory is charged and can be had back: they are reset, the oldest first, before a process
//! is killed.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use amber_abi::socket::{Linger, TcpState};
use amber_abi::sockopt::{SocketLevel, SocketOption as So, TcpOption};
use amber_host::socket as host;
use amber_platform::KernelCharge;
use zerocopy::IntoBytes;

use super::kept::MemInfo;
use super::socket::{HostSocket, tcp_state};
use crate::net::socket::Socket;
use crate::sync::{Mutex, Rank};

/// The most such connections, which Linux bounds by `net.ipv4.tcp_max_orphans`.
const MOST: usize = 8192;
/// After so many milliseconds without progress the host gives up, about as long as it tries for a closed socket.
const TIMEOUT: i32 = 120_000;
/// How many are let go of when one comes.
const LET_GO: usize = 2;
/// The longest that the host waits for the peer's end in a small structure, in seconds; beyond it keeps the whole socket.
const FIN_WAIT: i32 = 60;
/// Both directions, as shutdown(2) numbers them.
const SHUT_RDWR: i32 = 2;

/// One connection.
struct Closed {
    file: Arc<OwnedFd>,
    charge: KernelCharge,
    /// What it takes beside its buffers.
    own: u64,
}

impl Closed {
    /// Updates the charge; false once all has arrived, or nothing can.
    fn goes_on(&self) -> bool {
        let goes_on = is_sending(self.file.as_fd());
        if goes_on {
            self.charge.set(self.own + MemInfo::of(self.file.as_fd()).buffers);
        }
        goes_on
    }
}

/// Whether the host repeats the end of a connection, and what is before it, until the peer has it.
fn is_sending(socket: BorrowedFd<'_>) -> bool {
    let sending = [TcpState::TCP_FIN_WAIT1, TcpState::TCP_CLOSING, TcpState::TCP_LAST_ACK];
    tcp_state(socket).is_some_and(|state| sending.contains(&state))
}

/// Closes a connection with a reset.
pub(super) fn reset(socket: BorrowedFd<'_>) {
    let at_once = Linger { l_onoff: 1, l_linger: 0 };
    // It fails for no socket.
    let _ = host::set_option(socket, SocketLevel::SOL_SOCKET.raw(), So::SO_LINGER.raw(), at_once.as_bytes());
}

/// All of them, the oldest first.
pub(super) struct ClosedSockets(Mutex<VecDeque<Closed>>);

impl Default for ClosedSockets {
    fn default() -> Self {
        ClosedSockets(Mutex::new(Rank::Leaf, VecDeque::new()))
    }
}

impl ClosedSockets {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Charges what they keep now, and lets go of those that keep nothing; returns the bytes.
    pub(super) fn charge(&self) -> u64 {
        // The host is asked with no lock held; what is closed meanwhile comes behind these.
        let mut all = std::mem::take(&mut *self.0.lock());
        all.retain(Closed::goes_on);
        let bytes = all.iter().map(|closed| closed.charge.bytes()).sum();
        let mut newer = self.0.lock();
        all.append(&mut newer);
        *newer = all;
        bytes
    }

    /// Lets go of the oldest that are over, a few at a time, so that those which end soon do not wait for the next look.
    fn let_go(&self) {
        for _ in 0..LET_GO {
            let Some(oldest) = self.0.lock().pop_front() else { return };
            if oldest.goes_on() {
                return self.0.lock().push_front(oldest);
            }
        }
    }

    /// Resets the oldest until so many bytes are free.
    pub(super) fn give_up(&self, bytes: u64) {
        let mut all = self.0.lock();
        let mut freed = 0;
        while freed < bytes
            && let Some(closed) = all.pop_front()
        {
            reset(closed.file.as_fd());
            freed += closed.charge.bytes();
        }
    }
}

impl HostSocket {
    /// The guest has closed it: keeps the descriptor for as long as the host has something to send.
    pub(super) fn keep_unsent(&self) {
        let ends_at_once = self.options.look(|values| values.linger) == Some(0);
        if !self.is_stream() || self.handed || ends_at_once || !self.sockets.memory.is_limited() {
            return;
        }
        let connected = [
            TcpState::TCP_ESTABLISHED,
            TcpState::TCP_SYN_RECV,
            TcpState::TCP_FIN_WAIT1,
            TcpState::TCP_FIN_WAIT2,
            TcpState::TCP_CLOSE_WAIT,
            TcpState::TCP_LAST_ACK,
            TcpState::TCP_CLOSING,
        ];
        // The host resets a connection of which something was not read.
        if !tcp_state(self.fd()).is_some_and(|state| connected.contains(&state)) || self.readable_bytes() > 0 {
            return;
        }
        // This is what the peer sees of a close, too.
        if host::shutdown(self.fd(), SHUT_RDWR).is_err() {
            return;
        }
        let tcp = SocketLevel::SOL_TCP;
        if !is_sending(self.fd()) {
            let waits = TcpOption::TCP_LINGER2.raw();
            if self.number_option(tcp, waits).is_ok_and(|seconds| seconds > FIN_WAIT) {
                // It fails for no socket.
                let _ = host::set_option(self.fd(), tcp.raw(), waits, &FIN_WAIT.to_ne_bytes());
            }
            return;
        }
        let name = TcpOption::TCP_USER_TIMEOUT.raw();
        if self.number_option(tcp, name) == Ok(0) {
            // Without it, the host only tries for longer.
            let _ = host::set_option(self.fd(), tcp.raw(), name, &TIMEOUT.to_ne_bytes());
        }
        let own = self.kept.lasting_bytes(self.fd());
        let closed = Closed { file: self.file().clone(), charge: self.kept.another(own), own };
        // The end counts as one byte.
        let has_data = closed.goes_on() && self.unsent_bytes() > 1;
        self.sockets.closed.let_go();
        let beyond = {
            let mut all = self.sockets.closed.0.lock();
            all.push_back(closed);
            (all.len() > MOST).then(|| all.pop_front()).flatten()
        };
        if let Some(oldest) = beyond {
            reset(oldest.file.as_fd());
        }
        if has_data {
            self.sockets.ask_for_look();
        }
    }
}
