//! What waits to be received: bytes of a stream or messages with borders, each with what goes along.

use std::collections::VecDeque;

use amber_abi::socket::MessageFlags;

use crate::net::control::Control;
use crate::net::socket::Received;

/// What a message costs besides its bytes, so that empty ones fill a buffer too.
const OVERHEAD: usize = 256;
/// Bytes of a stream are joined into pieces of at most this size.
const PIECE: usize = 64 << 10;

/// A message, or a piece of a stream.
pub struct Packet {
    data: Vec<u8>,
    /// How many bytes of a stream's piece were read already.
    start: usize,
    /// Who sent it.
    pub address: Option<Vec<u8>>,
    /// What goes along.
    pub control: Control,
}

impl Packet {
    /// A message.
    pub fn new(data: &[u8], address: Option<Vec<u8>>, control: Control) -> Self {
        Packet { data: data.to_vec(), start: 0, address, control }
    }

    fn rest(&self) -> &[u8] {
        &self.data[self.start..]
    }

    fn cost(&self) -> usize {
        self.rest().len() + OVERHEAD
    }
}

/// A queue of what was sent to a socket.
#[derive(Default)]
pub struct Inbox {
    packets: VecDeque<Packet>,
    bytes: usize,
    cost: usize,
}

impl Inbox {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
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

    /// How many bytes of a stream fit into a buffer of `limit` bytes.
    pub fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.bytes)
    }

    /// Adds a message.
    pub fn push(&mut self, packet: Packet) {
        self.bytes += packet.rest().len();
        self.cost += packet.cost();
        self.packets.push_back(packet);
    }

    /// Adds bytes of a stream. What comes with descriptors or from somebody else begins a piece of its own.
    pub fn push_bytes(&mut self, data: &[u8], control: Control) {
        let same_sender = |a: &Packet| {
            let id = |c: &Control| c.credentials.map(|u| (u.pid, u.uid, u.gid));
            id(&a.control) == id(&control)
        };
        match self.packets.back_mut() {
            Some(last) if control.has_no_files() && same_sender(last) && last.data.len() + data.len() <= PIECE => {
                last.data.extend_from_slice(data);
                self.bytes += data.len();
                self.cost += data.len();
            }
            _ => self.push(Packet::new(data, None, control)),
        }
    }

    /// Takes the first message, cut to the buffer; with `peek` it stays.
    pub fn take_message(&mut self, buf: &mut [u8], peek: bool) -> Option<Received> {
        let packet = self.packets.front()?;
        let full_len = packet.rest().len();
        let len = full_len.min(buf.len());
        buf[..len].copy_from_slice(&packet.rest()[..len]);
        let flags = if len < full_len { MessageFlags::MSG_TRUNC } else { MessageFlags::empty() };
        let (address, control) = if peek {
            (packet.address.clone(), packet.control.clone())
        } else {
            let packet = self.packets.pop_front()?;
            self.bytes -= full_len;
            self.cost -= full_len + OVERHEAD;
            (packet.address, packet.control)
        };
        Some(Received { len, full_len, address, control, flags })
    }

    /// Takes bytes of a stream: never past descriptors or into what somebody else sent.
    pub fn take_bytes(&mut self, buf: &mut [u8], peek: bool) -> Option<Received> {
        let mut received = Received::default();
        let mut at = 0;
        while received.len < buf.len() {
            let Some(packet) = self.packets.get_mut(at) else { break };
            let id = |c: &Control| c.credentials.map(|u| (u.pid, u.uid, u.gid));
            if received.len > 0 && (!packet.control.has_no_files() || id(&packet.control) != id(&received.control)) {
                break;
            }
            let first = received.len == 0;
            let len = packet.rest().len().min(buf.len() - received.len);
            buf[received.len..received.len + len].copy_from_slice(&packet.rest()[..len]);
            if first {
                received.control = packet.control.clone();
            }
            let has_files = !packet.control.has_no_files();
            received.len += len;
            if peek {
                at += 1;
            } else {
                // Descriptors are received with the first bytes of what they came with.
                packet.control.files.clear();
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

    /// Throws everything away.
    pub fn clear(&mut self) {
        *self = Inbox::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_join_and_split() {
        let mut inbox = Inbox::default();
        inbox.push_bytes(b"abc", Control::default());
        inbox.push_bytes(b"def", Control::default());
        let mut buf = [0; 4];
        assert_eq!(inbox.take_bytes(&mut buf, true).map(|r| r.len), Some(4));
        assert_eq!(inbox.take_bytes(&mut buf, false).map(|r| r.len), Some(4));
        assert_eq!(&buf, b"abcd");
        assert_eq!(inbox.bytes(), 2);
        assert_eq!(inbox.take_bytes(&mut buf, false).map(|r| r.len), Some(2));
        assert!(inbox.is_empty() && inbox.cost == 0);
    }

    #[test]
    fn messages_are_cut() {
        let mut inbox = Inbox::default();
        inbox.push(Packet::new(b"long one", None, Control::default()));
        inbox.push(Packet::new(b"", None, Control::default()));
        let mut buf = [0; 4];
        let received = inbox.take_message(&mut buf, false).unwrap();
        assert!(received.flags.contains(MessageFlags::MSG_TRUNC) && received.full_len == 8);
        assert_eq!(inbox.take_message(&mut buf, false).map(|r| r.len), Some(0));
        assert!(inbox.is_empty() && inbox.cost == 0);
    }
}
