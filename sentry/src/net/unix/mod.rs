//! AF_UNIX sockets (unix(7)).

mod garbage;
mod graph;
mod names;
mod transfer;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::ioctl::IoctlRequest as Io;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, MessageFlags, SocketKind};
use amber_abi::sockopt::SocketLevel;

use crate::error::SysResult;
use crate::kernel::Kernel;
use crate::net::control::PeerCredentials;
use crate::net::options::SharedOptions;
use crate::net::receive_queue::{Payer, ReceiveQueue};
use crate::net::socket::{Directions, Outgoing, Received, Socket};
use crate::net::stream::ByteStream;
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;
use crate::vfs::Caller;
use crate::wait::{READABLE, SigioEvent, WaitQueue};

pub(crate) use graph::SocketsInFlight;
pub(crate) use names::{UnixName, UnixNames};

const WRITABLE: PollEvents = PollEvents::POLLOUT.union(PollEvents::POLLWRNORM).union(PollEvents::POLLWRBAND);

/// An AF_UNIX socket.
pub(crate) struct UnixSocket {
    me: Weak<UnixSocket>,
    kernel: Weak<Kernel>,
    kind: SocketKind,
    options: SharedOptions,
    state: Mutex<State>,
    queue: WaitQueue,
    /// The part of its send buffer in use by messages that were not received yet.
    outstanding: AtomicUsize,
    /// The credentials of its maker.
    owner: Arc<PeerCredentials>,
    /// A unique number, in whose order sockets are listed.
    id: u64,
}

#[derive(Default)]
struct State {
    name: Option<UnixName>,
    /// The unreceived data: of streams here, messages in `messages`.
    stream: ByteStream,
    messages: ReceiveQueue,
    listening: Option<Listening>,
    /// The number of the listener where it waits to be accepted.
    listener: Option<u64>,
    /// The peer, which may no longer exist.
    peer: Option<Weak<UnixSocket>>,
    /// The peer's address, kept after it is gone.
    peer_name: Option<UnixName>,
    /// The credentials of the peer, or of the task that made this socket listen.
    peer_credentials: Option<Arc<PeerCredentials>>,
    /// Whether receiving is shut down, by either end.
    no_receive: bool,
    /// Whether sending is shut down.
    no_send: bool,
    error: Option<Errno>,
    closed: bool,
    /// Senders that wait for room for a datagram, by number.
    waiting_senders: BTreeMap<u64, Weak<UnixSocket>>,
    /// The number of waiting senders at which those that no longer exist are removed.
    enough_senders: usize,
}

struct Listening {
    waiting: VecDeque<Arc<UnixSocket>>,
    backlog: usize,
}

impl State {
    fn is_empty(&self) -> bool {
        self.stream.receive_queue().is_empty() && self.messages.is_empty()
    }

    /// Takes all unreceived data, for the caller to drop without locks.
    fn empty(&mut self) -> (ByteStream, ReceiveQueue) {
        (std::mem::take(&mut self.stream), std::mem::take(&mut self.messages))
    }

    fn is_peer(&self, other: &UnixSocket) -> bool {
        self.peer.as_ref().is_some_and(|peer| std::ptr::eq(peer.as_ptr(), other))
    }
}

impl UnixSocket {
    /// Makes a socket for a task.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`.
    pub(crate) fn create(ctx: &TaskContext, kind: SocketKind, protocol: i32) -> Result<Arc<UnixSocket>, Errno> {
        if protocol != 0 && protocol != i32::from(AddressFamily::AF_UNIX.raw()) {
            return Err(Errno::EPROTONOSUPPORT.here());
        }
        let kind = match kind {
            // As on Linux, a raw socket is a datagram socket here.
            SocketKind::SOCK_RAW => SocketKind::SOCK_DGRAM,
            SocketKind::SOCK_STREAM | SocketKind::SOCK_DGRAM | SocketKind::SOCK_SEQPACKET => kind,
            _ => return Err(Errno::ESOCKTNOSUPPORT.here()),
        };
        let (send, receive) = ctx.kernel().network.limits.default_buffers();
        let options = SharedOptions::with_buffers(send, receive);
        Ok(Self::new(ctx.kernel(), kind, PeerCredentials::of(ctx.task()), options))
    }

    fn new(
        kernel: &Arc<Kernel>,
        kind: SocketKind,
        owner: Arc<PeerCredentials>,
        options: SharedOptions,
    ) -> Arc<UnixSocket> {
        let id = kernel.network.unix.next_id();
        let socket = Arc::new_cyclic(|me| UnixSocket {
            me: me.clone(),
            kernel: Arc::downgrade(kernel),
            kind,
            options,
            state: Mutex::new(Rank::Buffer, State::default()),
            queue: WaitQueue::new(),
            outstanding: AtomicUsize::new(0),
            owner,
            id,
        });
        kernel.network.unix.enter(id, &socket);
        socket
    }

