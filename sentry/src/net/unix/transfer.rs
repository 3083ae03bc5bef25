//! Sending and receiving over AF_UNIX.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::socket::MessageFlags;

use super::{State, UnixSocket, WRITABLE, garbage};
use crate::net::control::{Control, credentials_of};
use crate::net::receive_queue::{Packet, Payer, RecvFlags, Toll};
use crate::net::socket::{Outgoing, Received, Socket};
use crate::slices::at_most;
use crate::task::TaskContext;
use crate::wait::{READABLE, SigioEvent};

/// The part of a send buffer that Linux reserves, in bytes.
const OVERHEAD: usize = 32;

/// The number of waiting senders below which the list is not compacted.
const FEW_SENDERS: usize = 64;

impl UnixSocket {
    fn send_buffer(&self) -> usize {
        self.options().look(|values| values.send_buffer) as usize
    }

    /// Whether poll(2) reports the send buffer as writable. Data of a stream counts at the peer.
    pub(super) fn has_room(&self) -> bool {
        self.outstanding.load(Ordering::Relaxed).saturating_mul(4) <= self.send_buffer()
    }

    /// Whether the peer accepts more data; if not, registers for its notification.
    pub(super) fn can_send_to(&self, peer: &UnixSocket) -> bool {
        let limit = self.send_buffer();
        let mut state = peer.state.lock();
        if self.is_stream() {
            return state.stream.bytes().saturating_mul(4) <= limit;
        }
        if !self.is_datagram() || !peer.is_full_for(self, &state) {
            return true;
        }
        state.note_sender(self);
        false
    }

    /// Whether the queue has too many datagrams for another one of a sender that is not this socket's peer.
    fn is_full_for(&self, sender: &UnixSocket, state: &State) -> bool {
        let most =
            self.kernel.upgrade().map_or(0, |kernel| kernel.network.limits.numbers.max_dgram_qlen.count() as usize);
        state.messages.len() > most && !std::ptr::eq(self, sender) && !state.is_peer(sender)
    }

    pub(super) fn send_message(&self, ctx: Option<&TaskContext>, mut message: Outgoing<'_>) -> Result<usize, Errno> {
        if message.flags.contains(MessageFlags::MSG_OOB) && (!self.is_stream() || message.data.is_empty()) {
            return Err(Errno::EOPNOTSUPP.here());
        }
        self.identify(&mut message.control);
        if let Some(kernel) = self.kernel.upgrade().filter(|_| !message.control.has_no_files()) {
            garbage::collect_if_many(&kernel.network.unix);
        }
        if self.is_datagram() {
            return self.send_datagram(ctx, &mut message);
        }
        // A seqpacket socket ignores the address, as on Linux.
        if message.address.is_some() && self.is_stream() {
            return Err(if self.is_connected() { Errno::EISCONN.here() } else { Errno::EOPNOTSUPP.here() });
        }
        self.send_connected(&mut message)
    }

    /// Adds the sender's credentials, unless the message has some.
    fn identify(&self, control: &mut Control) {
        if control.credentials.is_none() {
            let (credentials, process) = match crate::task::current() {
                Some(task) => (credentials_of(&task), Arc::downgrade(task.group())),
                None => (self.owner.credentials, self.owner.process.clone()),
            };
            control.credentials = Some(credentials);
            control.process = Some(process);
        }
    }

    fn send_connected(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        let peer = {
            let mut state = self.state.lock();
            if state.peer.is_none() {
                return Err(Errno::ENOTCONN.here());
            }
            if state.no_send {
                return Err(Errno::EPIPE.here());
            }
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            state.peer.as_ref().and_then(Weak::upgrade).ok_or_else(|| Errno::EPIPE.here())?
        };
        let urgent = message.flags.contains(MessageFlags::MSG_OOB);
        let len = if self.is_stream() { self.put_bytes(&peer, message, urgent)? } else { self.put(&peer, message)? };
        if urgent && len == message.data.len() {
            peer.queue.signals().notify_urgent();
            peer.queue.notify(PollEvents::POLLPRI);
        }
        peer.queue.notify_and_signal(READABLE, SigioEvent::Input);
        Ok(len)
    }

    fn put_bytes(&self, peer: &UnixSocket, message: &mut Outgoing<'_>, urgent: bool) -> Result<usize, Errno> {
        let mut state = peer.state.lock();
        if state.closed || state.no_receive {
            return Err(Errno::EPIPE.here());
        }
        let room = state.stream.receive_queue().room(self.send_buffer());
        if room == 0 && !message.data.is_empty() {
            return Err(Errno::EAGAIN.here());
        }
        let len = message.data.len().min(room);
        let urgent = urgent && len == message.data.len();
        let (plain, last) = at_most(message.data, len).split_at(len - usize::from(urgent));
        if len > 0 {
            message.control.enter_queue(peer.id, state.listener);
        }
        if !plain.is_empty() {
            state.stream.put(plain, std::mem::take(&mut message.control), false);
        }
        if !last.is_empty() {
            // The urgent byte has the same sender; the control data was passed with the other bytes.
            let control = std::mem::take(&mut message.control);
            state.stream.put(last, control, true);
        }
        Ok(len)
    }

