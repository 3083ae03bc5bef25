//! Connections that the guest has not accepted yet.
//!
//! What they hold the host's kernel charges to nobody, and of those whose peer is gone it does not even tell. So where
//! memory is limited, each look at it accepts them: from then on they wait in the sentry, as sockets like others. The
//! host's queue is made shorter by as many, so that the two together hold what the guest asked for.

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

/// Where the length of a listener's queue stands in `struct tcp_info`, and the most it may have.
const LENGTH_PLACE: usize = offset_of!(TcpInfo, tcpi_unacked);
const MOST_PLACE: usize = offset_of!(TcpInfo, tcpi_sacked);

/// What a listener has.
struct Queue {
    /// The length that listen(2) asked for, as far as the host allows it.
    most: u32,
    /// The longest that the host's part may be.
    bound: u32,
    taken: VecDeque<Arc<HostSocket>>,
}

impl Queue {
    /// How many connections the host is to keep.
    fn left(&self) -> i32 {
        let left = (self.most as usize).saturating_sub(self.taken.len());
        as_backlog(u32::try_from(left).unwrap_or(u32::MAX).min(self.bound))
    }
}

fn as_backlog(most: u32) -> i32 {
    i32::try_from(most).unwrap_or(i32::MAX)
}

/// The connections of a socket that wait in the sentry.
pub(super) struct Waiting {
    /// None unless the socket listens.
    queue: Mutex<Option<Queue>>,
    /// How many wait, so that there is no lock to take where none do.
    count: AtomicUsize,
    /// At most so many bytes are held by those that could not be taken over.
    beyond: AtomicU64,
}

impl Default for Waiting {
    fn default() -> Self {
        let queue = Mutex::new(Rank::Buffer, None);
        Waiting { queue, count: AtomicUsize::new(0), beyond: AtomicU64::new(0) }
    }
}

impl Waiting {
    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The length of the queue that listen(2) asked for; none unless the socket listens.
    pub(super) fn most(&self) -> Option<u32> {
        self.queue.lock().as_ref().map(|queue| queue.most)
    }

    /// What they make the socket ready for.
    pub(super) fn events(&self) -> PollEvents {
        if self.count() > 0 { READABLE } else { PollEvents::empty() }
    }

    /// Bytes that are charged to the listener itself for connections that could not be taken over.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond.load(Ordering::Relaxed)
    }

    /// Bytes that are charged for those that wait.
    pub(super) fn kept_bytes(&self) -> u64 {
        if self.count() == 0 {
            return 0;
        }
        self.queue.lock().iter().flat_map(|queue| &queue.taken).map(|socket| socket.kept_bytes()).sum()
    }
}

impl HostSocket {
    /// listen(2).
    ///
    /// # Errors
    /// Those of the host.
    pub(super) fn begin_to_listen(&self, backlog: u32) -> Result<(), Errno> {
        let bound = self.most_requests();
        let mut queue = self.waiting.queue.lock();
        host::listen(self.fd(), as_backlog(backlog.min(bound)))?;
        if !self.is_stream() {
            return Ok(());
        }
        let allowed = self.listener_number(MOST_PLACE).unwrap_or(backlog);
        self.charge_requests(allowed);
        // Of sockets that others have as well the connections may be theirs.
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

    /// Bounds the backlog of a listener anew, whose requests take more from now on.
    pub(super) fn bound_backlog(&self) {
        let mut queue = self.waiting.queue.lock();
        let Some(queue) = queue.as_mut() else { return };
        queue.bound = self.most_requests();
        self.charge_requests(queue.most.min(queue.bound));
        let _ = host::listen(self.fd(), queue.left());
    }

    /// Has the host keep as many connections as may wait beside those that were taken over.
    fn shorten(&self, queue: &Queue) {
        if queue.taken.is_empty() {
            return;
        }
        // It fails for no socket that listens.
        let _ = host::listen(self.fd(), queue.left());
    }

    fn listener_number(&self, place: usize) -> Option<u32> {
        let name = TcpOption::TCP_INFO.raw();
        let info = host::option(self.fd(), SocketLevel::SOL_TCP.raw(), name, size_of::<TcpInfo>()).ok()?;
        info.get(place..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// Adds those that wait in the sentry to what the host tells of a listener's queue.
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

    /// Takes the connection that waits longest: one in the sentry, or else at the host.
    ///
    /// # Errors
    /// `EAGAIN` if none waits; those of the host.
    pub(super) fn accept_next(&self) -> Result<Arc<HostSocket>, Errno> {
        let mut waiting = self.waiting.queue.lock();
        let Some(queue) = waiting.as_mut() else {
            drop(waiting);
            let (file, peer) = host::accept(self.fd())?;
            return Ok(self.child(file, peer));
        };
        let Some(socket) = queue.taken.pop_front() else {
            // Under the lock, so that a look takes over neither this one nor one that came before.
            let (file, peer) = host::accept(self.fd())?;
            return Ok(self.child(file, peer));
        };
        self.waiting.count.store(queue.taken.len(), Ordering::Release);
        let _ = host::listen(self.fd(), queue.left());
        Ok(socket)
    }

    /// Takes over the connections that wait at the host; returns the bytes of their buffers. One look at a time.
    pub(super) fn take_over(&self) -> u64 {
        let Some(most) = self.waiting.queue.lock().as_ref().map(|queue| queue.most) else {
            self.waiting.beyond.store(0, Ordering::Relaxed);
            return 0;
        };
        let mut bytes = 0;
        let (mut any, mut all_taken) = (false, false);
        // No more than the queue holds, however fast a guest connects to itself and accepts.
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

    /// Takes over one connection; none if none waits at the host, or the socket does not listen.
    ///
    /// # Errors
    /// `ENOBUFS` if the queue is full; those of the host, such as that there are no more descriptors.
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
        // Counted first: who polls meanwhile finds it here or at the host.
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

    /// What connections hold at most that wait at the host.
    fn bytes_at_host(&self) -> u64 {
        let count = self.listener_number(LENGTH_PLACE).unwrap_or(0);
        u64::from(count) * MemInfo::of(self.fd()).receive_buffer
    }

    /// Runs a call that may end that the socket listens: then the host resets the connections that waited, and so does
    /// the sentry.
    pub(super) fn stop_listening(&self, call: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let ended = {
            // A look must not have the host listen again.
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

    /// The listener is closed.
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

/// Whether an address passed to connect(2) ends what a socket does.
pub(super) fn ends(address: &[u8]) -> bool {
    address.first_chunk().is_some_and(|family| u16::from_ne_bytes(*family) == AddressFamily::AF_UNSPEC.raw())
}