    /// Connects two new sockets to each other (socketpair(2)).
    pub(crate) fn join(first: &Arc<UnixSocket>, second: &Arc<UnixSocket>) {
        for (one, other) in [(first, second), (second, first)] {
            let mut state = one.state.lock();
            state.peer = Some(Arc::downgrade(other));
            state.peer_credentials = Some(other.owner.clone());
        }
    }

    /// Whether the last descriptor was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// The name it is bound to.
    pub(crate) fn name(&self) -> Option<UnixName> {
        self.state.lock().name.clone()
    }

    /// Whether it has a peer, or had one.
    pub(crate) fn is_connected(&self) -> bool {
        self.state.lock().peer.is_some()
    }

    fn is_stream(&self) -> bool {
        self.kind == SocketKind::SOCK_STREAM
    }

    fn is_datagram(&self) -> bool {
        self.kind == SocketKind::SOCK_DGRAM
    }

    /// The peer, if it exists.
    fn peer(&self) -> Option<Arc<UnixSocket>> {
        self.state.lock().peer.as_ref().and_then(Weak::upgrade)
    }

    /// Binds a socket that passes credentials automatically before it sends or connects, so that the receiver can
    /// reply.
    fn name_itself(&self) -> Result<(), Errno> {
        let tells = self.options.look(|values| values.pass_credentials || values.pass_pidfd);
        if !tells || self.name().is_some() {
            return Ok(());
        }
        let (Some(kernel), Some(me)) = (self.kernel.upgrade(), self.me.upgrade()) else { return Ok(()) };
        let name = kernel.network.unix.bind_automatically(&me)?;
        self.state.lock().name = Some(name);
        Ok(())
    }

    /// Connects a stream or seqpacket socket to a listener. The accepted end is made at once and waits there.
    fn connect_to_listener(&self, ctx: &TaskContext, listener: &Arc<UnixSocket>) -> Result<(), Errno> {
        let me = self.me.upgrade().ok_or_else(|| Errno::EINVAL.here())?;
        let is_open = |state: &State| state.listening.is_some() && !state.no_receive;
        if !is_open(&listener.state.lock()) {
            return Err(Errno::ECONNREFUSED.here());
        }
        {
            let state = self.state.lock();
            if state.listening.is_some() {
                return Err(Errno::EINVAL.here());
            }
            if state.peer.is_some() {
                return Err(Errno::EISCONN.here());
            }
        }
        let end = Self::new(ctx.kernel(), self.kind, listener.owner.clone(), listener.options.inherit());
        let (own_name, own) = (self.name(), PeerCredentials::of(ctx.task()));
        {
            let mut state = end.state.lock();
            state.peer = Some(Arc::downgrade(&me));
            state.peer_name = own_name;
            state.peer_credentials = Some(own);
            state.listener = Some(listener.id);
        }
        let (listener_name, host) = {
            let state = listener.state.lock();
            (state.name.clone(), state.peer_credentials.clone())
        };
        end.state.lock().name = listener_name.clone();
        // This end is set up before the other is visible at the listener. If that refuses, the set-up is undone.
        {
            let mut state = self.state.lock();
            if state.peer.is_some() {
                return Err(Errno::EISCONN.here());
            }
            state.peer = Some(Arc::downgrade(&end));
            state.peer_name = listener_name;
            state.peer_credentials = host;
        }
        let entered = {
            let mut state = listener.state.lock();
            let open = is_open(&state);
            match state.listening.as_mut().filter(|_| open) {
                None => Err(Errno::ECONNREFUSED.here()),
                Some(listening) if listening.waiting.len() > listening.backlog => Err(Errno::EAGAIN.here()),
                Some(listening) => {
                    listening.waiting.push_back(end);
                    Ok(())
                }
            }
        };
        if entered.is_err() {
            let mut state = self.state.lock();
            (state.peer, state.peer_name, state.peer_credentials) = (None, None, None);
            return entered;
        }
        listener.queue.notify_and_signal(READABLE, SigioEvent::Input);
        Ok(())
    }

