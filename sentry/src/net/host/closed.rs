//! Connections that the guest has closed before the peer acknowledged all data and the FIN.
//!
//! The host kernel keeps sending for them. If memory is limited, their descriptors stay open until it is done, so that
//! the memory is charged and can be reclaimed: before a process is killed, they are reset, the oldest first.

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

/// The maximum number of such connections; Linux limits them by `net.ipv4.tcp_max_orphans`.
const MOST: usize = 8192;
/// The time in milliseconds after which the host gives up without progress, about as long as for an orphaned socket.
const TIMEOUT: i32 = 120_000;
/// The number of finished connections that are closed when one is added.
const LET_GO: usize = 2;
/// The longest time in seconds for which the host waits for the peer's FIN in a small structure. Beyond it, the host
/// keeps the whole socket.
const FIN_WAIT: i32 = 60;
/// Both directions, as for shutdown(2).
const SHUT_RDWR: i32 = 2;

/// A closed connection.
struct Closed {
    file: Arc<OwnedFd>,
    charge: KernelCharge,
    /// Its memory without buffers, in bytes.
    own: u64,
}

impl Closed {
    /// Updates the charge. Returns false when all data was acknowledged or sending has failed.
    fn goes_on(&self) -> bool {
        let goes_on = is_sending(self.file.as_fd());
        if goes_on {
            self.charge.set(self.own + MemInfo::of(self.file.as_fd()).buffers);
        }
        goes_on
    }
}

/// Whether the host may retransmit data or the FIN.
fn is_sending(socket: BorrowedFd<'_>) -> bool {
    let sending = [TcpState::TCP_FIN_WAIT1, TcpState::TCP_CLOSING, TcpState::TCP_LAST_ACK];
    tcp_state(socket).is_some_and(|state| sending.contains(&state))
}

/// Closes a connection with a reset.
pub(super) fn reset(socket: BorrowedFd<'_>) {
    let at_once = Linger { l_onoff: 1, l_linger: 0 };
    // Cannot fail for a socket.
    let _ = host::set_option(socket, SocketLevel::SOL_SOCKET.raw(), So::SO_LINGER.raw(), at_once.as_bytes());
}

/// All closed connections, the oldest first.
pub(super) struct ClosedSockets(Mutex<VecDeque<Closed>>);

impl Default for ClosedSockets {
    fn default() -> Self {
        ClosedSockets(Mutex::new(Rank::Leaf, VecDeque::new()))
    }
}

impl ClosedSockets {
    /// Their number.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Updates the charges and closes finished connections. Returns the bytes charged.
    pub(super) fn charge(&self) -> u64 {
        // The host is queried without the lock. Connections closed in the meantime are appended.
        let mut all = std::mem::take(&mut *self.0.lock());
        all.retain(Closed::goes_on);
        let bytes = all.iter().map(|closed| closed.charge.bytes()).sum();
        let mut newer = self.0.lock();
        all.append(&mut newer);
        *newer = all;
        bytes
    }

    /// Closes the oldest finished connections, a few at a time, so that short ones do not wait for the next update.
    fn let_go(&self) {
        for _ in 0..LET_GO {
            let Some(oldest) = self.0.lock().pop_front() else { return };
            if oldest.goes_on() {
                return self.0.lock().push_front(oldest);
            }
        }
    }

    /// Resets the oldest connections until this many bytes are free.
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
    /// Keeps the descriptor of a socket that the guest has closed while the host still sends.
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
        // The host resets a connection with unread data.
        if !tcp_state(self.fd()).is_some_and(|state| connected.contains(&state)) || self.readable_bytes() > 0 {
            return;
        }
        // The peer sees the same as of a close.
        if host::shutdown(self.fd(), SHUT_RDWR).is_err() {
            return;
        }
        let tcp = SocketLevel::SOL_TCP;
        if !is_sending(self.fd()) {
            let waits = TcpOption::TCP_LINGER2.raw();
            if self.number_option(tcp, waits).is_ok_and(|seconds| seconds > FIN_WAIT) {
                // Cannot fail for a socket.
                let _ = host::set_option(self.fd(), tcp.raw(), waits, &FIN_WAIT.to_ne_bytes());
            }
            return;
        }
        let name = TcpOption::TCP_USER_TIMEOUT.raw();
        if self.number_option(tcp, name) == Ok(0) {
            // Without the option, the host only retries for longer.
            let _ = host::set_option(self.fd(), tcp.raw(), name, &TIMEOUT.to_ne_bytes());
        }
        let own = self.kept.lasting_bytes(self.fd());
        let closed = Closed { file: self.file().clone(), charge: self.kept.another(own), own };
        // The FIN counts as one byte.
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
            self.sockets.request_update();
        }
    }
}
