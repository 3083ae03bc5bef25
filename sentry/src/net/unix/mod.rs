//! AF_UNIX sockets: see unix(7).

mod names;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, MessageFlags, SocketKind, Ucred};

use crate::fs::sigio::Happening;
use crate::kernel::Kernel;
use crate::net::control::own_credentials;
use crate::net::inbox::{Inbox, Packet};
use crate::net::options::SharedOptions;
use crate::net::socket::{Directions, Outgoing, Received, Socket};
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;
use crate::wait::WaitQueue;

pub use names::{UnixName, UnixNames};

const READABLE: PollEvents = PollEvents::POLLIN.union(PollEvents::POLLRDNORM);
const WRITABLE: PollEvents = PollEvents::POLLOUT.union(PollEvents::POLLWRNORM).union(PollEvents::POLLWRBAND);
/// How many datagrams wait at most (`net.unix.max_dgram_qlen`).
const MOST_DATAGRAMS: usize = 10;

/// A socket of AF_UNIX.
pub struct UnixSocket {
    me: Weak<UnixSocket>,
    kernel: Weak<Kernel>,
    kind: SocketKind,
    options: SharedOptions,
    state: Mutex<State>,
    queue: WaitQueue,
    /// Who made it; what it sends without saying otherwise.
    owner: Ucred,
}

#[derive(Default)]
struct State {
    name: Option<UnixName>,
    inbox: Inbox,
    datagrams: usize,
    listening: Option<Listening>,
    /// The other end; may be gone.
    peer: Option<Weak<UnixSocket>>,
    /// The other end's address, kept for after it is gone.
    peer_name: Option<UnixName>,
    peer_credentials: Option<Ucred>,
    no_receive: bool,
    no_send: bool,
    /// The other end will send nothing more.
    peer_done: bool,
    /// The other end is closed.
    peer_gone: bool,
    error: Option<Errno>,
    closed: bool,
}

struct Listening {
    waiting: VecDeque<Arc<UnixSocket>>,
    backlog: usize,
}

impl UnixSocket {
    /// Makes a socket for a task.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`.
    pub fn create(ctx: &TaskContext, kind: SocketKind, protocol: i32) -> Result<Arc<UnixSocket>, Errno> {
        if protocol != 0 && protocol != i32::from(AddressFamily::AF_UNIX.raw()) {
            return Err(Errno::EPROTONOSUPPORT);
        }
        let kind = match kind {
            // As on Linux, a raw socket is a datagram socket here.
            SocketKind::SOCK_RAW => SocketKind::SOCK_DGRAM,
            SocketKind::SOCK_STREAM | SocketKind::SOCK_DGRAM | SocketKind::SOCK_SEQPACKET => kind,
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        };
        Ok(Self::new(Arc::downgrade(ctx.kernel()), kind, own_credentials(ctx), SharedOptions::default()))
    }

    fn new(kernel: Weak<Kernel>, kind: SocketKind, owner: Ucred, options: SharedOptions) -> Arc<UnixSocket> {
        Arc::new_cyclic(|me| UnixSocket {
            me: me.clone(),
            kernel,
            kind,
            options,
            state: Mutex::new(Rank::Buffer, State::default()),
            queue: WaitQueue::new(),
            owner,
        })
    }

    /// Connects two fresh sockets to each other (socketpair(2)).
    pub fn join(first: &Arc<UnixSocket>, second: &Arc<UnixSocket>) {
        for (one, other) in [(first, second), (second, first)] {
            let mut state = one.state.lock();
            state.peer = Some(Arc::downgrade(other));
            state.peer_credentials = Some(other.owner);
        }
    }

    /// Whether the last descriptor is gone.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// The name it is bound to.
    pub fn name(&self) -> Option<UnixName> {
        self.state.lock().name.clone()
    }

    fn is_stream(&self) -> bool {
        self.kind == SocketKind::SOCK_STREAM
    }

    fn is_datagram(&self) -> bool {
        self.kind == SocketKind::SOCK_DGRAM
    }

    /// The other end, alive.
    fn peer(&self) -> Option<Arc<UnixSocket>> {
        self.state.lock().peer.as_ref().and_then(Weak::upgrade)
    }