    /// Connects a datagram socket to another peer, or to none.
    fn change_partner(&self, partner: Option<&Arc<UnixSocket>>) {
        let name = partner.and_then(|partner| partner.name());
        let (old, unread) = {
            let mut state = self.state.lock();
            let same = partner.is_some_and(|partner| state.is_peer(partner));
            let old = std::mem::replace(&mut state.peer, partner.map(Arc::downgrade));
            state.peer_name = name;
            let leaves = old.is_some() && !same && !state.is_empty();
            (old, leaves.then(|| state.empty()))
        };
        let Some(unread) = unread else { return };
        // Data of the old peer is lost, which is reported to the old peer if it is still connected to this socket.
        garbage::bury(unread);
        let Some(old) = old.and_then(|old| old.upgrade()) else { return };
        let told = {
            let mut state = old.state.lock();
            let told = !state.closed && state.is_peer(self);
            if told {
                state.error = Some(Errno::ECONNRESET);
            }
            told
        };
        if told {
            old.queue.notify_and_signal(PollEvents::POLLERR, SigioEvent::Error);
        }
    }

    /// Closes the socket after its last descriptor was closed, or its listener before it was accepted.
    fn end(&self, accepted: bool) {
        let (name, peer, waiting, unread, senders) = {
            let mut state = self.state.lock();
            state.closed = true;
            let waiting = state.listening.take().map(|listening| listening.waiting).unwrap_or_default();
            let peer = state.peer.as_ref().and_then(Weak::upgrade);
            let senders = std::mem::take(&mut state.waiting_senders);
            (state.name.clone(), peer, waiting, state.empty(), senders)
        };
        if let (Some(name), Some(kernel)) = (&name, self.kernel.upgrade()) {
            kernel.network.unix.release(self, name);
        }
        for end in waiting {
            end.end(false);
        }
        if let Some(peer) = peer.filter(|_| !self.is_datagram()) {
            {
                let mut state = peer.state.lock();
                (state.no_receive, state.no_send) = (true, true);
                if !accepted || !unread.0.receive_queue().is_empty() || !unread.1.is_empty() {
                    state.error = Some(Errno::ECONNRESET);
                }
            }
            peer.queue.notify_all();
            peer.queue.signals().notify(SigioEvent::HangUp);
        }
        garbage::bury(unread);
        self.queue.notify_all();
        // Wakes the senders that wait for room.
        senders.values().filter_map(Weak::upgrade).for_each(|sender| sender.queue.notify_all());
        if let Some(kernel) = self.kernel.upgrade() {
            garbage::socket_closed(&kernel.network.unix);
        }
    }
}

impl Payer for UnixSocket {
    fn repay(&self, bytes: usize) {
        self.outstanding.fetch_sub(bytes, Ordering::Relaxed);
        if self.has_room() {
            self.queue.notify(WRITABLE);
            self.queue.signals().notify_room();
        }
    }
}

impl Socket for UnixSocket {
    fn identity(&self) -> (AddressFamily, SocketKind, i32) {
        (AddressFamily::AF_UNIX, self.kind, 0)
    }

    fn options(&self) -> &SharedOptions {
        &self.options
    }

    fn bind(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        let automatic = matches!(names::parse(address)?, names::Named::Nothing);
        if self.name().is_some() {
            return if automatic { Ok(()) } else { Err(Errno::EINVAL.here()) };
        }
        let me = self.me.upgrade().ok_or_else(|| Errno::EINVAL.here())?;
        let name = ctx.kernel().network.unix.bind(ctx, &me, address)?;
        self.state.lock().name = Some(name);
        Ok(())
    }

    fn listen(&self, ctx: &TaskContext, backlog: u32) -> Result<(), Errno> {
        if self.is_datagram() {
            return Err(Errno::EOPNOTSUPP.here());
        }
        let host = PeerCredentials::of(ctx.task());
        {
            let mut state = self.state.lock();
            if state.name.is_none() || state.peer.is_some() {
                return Err(Errno::EINVAL.here());
            }
            match &mut state.listening {
                Some(listening) => listening.backlog = backlog as usize,
                none => *none = Some(Listening { waiting: VecDeque::new(), backlog: backlog as usize }),
            }
            state.peer_credentials = Some(host);
        }
        self.queue.notify(WRITABLE);
        Ok(())
    }

    fn connect(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        let family =
            address.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).ok_or_else(|| Errno::EINVAL.here())?;
        if self.is_datagram() && family == AddressFamily::AF_UNSPEC.raw() {
            self.change_partner(None);
            return Ok(());
        }
        names::parse(address)?;
        self.name_itself()?;
        let target = ctx.kernel().network.unix.find(ctx, self.kind, address)?;
        if !self.is_datagram() {
            return self.connect_to_listener(ctx, &target);
        }
        let partner = target.state.lock().peer.as_ref().map(Weak::as_ptr);
        if partner.is_some_and(|partner| !std::ptr::eq(partner, self)) {
            return Err(Errno::EPERM.here());
        }
        self.change_partner(Some(&target));
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>, Errno> {
        if self.is_datagram() {
            return Err(Errno::EOPNOTSUPP.here());
        }
        let accepted = {
            let mut state = self.state.lock();
            if state.no_receive {
                return Err(Errno::EINVAL.here());
            }
            let listening = state.listening.as_mut().ok_or_else(|| Errno::EINVAL.here())?;
            listening.waiting.pop_front().ok_or_else(|| Errno::EAGAIN.here())?
        };
        if let Some(kernel) = self.kernel.upgrade() {
            let mut state = accepted.state.lock();
            state.listener = None;
            kernel.network.unix.graph().accepted(accepted.id);
        }
        // There is room for another connection.
        self.queue.notify(WRITABLE);
        Ok(accepted)
    }

