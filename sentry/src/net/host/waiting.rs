//! Connections that the guest has not accepted yet.
//!
//! The host kernel charges their buffers to no socket that the sentry can query, and does not report those whose peer
//! is gone. If memory is limited, each update therefore accepts them, and they wait in the sentry as ordinary sockets.
//! The host's backlog is reduced by their number, so that the total is what the guest requested.

use std::collections::VecDeque;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, TcpInfo};
use amber_abi::sockopt::{SocketLevel, TcpOption};
use amber_host::poller::readiness;
use amber_host::socket as host;

use super::closed::reset;
use super::kept::MemInfo;
use super::socket::HostSocket;
use crate::net::socket::Socket;
use crate::sync::{Mutex, Rank};
use crate::wait::READABLE;

/// The positions of the length and the limit of a listener's queue in `struct tcp_info`.
const LENGTH_PLACE: usize = offset_of!(TcpInfo, tcpi_unacked);
const MOST_PLACE: usize = offset_of!(TcpInfo, tcpi_sacked);

/// The queue of a listener.
struct Queue {
    /// The backlog requested by listen(2), within the host's limit.
    most: u32,
    /// The maximum backlog on the host.
    bound: u32,
    taken: VecDeque<Arc<HostSocket>>,
}

impl Queue {
    /// The remaining backlog on the host.
    fn left(&self) -> i32 {
        let left = (self.most as usize).saturating_sub(self.taken.len());
        as_backlog(u32::try_from(left).unwrap_or(u32::MAX).min(self.bound))
    }
}

fn as_backlog(most: u32) -> i32 {
    i32::try_from(most).unwrap_or(i32::MAX)
}

/// The connections of a listener that wait in the sentry.
pub(super) struct Waiting {
    /// None unless the socket listens.
    queue: Mutex<Option<Queue>>,
    /// Their number, for checks without the lock.
    count: AtomicUsize,
    /// The maximum memory of connections that could not be accepted, in bytes.
    beyond: AtomicU64,
}

impl Default for Waiting {
    fn default() -> Self {
        let queue = Mutex::new(Rank::Buffer, None);
        Waiting { queue, count: AtomicUsize::new(0), beyond: AtomicU64::new(0) }
    }
}

impl Waiting {
    /// The number of connections.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The backlog requested by listen(2); none unless the socket listens.
    pub(super) fn most(&self) -> Option<u32> {
        self.queue.lock().as_ref().map(|queue| queue.most)
    }

    /// The poll events of the listener because of them.
    pub(super) fn events(&self) -> PollEvents {
        if self.count() > 0 { READABLE } else { PollEvents::empty() }
    }

    /// The bytes charged to the listener for connections that could not be accepted.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond.load(Ordering::Relaxed)
    }

    /// The bytes charged for connections in the sentry.
    pub(super) fn kept_bytes(&self) -> u64 {
        if self.count() == 0 {
            return 0;
        }
        self.queue.lock().iter().flat_map(|queue| &queue.taken).map(|socket| socket.kept_bytes()).sum()
    }
}

impl HostSocket {
    /// Starts listening (listen(2)).
    ///
    /// # Errors
    /// Errors of the host.
    pub(super) fn begin_to_listen(&self, backlog: u32) -> Result<(), Errno> {
        let bound = self.most_requests();
        let mut queue = self.waiting.queue.lock();
        host::listen(self.fd(), as_backlog(backlog.min(bound)))?;
        if !self.is_stream() {
            return Ok(());
        }
        let allowed = self.listener_number(MOST_PLACE).unwrap_or(backlog);
        self.charge_requests(allowed);
        // The connections of a shared socket may be meant for other processes.
        if !self.handed {
            self.queue().has_other_events();
            let taken = queue.take().map(|queue| queue.taken).unwrap_or_default();
            let most = if allowed < bound { allowed } else { backlog };
            let queue = queue.insert(Queue { most, bound, taken });
            self.shorten(queue);
        }
        drop(queue);
        self.charge_fast_open();
        self.charge();
        Ok(())
    }

    /// Limits the backlog of a listener again, because its requests take more memory from now on.
    pub(super) fn bound_backlog(&self) {
        let mut queue = self.waiting.queue.lock();
        let Some(queue) = queue.as_mut() else { return };
        queue.bound = self.most_requests();
        self.charge_requests(queue.most.min(queue.bound));
        let _ = host::listen(self.fd(), queue.left());
    }

    /// Reduces the host's backlog by the number of connections in the sentry.
    fn shorten(&self, queue: &Queue) {
        if queue.taken.is_empty() {
            return;
        }
        // Cannot fail for a socket that listens.
        let _ = host::listen(self.fd(), queue.left());
    }