    /// A stream or seqpacket socket connects to a listener: the accepted end is made at once and waits there.
    fn connect_to_listener(&self, ctx: &TaskContext, listener: &Arc<UnixSocket>) -> Result<(), Errno> {
        let me = self.me.upgrade().ok_or(Errno::EINVAL)?;
        {
            let state = self.state.lock();
            if state.listening.is_some() {
                return Err(Errno::EINVAL);
            }
            if state.peer.is_some() {
                return Err(Errno::EISCONN);
            }
        }
        if listener.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        let end = Self::new(self.kernel.clone(), self.kind, listener.owner, listener.options.inherit());
        let listener_name = {
            let mut state = listener.state.lock();
            let name = state.name.clone();
            let listening = state.listening.as_mut().ok_or(Errno::ECONNREFUSED)?;
            if listening.waiting.len() > listening.backlog {
                return Err(Errno::EAGAIN);
            }
            listening.waiting.push_back(end.clone());
            name
        };
        let (own_name, own) = (self.name(), own_credentials(ctx));
        {
            let mut state = end.state.lock();
            state.name = listener_name.clone();
            state.peer = Some(Arc::downgrade(&me));
            state.peer_name = own_name;
            state.peer_credentials = Some(own);
        }
        {
            let mut state = self.state.lock();
            state.peer = Some(Arc::downgrade(&end));
            state.peer_name = listener_name;
            state.peer_credentials = Some(listener.owner);
        }
        listener.queue.notify_and_signal(READABLE, Happening::Input);
        Ok(())
    }