    /// Puts a message into the peer's queue. It uses this end's send buffer until it is received.
    fn put(&self, peer: &Arc<UnixSocket>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        let limit = self.send_buffer();
        if message.data.len() > limit.saturating_sub(OVERHEAD) {
            return Err(Errno::EMSGSIZE.here());
        }
        if self.outstanding.load(Ordering::Relaxed) >= limit {
            return Err(Errno::EAGAIN.here());
        }
        let me = self.me.upgrade().ok_or_else(|| Errno::EPIPE.here())?;
        let address = self.name().map(|name| name.address());
        let mut state = peer.state.lock();
        let gone = if self.is_datagram() { Errno::ECONNREFUSED.here() } else { Errno::EPIPE.here() };
        if state.closed {
            return Err(gone);
        }
        // A connected socket does not accept messages of other senders.
        if self.is_datagram() && state.peer.is_some() && !state.is_peer(self) {
            return Err(Errno::EPERM.here());
        }
        if state.no_receive {
            return Err(Errno::EPIPE.here());
        }
        if self.is_datagram() && peer.is_full_for(self, &state) {
            state.note_sender(self);
            return Err(Errno::EAGAIN.here());
        }
        message.control.enter_queue(peer.id, state.listener);
        let bytes = Packet::cost_of(message.data.len());
        self.outstanding.fetch_add(bytes, Ordering::Relaxed);
        let mut packet = Packet::new(message.data, address, std::mem::take(&mut message.control));
        packet.toll = Some(Toll::new(me as Arc<dyn Payer>, bytes));
        state.messages.push(packet);
        Ok(message.data.len())
    }

    fn send_datagram(&self, ctx: Option<&TaskContext>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        self.name_itself()?;
        {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.no_send {
                return Err(Errno::EPIPE.here());
            }
        }
        let target = match (message.address, ctx) {
            (Some(address), Some(ctx)) => ctx.kernel().network.unix.find(ctx, self.kind, address)?,
            _ => {
                if !self.is_connected() {
                    return Err(Errno::ENOTCONN.here());
                }
                match self.peer().filter(|peer| !peer.is_closed()) {
                    Some(peer) => peer,
                    None => {
                        self.change_partner(None);
                        return Err(Errno::ECONNREFUSED.here());
                    }
                }
            }
        };
        let len = self.put(&target, message)?;
        target.queue.notify_and_signal(READABLE, SigioEvent::Input);
        Ok(len)
    }

    pub(super) fn receive_message(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        let urgent = flags.contains(MessageFlags::MSG_OOB);
        if urgent && !self.is_stream() {
            return Err(Errno::EOPNOTSUPP.here());
        }
        let peek = flags.contains(MessageFlags::MSG_PEEK);
        let values = self.options().values();
        let how = RecvFlags {
            peek,
            skip: values.peek_offset.unwrap_or(0),
            by_sender: values.pass_credentials || values.pass_pidfd,
            inline: values.oob_inline,
        };
        let mut state = self.state.lock();
        if !self.is_datagram() && state.peer.is_none() {
            return Err(if self.is_stream() { Errno::EINVAL.here() } else { Errno::ENOTCONN.here() });
        }
        if urgent {
            return state.stream.take_urgent(buf, how);
        }
        if !self.is_stream()
            && let Some(error) = state.error.take()
        {
            return Err(error);
        }
        let taken = if self.is_stream() { state.stream.take(buf, how) } else { state.messages.take_message(buf, how) };
        let passed = state.stream.passed();
        let Some(mut received) = taken else {
            let error = state.error.take();
            let over = state.no_receive;
            drop(state);
            drop(passed);
            return match error {
                Some(error) => Err(error),
                None if over => Ok(Received::default()),
                None => Err(Errno::EAGAIN.here()),
            };
        };
        let peer = state.peer.as_ref().and_then(Weak::upgrade);
        if self.is_stream() {
            received.address = state.peer_name.as_ref().map(|name| name.address());
        }
        let left = state.stream.bytes();
        let senders = if peek { BTreeMap::new() } else { std::mem::take(&mut state.waiting_senders) };
        drop(state);
        drop(passed);
        self.options().move_peek_offset(peek, if peek || self.is_stream() { received.len } else { received.full_len });
        if !values.pass_credentials {
            received.control.credentials = None;
        }
        if !values.pass_pidfd {
            received.control.process = None;
        }
        if self.is_datagram() {
            received.control.stamp(&values, crate::clock::realtime());
        }
        if !peek {
            if self.is_stream()
                && let Some(peer) = peer
                && left.saturating_mul(4) <= peer.send_buffer()
            {
                peer.queue.notify(WRITABLE);
                peer.queue.signals().notify_room();
            }
            for sender in senders.values().filter_map(Weak::upgrade) {
                sender.queue.notify(WRITABLE);
                sender.queue.signals().notify_room();
            }
        }
        Ok(received)
    }
}

impl State {
    /// Registers a sender to be notified when a datagram is received. Senders that no longer exist are removed when the
    /// list has doubled.
    fn note_sender(&mut self, sender: &UnixSocket) {
        if self.waiting_senders.len() >= self.enough_senders {
            self.waiting_senders.retain(|_, known| known.strong_count() > 0);
            self.enough_senders = (self.waiting_senders.len() * 2).max(FEW_SENDERS);
        }
        self.waiting_senders.insert(sender.id, sender.me.clone());
    }
}