    fn listener_number(&self, place: usize) -> Option<u32> {
        let name = TcpOption::TCP_INFO.raw();
        let info = host::option(self.fd(), SocketLevel::SOL_TCP.raw(), name, size_of::<TcpInfo>()).ok()?;
        info.get(place..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// Adds the connections in the sentry to the host's `struct tcp_info` of a listener.
    pub(super) fn count_waiting(&self, info: &mut [u8]) {
        let Some((most, count)) = self.waiting.queue.lock().as_ref().map(|queue| (queue.most, queue.taken.len()))
        else {
            return;
        };
        let length =
            info.get(LENGTH_PLACE..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes));
        for (place, value) in [(LENGTH_PLACE, length.unwrap_or(0) + count as u32), (MOST_PLACE, most)] {
            if let Some(number) = info.get_mut(place..place + size_of::<u32>()) {
                number.copy_from_slice(&value.to_ne_bytes());
            }
        }
    }

    /// Accepts the oldest connection: one in the sentry, or else one on the host.
    ///
    /// # Errors
    /// `EAGAIN` if there is none; errors of the host.
    pub(super) fn accept_next(&self) -> Result<Arc<HostSocket>, Errno> {
        let mut waiting = self.waiting.queue.lock();
        let Some(queue) = waiting.as_mut() else {
            drop(waiting);
            let (file, peer) = host::accept(self.fd())?;
            return Ok(self.child(file, peer));
        };
        let Some(socket) = queue.taken.pop_front() else {
            // Under the lock, so that an update accepts neither this connection nor an earlier one.
            let (file, peer) = host::accept(self.fd())?;
            return Ok(self.child(file, peer));
        };
        self.waiting.count.store(queue.taken.len(), Ordering::Release);
        let _ = host::listen(self.fd(), queue.left());
        Ok(socket)
    }

    /// Accepts the connections on the host. Returns the size of their buffers in bytes. Runs in one update at a time.
    pub(super) fn take_over(&self) -> u64 {
        let Some(most) = self.waiting.queue.lock().as_ref().map(|queue| queue.most) else {
            self.waiting.beyond.store(0, Ordering::Relaxed);
            return 0;
        };
        let mut bytes = 0;
        let (mut any, mut all_taken) = (false, false);
        // Limited to the backlog, even if the guest keeps connecting to itself.
        for _ in 0..=most {
            match self.take_one() {
                Ok(Some(socket)) => bytes += socket.charge(),
                Ok(None) => {
                    all_taken = true;
                    break;
                }
                Err(_) => break,
            }
            any = true;
        }
        let beyond = if all_taken { 0 } else { self.bytes_at_host() };
        self.waiting.beyond.store(beyond, Ordering::Relaxed);
        if any {
            if let Some(queue) = self.waiting.queue.lock().as_ref() {
                self.shorten(queue);
            }
            self.queue().notify(READABLE);
        }
        bytes
    }

    /// Accepts one connection on the host; none if there is none, or the socket does not listen.
    ///
    /// # Errors
    /// `ENOBUFS` if the queue is full; errors of the host, such as `EMFILE`.
    fn take_one(&self) -> Result<Option<Arc<HostSocket>>, Errno> {
        let mut queue = self.waiting.queue.lock();
        let Some(queue) = queue.as_mut() else { return Ok(None) };
        let count = queue.taken.len();
        if !readiness(self.fd()).intersects(READABLE) {
            return Ok(None);
        }
        // The host keeps one more than the backlog.
        if count >= queue.most as usize {
            return Err(Errno::ENOBUFS.here());
        }
        // Incremented first, so that concurrent polls find the connection here or on the host.
        self.waiting.count.store(count + 1, Ordering::Release);
        match host::accept(self.fd()) {
            Ok((file, peer)) => {
                let socket = self.child(file, peer);
                queue.taken.push_back(socket.clone());
                Ok(Some(socket))
            }
            Err(errno) => {
                self.waiting.count.store(count, Ordering::Release);
                if errno == Errno::EAGAIN { Ok(None) } else { Err(errno) }
            }
        }
    }

    /// The maximum memory of connections on the host, in bytes.
    fn bytes_at_host(&self) -> u64 {
        let count = self.listener_number(LENGTH_PLACE).unwrap_or(0);
        u64::from(count) * MemInfo::of(self.fd()).receive_buffer
    }

    /// Runs a call that may end listening. The host then resets its waiting connections, and so does the sentry.
    pub(super) fn stop_listening(&self, call: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let ended = {
            // An update must not make the host's socket listen again.
            let mut queue = self.waiting.queue.lock();
            call()?;
            if queue.is_some() {
                self.note_closed_listener();
            }
            self.waiting.count.store(0, Ordering::Release);
            queue.take()
        };
        reset_all(ended);
        Ok(())
    }

    /// Resets the waiting connections of a closed listener.
    pub(super) fn reset_waiting(&self) {
        if self.waiting.count() > 0 {
            let ended = self.waiting.queue.lock().take();
            reset_all(ended);
        }
    }
}

fn reset_all(queue: Option<Queue>) {
    for socket in queue.into_iter().flat_map(|queue| queue.taken) {
        socket.options.change(|values| values.linger = Some(0));
        reset(socket.fd());
    }
}

/// Whether connect(2) to an address disconnects the socket or stops listening (AF_UNSPEC).
pub(super) fn ends(address: &[u8]) -> bool {
    address.first_chunk().is_some_and(|family| u16::from_ne_bytes(*family) == AddressFamily::AF_UNSPEC.raw())
}