    fn send_connected(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.no_send || state.peer_gone {
                return Err(Errno::EPIPE);
            }
            if state.peer.is_none() {
                return Err(Errno::ENOTCONN);
            }
        }
        let peer = self.peer().ok_or(Errno::EPIPE)?;
        let limit = self.options.look(|values| values.send_buffer) as usize;
        let len = {
            let mut state = peer.state.lock();
            if state.closed || state.no_receive {
                return Err(Errno::EPIPE);
            }
            if self.is_stream() {
                let room = state.inbox.room(limit);
                if room == 0 && !message.data.is_empty() {
                    return Err(Errno::EAGAIN);
                }
                let len = message.data.len().min(room);
                if len > 0 {
                    state.inbox.push_bytes(&message.data[..len], std::mem::take(&mut message.control));
                }
                len
            } else {
                if message.data.len() > limit.saturating_sub(32) {
                    return Err(Errno::EMSGSIZE);
                }
                if !state.inbox.has_room(limit) {
                    return Err(Errno::EAGAIN);
                }
                state.inbox.push(Packet::new(message.data, None, std::mem::take(&mut message.control)));
                message.data.len()
            }
        };
        peer.queue.notify_and_signal(READABLE, Happening::Input);
        Ok(len)
    }

    fn send_datagram(&self, ctx: Option<&TaskContext>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        if self.state.lock().no_send {
            return Err(Errno::EPIPE);
        }
        let target = match (message.address, ctx) {
            (Some(address), Some(ctx)) => {
                let kernel = self.kernel.upgrade().ok_or(Errno::ECONNREFUSED)?;
                let found = kernel.network.unix.find(ctx, address)?;
                if !found.is_datagram() {
                    return Err(Errno::EPROTOTYPE);
                }
                found
            }
            _ => {
                if self.state.lock().peer.is_none() {
                    return Err(Errno::ENOTCONN);
                }
                let peer = self.peer().filter(|peer| !peer.is_closed());
                match peer {
                    Some(peer) => peer,
                    None => {
                        self.state.lock().peer = None;
                        return Err(Errno::ECONNREFUSED);
                    }
                }
            }
        };
        let limit = self.options.look(|values| values.send_buffer) as usize;
        if message.data.len() > limit.saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        let address = self.name().map(|name| name.address());
        {
            let mut state = target.state.lock();
            if state.closed {
                return Err(Errno::ECONNREFUSED);
            }
            if state.no_receive {
                return Err(Errno::EPIPE);
            }
            // A socket that is connected to somebody else takes nothing from others.
            let partner = state.peer.as_ref().map(Weak::as_ptr);
            if partner.is_some_and(|partner| !std::ptr::eq(partner, self)) {
                return Err(Errno::EPERM);
            }
            if state.datagrams > MOST_DATAGRAMS && !std::ptr::eq(&*target, self) {
                return Err(Errno::EAGAIN);
            }
            state.datagrams += 1;
            let address = address.or_else(|| Some(names::unnamed()));
            state.inbox.push(Packet::new(message.data, address, std::mem::take(&mut message.control)));
        }
        target.queue.notify_and_signal(READABLE, Happening::Input);
        Ok(message.data.len())
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
        names::parse(address)?;
        if self.name().is_some() {
            return Err(Errno::EINVAL);
        }
        let me = self.me.upgrade().ok_or(Errno::EINVAL)?;
        let name = ctx.kernel().network.unix.bind(ctx, &me, address)?;
        self.state.lock().name = Some(name);
        Ok(())
    }

    fn listen(&self, _ctx: &TaskContext, backlog: u32) -> Result<(), Errno> {
        if self.is_datagram() {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        if state.name.is_none() || state.peer.is_some() {
            return Err(Errno::EINVAL);
        }
        let backlog = backlog as usize;
        match &mut state.listening {
            Some(listening) => listening.backlog = backlog,
            none => *none = Some(Listening { waiting: VecDeque::new(), backlog }),
        }
        drop(state);
        self.queue.notify(WRITABLE);
        Ok(())
    }

    fn connect(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        let family = address.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)?;
        if self.is_datagram() && family == AddressFamily::AF_UNSPEC.raw() {
            let mut state = self.state.lock();
            (state.peer, state.peer_name) = (None, None);
            return Ok(());
        }
        let target = ctx.kernel().network.unix.find(ctx, address)?;
        if !self.is_datagram() {
            return self.connect_to_listener(ctx, &target);
        }
        if !target.is_datagram() {
            return Err(Errno::EPROTOTYPE);
        }
        let partner = target.state.lock().peer.as_ref().map(Weak::as_ptr);
        if partner.is_some_and(|partner| !std::ptr::eq(partner, self)) {
            return Err(Errno::EPERM);
        }
        let name = target.name();
        let mut state = self.state.lock();
        state.peer = Some(Arc::downgrade(&target));
        state.peer_name = name;
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>, Errno> {
        if self.is_datagram() {
            return Err(Errno::EOPNOTSUPP);
        }
        let accepted = {
            let mut state = self.state.lock();
            if state.no_receive {
                return Err(Errno::EINVAL);
            }
            let listening = state.listening.as_mut().ok_or(Errno::EINVAL)?;
            listening.waiting.pop_front().ok_or(Errno::EAGAIN)?
        };
        // There is room for one more to connect.
        self.queue.notify(WRITABLE);
        Ok(accepted)
    }

    fn local_address(&self) -> Vec<u8> {
        self.name().map_or_else(names::unnamed, |name| name.address())
    }

    fn peer_address(&self) -> Result<Vec<u8>, Errno> {
        let state = self.state.lock();
        if state.peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
        let name = state.peer_name.clone();
        drop(state);
        // A peer that was bound only after connecting has its name now.
        let name = name.or_else(|| self.peer().and_then(|peer| peer.name()));
        Ok(name.map_or_else(names::unnamed, |name| name.address()))
    }

    fn send(&self, ctx: Option<&TaskContext>, mut message: Outgoing<'_>) -> Result<usize, Errno> {
        if message.flags.contains(MessageFlags::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if message.control.credentials.is_none() {
            message.control.credentials = Some(ctx.map_or(self.owner, own_credentials));
        }
        if self.is_datagram() {
            return self.send_datagram(ctx, &mut message);
        }
        if message.address.is_some() {
            let connected = self.state.lock().peer.is_some();
            let wrong = if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP };
            // A seqpacket socket takes no notice of the address, as on Linux.
            if self.is_stream() {
                return Err(wrong);
            }
        }
        self.send_connected(&mut message)
    }

    fn receive(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        if flags.contains(MessageFlags::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let peek = flags.contains(MessageFlags::MSG_PEEK);
        let mut state = self.state.lock();
        if !self.is_datagram() && state.peer.is_none() {
            return Err(if state.listening.is_some() || self.is_stream() { Errno::EINVAL } else { Errno::ENOTCONN });
        }
        let taken =
            if self.is_stream() { state.inbox.take_bytes(buf, peek) } else { state.inbox.take_message(buf, peek) };
        let Some(mut received) = taken else {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            let over = state.peer_done || state.peer_gone;
            return if state.no_receive || (over && !self.is_datagram()) {
                Ok(Received::default())
            } else {
                Err(Errno::EAGAIN)
            };
        };
        if self.is_datagram() && !peek {
            state.datagrams = state.datagrams.saturating_sub(1);
        }
        let peer = state.peer.as_ref().and_then(Weak::upgrade);
        drop(state);
        if !self.options.look(|values| values.pass_credentials) {
            received.control.credentials = None;
        }
        if !peek {
            if let Some(peer) = peer {
                peer.queue.notify(WRITABLE);
                peer.queue.signals().tell_room();
            }
            if self.is_datagram() {
                // Whoever waits to send here waits at this socket's queue.
                self.queue.notify(WRITABLE);
            }
        }
        Ok(received)
    }

    fn keeps_borders(&self) -> bool {
        !self.is_stream()
    }

    fn shutdown(&self, directions: Directions) -> Result<(), Errno> {
        let peer = {
            let mut state = self.state.lock();
            if state.peer.is_none() && state.listening.is_none() && !self.is_datagram() {
                return Err(Errno::ENOTCONN);
            }
            state.no_receive |= directions.receive;
            state.no_send |= directions.send;
            state.peer.as_ref().and_then(Weak::upgrade)
        };
        if let Some(peer) = peer.filter(|_| !self.is_datagram()) {
            {
                let mut state = peer.state.lock();
                state.peer_done |= directions.send;
                state.no_send |= directions.receive;
            }
            peer.queue.notify_all();
            if directions.receive && directions.send {
                peer.queue.signals().tell(Happening::HangUp);
            } else if directions.send {
                peer.queue.signals().tell(Happening::Input);
            }
        }
        self.queue.notify_all();
        Ok(())
    }

    fn poll(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        let (peer, limit) = {
            let state = self.state.lock();
            if let Some(listening) = &state.listening {
                return if listening.waiting.is_empty() { events } else { READABLE };
            }
            let over = state.no_receive || (!self.is_datagram() && (state.peer_done || state.peer_gone));
            if !state.inbox.is_empty() || over {
                events |= READABLE;
            }
            if over {
                events |= PollEvents::POLLRDHUP;
            }
            if state.error.is_some() {
                events |= PollEvents::POLLERR;
            }
            let both = state.no_receive && state.no_send;
            let unconnected = !self.is_datagram() && state.peer.is_none();
            if both || state.peer_gone || unconnected || (over && state.no_send) {
                events |= PollEvents::POLLHUP;
            }
            let limit = self.options.look(|values| values.send_buffer) as usize;
            (state.peer.as_ref().and_then(Weak::upgrade), limit)
        };
        let room = match peer {
            Some(peer) => {
                let state = peer.state.lock();
                match self.is_datagram() {
                    true => state.datagrams <= MOST_DATAGRAMS,
                    false => state.inbox.bytes() < limit / 4 * 3,
                }
            }
            None => true,
        };
        if room {
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

    fn peer_credentials(&self) -> Option<Ucred> {
        let state = self.state.lock();
        // A listener tells who made it listen.
        state.peer_credentials.or_else(|| state.listening.is_some().then_some(self.owner))
    }

    fn readable_bytes(&self) -> usize {
        let state = self.state.lock();
        if self.is_stream() { state.inbox.bytes() } else { state.inbox.first_bytes() }
    }

    fn unsent_bytes(&self) -> usize {
        if self.is_datagram() { 0 } else { self.peer().map_or(0, |peer| peer.state.lock().inbox.bytes()) }
    }

    fn close(&self) {
        let (name, peer, waiting, unread) = {
            let mut state = self.state.lock();
            state.closed = true;
            let unread = !state.inbox.is_empty();
            state.inbox.clear();
            let waiting = state.listening.take().map(|listening| listening.waiting).unwrap_or_default();
            (state.name.clone(), state.peer.as_ref().and_then(Weak::upgrade), waiting, unread)
        };
        // An accepted socket bears its listener's name without holding it.
        if let (Some(name), Some(kernel)) = (&name, self.kernel.upgrade())
            && self.holds_name(&kernel, name)
        {
            kernel.network.unix.release(name);
        }
        for end in waiting {
            end.close();
        }
        if let Some(peer) = peer.filter(|_| !self.is_datagram()) {
            {
                let mut state = peer.state.lock();
                state.peer_gone = true;
                if unread {
                    state.error = Some(Errno::ECONNRESET);
                }
            }
            peer.queue.notify_all();
            peer.queue.signals().tell(Happening::HangUp);
        }
        self.queue.notify_all();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl UnixSocket {
    fn holds_name(&self, kernel: &Kernel, name: &UnixName) -> bool {
        kernel.network.unix.bound().iter().any(|holder| std::ptr::eq(&**holder, self) && holder.has_name(name))
    }

    fn has_name(&self, name: &UnixName) -> bool {
        self.state.lock().name.as_ref().is_some_and(|own| own.address() == name.address())
    }
}