    fn local_address(&self) -> Vec<u8> {
        self.name().map_or_else(names::unnamed, |name| name.address())
    }

    fn peer_address(&self) -> Result<Vec<u8>, Errno> {
        let state = self.state.lock();
        if state.peer.is_none() {
            return Err(Errno::ENOTCONN.here());
        }
        let name = state.peer_name.clone();
        drop(state);
        // The peer may have been bound after it connected.
        let name = name.or_else(|| self.peer().and_then(|peer| peer.name()));
        Ok(name.map_or_else(names::unnamed, |name| name.address()))
    }

    fn send(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno> {
        self.send_message(ctx, message)
    }

    fn receive(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        self.receive_message(buf, flags)
    }

    fn keeps_borders(&self) -> bool {
        !self.is_stream()
    }

    fn shutdown(&self, directions: Directions) -> Result<(), Errno> {
        let peer = {
            let mut state = self.state.lock();
            state.no_receive |= directions.receive;
            state.no_send |= directions.send;
            state.peer.as_ref().and_then(Weak::upgrade)
        };
        if let Some(peer) = peer.filter(|_| !self.is_datagram()) {
            {
                let mut state = peer.state.lock();
                state.no_receive |= directions.send;
                state.no_send |= directions.receive;
            }
            peer.queue.notify_all();
            if directions.receive && directions.send {
                peer.queue.signals().notify(SigioEvent::HangUp);
            } else if directions.send {
                peer.queue.signals().notify(SigioEvent::Input);
            }
        }
        self.queue.notify_all();
        Ok(())
    }

    fn poll(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        let peer = {
            let state = self.state.lock();
            if state.no_receive {
                events |= READABLE | PollEvents::POLLRDHUP;
            }
            if state.no_receive && state.no_send {
                events |= PollEvents::POLLHUP;
            }
            if state.error.is_some() {
                events |= PollEvents::POLLERR;
            }
            if let Some(listening) = &state.listening {
                return if listening.waiting.is_empty() { events } else { events | READABLE };
            }
            if !state.is_empty() {
                events |= READABLE;
            }
            if state.stream.is_urgent() {
                events |= PollEvents::POLLPRI;
            }
            if !self.is_datagram() && state.peer.is_none() {
                events |= PollEvents::POLLHUP;
            }
            state.peer.as_ref().and_then(Weak::upgrade)
        };
        if peer.is_none_or(|peer| self.can_send_to(&peer)) && self.has_room() {
            events |= WRITABLE;
        }
        events
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    fn is_listening(&self) -> bool {
        self.state.lock().listening.is_some()
    }

    fn peer_credentials(&self) -> Option<Arc<PeerCredentials>> {
        self.state.lock().peer_credentials.clone()
    }

    fn can_peek_from(&self) -> bool {
        true
    }

    fn option(&self, _ctx: &TaskContext, _level: SocketLevel, _name: i32) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    fn set_option(&self, _ctx: &TaskContext, _level: SocketLevel, _name: i32, _value: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    fn readable_bytes(&self) -> usize {
        let state = self.state.lock();
        // An urgent byte received with MSG_OOB is not counted.
        let gap = usize::from(state.stream.has_gap());
        if self.is_stream() { state.stream.bytes().saturating_sub(gap) } else { state.messages.first_bytes() }
    }

    fn kept_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.stream.receive_queue().kept_bytes() + state.messages.kept_bytes()
    }

    fn unsent_bytes(&self) -> usize {
        let there = if self.is_stream() { self.peer().map_or(0, |peer| peer.state.lock().stream.bytes()) } else { 0 };
        self.outstanding.load(Ordering::Relaxed) + there
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        if Io::from_raw(command) == Io::SIOCATMARK && self.is_stream() {
            let at_mark = self.state.lock().stream.is_at_mark();
            caller.write_object(argument, &i32::from(at_mark))?;
            return Ok(0);
        }
        Err(Errno::ENOTTY.here().into())
    }

    fn close(&self) {
        self.end(true);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if let Some(kernel) = self.kernel.upgrade() {
            kernel.network.unix.leave(self.id);
        }
    }
}
