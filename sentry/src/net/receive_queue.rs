//! The receive queue of a socket: bytes of a stream, or messages, with control data.

use std::collections::VecDeque;
use std::sync::Arc;

use amber_abi::socket::MessageFlags;

use crate::net::control::Control;
use crate::net::socket::Received;
use crate::slices::copy_fitting;

/// The overhead charged for a message, so that empty ones fill a buffer too, about as on Linux.
const OVERHEAD: usize = 767;
/// Approximate heap memory of each passed descriptor, in bytes.
const FILE: usize = 64;
/// The maximum size to which pieces of a stream are merged, in bytes.
const PIECE: usize = 64 << 10;

/// A sender whose buffer is charged for unreceived data.
pub(crate) trait Payer: Send + Sync {
    /// Credits this many bytes, which were received or lost. Called without locks.
    fn repay(&self, bytes: usize);
}

/// The charge of a message to its sender's buffer, which is credited when this is dropped, without locks.
pub(crate) struct Toll {
    payer: Arc<dyn Payer>,
    bytes: usize,
}

impl Toll {
    /// A charge of this many bytes, which the sender has already counted.
    pub(crate) fn new(payer: Arc<dyn Payer>, bytes: usize) -> Self {
        Toll { payer, bytes }
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        self.payer.repay(self.bytes);
    }
}

/// The mode of a receive.
#[derive(Clone, Copy, Default)]
pub(crate) struct RecvFlags {
    /// Whether the data stays in the queue (`MSG_PEEK`).
    pub peek: bool,
    /// The offset of a peek (`SO_PEEK_OFF`).
    pub skip: usize,
    /// Whether data of different senders is not merged (`SO_PASSCRED`).
    pub by_sender: bool,
    /// Whether the urgent byte is received in line (`SO_OOBINLINE`).
    pub inline: bool,
}

/// A message, or a piece of a stream.
pub(crate) struct Packet {
    data: Vec<u8>,
    /// The number of bytes of a stream's piece that were read.
    start: usize,
    /// The sender's address.
    pub address: Option<Vec<u8>>,
    /// The control data.
    pub control: Control,
    /// The charge to the sender's buffer.
    pub toll: Option<Toll>,
}

impl Packet {
    /// The cost of a message of this many bytes to a buffer.
    pub(crate) fn cost_of(bytes: usize) -> usize {
        bytes + OVERHEAD
    }

    /// A message.
    pub(crate) fn new(data: &[u8], address: Option<Vec<u8>>, control: Control) -> Self {
        Packet { data: data.to_vec(), start: 0, address, control, toll: None }
    }

    fn rest(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or_default()
    }

    fn cost(&self) -> usize {
        Packet::cost_of(self.rest().len())
    }
}

/// The data sent to a socket that it has not received.
#[derive(Default)]
pub(crate) struct ReceiveQueue {
    packets: VecDeque<Packet>,
    bytes: usize,
    cost: usize,
    /// The number of passed descriptors.
    files: usize,
}

impl ReceiveQueue {
    /// The number of bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Approximate heap memory in bytes.
    pub(crate) fn kept_bytes(&self) -> u64 {
        (self.bytes + self.packets.len() * size_of::<Packet>() + self.files * FILE) as u64
    }

    /// The number of messages.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// The size of the first message.
    pub(crate) fn first_bytes(&self) -> usize {
        self.packets.front().map_or(0, |packet| packet.rest().len())
    }

    /// Whether there are no messages, not even empty ones.
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether a message fits into a buffer of `limit` bytes. An empty buffer accepts any message.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        self.packets.is_empty() || self.cost < limit
    }

    /// The number of bytes of a stream that fit into a buffer of `limit` bytes. Pieces that cannot be merged cost more
    /// than their bytes.
    pub(crate) fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.cost)
    }

    /// Adds a message.
    pub(crate) fn push(&mut self, packet: Packet) {
        self.bytes += packet.rest().len();
        self.cost += packet.cost();
        self.files += packet.control.files.len();
        self.packets.push_back(packet);
    }

    /// Adds bytes of a stream. Data with descriptors or from another sender starts a new piece.
    pub(crate) fn push_bytes(&mut self, data: &[u8], control: Control) {
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

    /// Receives the first message, truncated to the buffer; a peek leaves it in the queue. A peek with an offset beyond
    /// a message starts in the next one.
    pub(crate) fn take_message(&mut self, buf: &mut [u8], how: RecvFlags) -> Option<Received> {
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
        let len = copy_fitting(rest, buf);
        let flags = if len < rest.len() { MessageFlags::MSG_TRUNC } else { MessageFlags::empty() };
        if how.peek {
            let (address, control) = (packet.address.clone(), packet.control.peek());
            return Some(Received { len, full_len, address, control, flags, _toll: None });
        }
        let Packet { address, control, toll, .. } = self.packets.pop_front()?;
        control.leave_queue();
        self.bytes -= full_len;
        self.cost -= Packet::cost_of(full_len);
        self.files -= control.files.len();
        Some(Received { len, full_len, address, control, flags, _toll: toll })
    }

    /// Receives bytes of a stream, up to the end of data with descriptors and, if senders matter, up to data of another
    /// sender.
    pub(crate) fn take_bytes(&mut self, buf: &mut [u8], how: RecvFlags) -> Option<Received> {
        let mut received = Received::default();
        let mut skip = if how.peek { how.skip } else { 0 };
        let mut at = 0;
        while let Some(left) = buf.get_mut(received.len..).filter(|left| !left.is_empty()) {
            let Some(packet) = self.packets.get_mut(at) else { break };
            if skip > 0 && skip >= packet.rest().len() {
                skip -= packet.rest().len();
                at += 1;
                continue;
            }
            if received.len > 0 && how.by_sender && !packet.control.is_of_sender(&received.control) {
                break;
            }
            let len = copy_fitting(packet.rest().get(skip..).unwrap_or_default(), left);
            // Data after descriptors is received separately.
            let has_files = !packet.control.has_no_files();
            if received.len == 0 || has_files {
                received.control = packet.control.peek();
            }
            received.len += len;
            skip = 0;
            if how.peek {
                at += 1;
            } else {
                // Descriptors are received with the first bytes of their data.
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
