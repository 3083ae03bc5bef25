//! What waits to be received: bytes of a stream or messages with borders, each with what goes along.

use std::collections::VecDeque;
use std::sync::Arc;

use amber_abi::socket::MessageFlags;

use crate::net::control::Control;
use crate::net::socket::Received;

/// What a message costs besides its bytes, so that empty ones fill a buffer too: about as much as on Linux.
const OVERHEAD: usize = 767;
/// About how many bytes of the heap each descriptor takes that goes along.
const FILE: usize = 64;
/// Bytes of a stream are joined into pieces of at most this size.
const PIECE: usize = 64 << 10;

/// Whoever has a buffer of its own for what it sent and nobody received yet.
pub trait Payer: Send + Sync {
    /// So many bytes were received, or are lost. Called with no lock held.
    fn repay(&self, bytes: usize);
}

/// The room a message takes up in its sender's buffer, given back when this is dropped; that must not be under a lock.
pub struct Toll {
    payer: Arc<dyn Payer>,
    bytes: usize,
}

impl Toll {
    /// So many bytes of a sender's buffer, which the sender has counted.
    pub fn new(payer: Arc<dyn Payer>, bytes: usize) -> Self {
        Toll { payer, bytes }
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        self.payer.repay(self.bytes);
    }
}

/// How a receive is done.
#[derive(Clone, Copy, Default)]
pub struct RecvFlags {
    /// What is received stays (`MSG_PEEK`).
    pub peek: bool,
    /// Where a peek begins (`SO_PEEK_OFF`).
    pub skip: usize,
    /// Bytes from different senders are not received together (`SO_PASSCRED`).
    pub by_sender: bool,
    /// The urgent byte is received with the others (`SO_OOBINLINE`).
    pub inline: bool,
}

/// A message, or a piece of a stream.
pub struct Packet {
    data: Vec<u8>,
    /// How many bytes of a stream's piece were read already.
    start: usize,
    /// Who sent it.
    pub address: Option<Vec<u8>>,
    /// What goes along.
    pub control: Control,
    /// What its sender gets back once it is received.
    pub toll: Option<Toll>,
}

impl Packet {
    /// What a message of so many bytes takes up of a buffer.
    pub fn cost_of(bytes: usize) -> usize {
        bytes + OVERHEAD
    }

    /// A message.
    pub fn new(data: &[u8], address: Option<Vec<u8>>, control: Control) -> Self {
        Packet { data: data.to_vec(), start: 0, address, control, toll: None }
    }

    fn rest(&self) -> &[u8] {
        &self.data[self.start..]
    }

    fn cost(&self) -> usize {
        Packet::cost_of(self.rest().len())
    }
}

/// A queue of what was sent to a socket.
#[derive(Default)]
pub struct ReceiveQueue {
    packets: VecDeque<Packet>,
    bytes: usize,
    cost: usize,
    /// Descriptors that go along.
    files: usize,
}

impl ReceiveQueue {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it takes up of a buffer.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// About how many bytes of the heap it takes.
    pub fn kept_bytes(&self) -> u64 {
        (self.bytes + self.packets.len() * size_of::<Packet>() + self.files * FILE) as u64
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Bytes of the first message.
    pub fn first_bytes(&self) -> usize {
        self.packets.front().map_or(0, |packet| packet.rest().len())
    }

    /// Whether nothing waits; an empty message is something.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether a message fits into a buffer of `limit` bytes; an empty buffer takes any.
    pub fn has_room(&self, limit: usize) -> bool {
        self.packets.is_empty() || self.cost < limit
    }

    /// How many bytes of a stream fit into a buffer of `limit` bytes: pieces that cannot be joined take more than their
    /// bytes.
    pub fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.cost)
    }

    /// Adds a message.
    pub fn push(&mut self, packet: Packet) {
        self.bytes += packet.rest().len();
        self.cost += packet.cost();
        self.files += packet.control.files.len();
        self.packets.push_back(packet);
    }

    /// Adds bytes of a stream. What comes with descriptors or from somebody else begins a piece of its own.
    pub fn push_bytes(&mut self, data: &[u8], control: Control) {
        match self.packets.back_mut() {
            Some(last)
                if control.has_no_files()
                    && last.control.has_no_files()
                    && control.is_of_sender(&last.control)
                    && last.data.len() + data.len() <= PIECE =>
            {
                last.data.extend_from_slice(data);
                self.bytes += data.len();
                self.cost += data.len();
            }
            _ => self.push(Packet::new(data, None, control)),
        }
    }

    /// Takes the first message, cut to the buffer; with a peek it stays. A peek that skips more than a message looks into
    /// the next.
    pub fn take_message(&mut self, buf: &mut [u8], how: RecvFlags) -> Option<Received> {
        let mut skip = if how.peek { how.skip } else { 0 };
        let mut at = 0;
        while let Some(packet) = self.packets.get(at)
            && skip > 0
            && skip >= packet.rest().len()
        {
            skip -= packet.rest().len();
            at += 1;
        }
        let packet = self.packets.get(at)?;
        let full_len = packet.rest().len();
        let rest = packet.rest().get(skip..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        let flags = if len < rest.len() { MessageFlags::MSG_TRUNC } else { MessageFlags::empty() };
        if how.peek {
            let (address, control) = (packet.address.clone(), packet.control.peek());
            return Some(Received { len, full_len, address, control, flags, toll: None });
        }
        let Packet { address, control, toll, .. } = self.packets.pop_front()?;
        control.leave_queue();
        self.bytes -= full_len;
        self.cost -= Packet::cost_of(full_len);
        self.files -= control.files.len();
        Some(Received { len, full_len, address, control, flags, toll })
    }

    /// Takes bytes of a stream: not past those that descriptors went with, nor into what somebody else sent if senders matter.
    pub fn take_bytes(&mut self, buf: &mut [u8], how: RecvFlags) -> Option<Received> {
        let mut received = Received::default();
        let mut skip = if how.peek { how.skip } else { 0 };
        let mut at = 0;
        while received.len < buf.len() {
            let Some(packet) = self.packets.get_mut(at) else { break };
            if skip > 0 && skip >= packet.rest().len() {
                skip -= packet.rest().len();
                at += 1;
                continue;
            }
            if received.len > 0 && how.by_sender && !packet.control.is_of_sender(&received.control) {
                break;
            }
            let rest = &packet.rest()[skip..];
            let len = rest.len().min(buf.len() - received.len);
            buf[received.len..received.len + len].copy_from_slice(&rest[..len]);
            // What follows descriptors is received by itself.
            let has_files = !packet.control.has_no_files();
            if received.len == 0 || has_files {
                received.control = packet.control.peek();
            }
            received.len += len;
            skip = 0;
            if how.peek {
                at += 1;
            } else {
                // Descriptors are received with the first bytes of what they came with.
                packet.control.leave_queue();
                self.files -= packet.control.files.len();
                packet.control.forget_files();
                packet.start += len;
                self.bytes -= len;
                self.cost -= len;
                if packet.rest().is_empty() {
                    self.packets.pop_front();
                    self.cost -= OVERHEAD;
                } else {
                    break;
                }
            }
            if has_files {
                break;
            }
        }
        received.full_len = received.len;
        (received.len > 0 || (buf.is_empty() && !self.is_empty())).then_some(received)
    }

    /// The messages, first to come first.
    pub fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKE: RecvFlags = RecvFlags { peek: false, skip: 0, by_sender: false, inline: false };
    const PEEK: RecvFlags = RecvFlags { peek: true, ..TAKE };

    #[test]
    fn peeks_skip() {
        let mut receive_queue = ReceiveQueue::default();
        receive_queue.push_bytes(b"abc", Control::default());
        receive_queue.push(Packet::new(b"def", None, Control::default()));
        let mut buf = [0; 4];
        assert_eq!(receive_queue.take_bytes(&mut buf, RecvFlags { skip: 2, ..PEEK }).map(|r| r.len), Some(4));
        assert_eq!(&buf, b"cdef");
        assert!(receive_queue.take_bytes(&mut buf, RecvFlags { skip: 6, ..PEEK }).is_none());
        assert_eq!(receive_queue.take_message(&mut buf, RecvFlags { skip: 4, ..PEEK }).map(|r| r.len), Some(2));
        assert_eq!(&buf[..2], b"ef");
    }

    #[test]
    fn streams_join_and_split() {
        let mut receive_queue = ReceiveQueue::default();
        receive_queue.push_bytes(b"abc", Control::default());
        receive_queue.push_bytes(b"def", Control::default());
        let mut buf = [0; 4];
        assert_eq!(receive_queue.take_bytes(&mut buf, PEEK).map(|r| r.len), Some(4));
        assert_eq!(receive_queue.take_bytes(&mut buf, TAKE).map(|r| r.len), Some(4));
        assert_eq!(&buf, b"abcd");
        assert_eq!(receive_queue.bytes(), 2);
        assert_eq!(receive_queue.take_bytes(&mut buf, TAKE).map(|r| r.len), Some(2));
        assert!(receive_queue.is_empty() && receive_queue.cost == 0);
    }

    #[test]
    fn messages_are_cut() {
        let mut receive_queue = ReceiveQueue::default();
        receive_queue.push(Packet::new(b"long one", None, Control::default()));
        receive_queue.push(Packet::new(b"", None, Control::default()));
        let mut buf = [0; 4];
        let received = receive_queue.take_message(&mut buf, TAKE).unwrap();
        assert!(received.flags.contains(MessageFlags::MSG_TRUNC) && received.full_len == 8);
        assert_eq!(receive_queue.take_message(&mut buf, TAKE).map(|r| r.len), Some(0));
        assert!(receive_queue.is_empty() && receive_queue.cost == 0);
    }
}
