//! The receive queue of a stream, with an urgent byte (`MSG_OOB`).

use amber_abi::errno::Errno;
use amber_abi::socket::MessageFlags;

use crate::net::control::Control;
use crate::net::receive_queue::{ReceiveQueue, RecvFlags};
use crate::net::socket::Received;
use crate::slices::at_most_mut;

/// An urgent byte.
struct Urgent {
    /// The offset from the start of the stream.
    at: u64,
    byte: u8,
    /// Whether it was received with MSG_OOB.
    taken: bool,
}

/// The unread bytes of a stream.
#[derive(Default)]
pub(crate) struct ByteStream {
    receive_queue: ReceiveQueue,
    /// The number of bytes removed from the receive queue so far.
    taken: u64,
    urgent: Option<Urgent>,
    /// Skipped urgent bytes, to be dropped without locks, since they may have descriptors.
    passed: Vec<Received>,
}

impl ByteStream {
    /// Adds bytes, the last of which may be urgent.
    pub(crate) fn put(&mut self, data: &[u8], control: Control, urgent: bool) {
        self.receive_queue.push_bytes(data, control);
        if let (Some(&byte), true) = (data.last(), urgent) {
            let at = (self.taken + self.receive_queue.bytes() as u64).saturating_sub(1);
            self.urgent = Some(Urgent { at, byte, taken: false });
        }
    }

    /// The receive queue.
    pub(crate) fn receive_queue(&self) -> &ReceiveQueue {
        &self.receive_queue
    }

    /// The number of bytes, including the urgent one.
    pub(crate) fn bytes(&self) -> usize {
        self.receive_queue.bytes()
    }

    /// Whether an urgent byte can be received with MSG_OOB.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.as_ref().is_some_and(|urgent| !urgent.taken)
    }

    /// Whether the urgent byte was received with MSG_OOB, and the stream is not past it yet.
    pub(crate) fn has_gap(&self) -> bool {
        self.urgent.as_ref().is_some_and(|urgent| urgent.taken)
    }

    /// The number of bytes before the urgent byte, if there is one.
    pub(crate) fn mark(&self) -> Option<usize> {
        self.urgent.as_ref().map(|urgent| urgent.at.saturating_sub(self.taken) as usize)
    }

    /// Whether the next byte is the urgent one (`SIOCATMARK`).
    pub(crate) fn is_at_mark(&self) -> bool {
        self.mark() == Some(0)
    }

    fn take_bytes(&mut self, buf: &mut [u8], how: RecvFlags) -> Option<Received> {
        let received = self.receive_queue.take_bytes(buf, how);
        if !how.peek {
            self.taken += received.as_ref().map_or(0, |received| received.len) as u64;
            if self.urgent.as_ref().is_some_and(|urgent| urgent.at < self.taken) {
                self.urgent = None;
            }
        }
        received
    }

    /// Receives bytes up to the urgent one or, at the mark, from it on, skipping it unless it is in line.
    pub(crate) fn take(&mut self, buf: &mut [u8], how: RecvFlags) -> Option<Received> {
        match self.mark() {
            Some(0) if !how.inline && how.peek => self.take_bytes(buf, RecvFlags { skip: how.skip + 1, ..how }),
            Some(0) => {
                if !how.inline {
                    let passed = self.take_bytes(&mut [0], how);
                    self.passed.extend(passed);
                }
                self.take_bytes(buf, how)
            }
            Some(mark) if how.peek => match mark.checked_sub(how.skip) {
                Some(0) | None => self.take_bytes(buf, how),
                Some(len) => self.take_bytes(at_most_mut(buf, len), how),
            },
            Some(mark) => self.take_bytes(at_most_mut(buf, mark), how),
            None => self.take_bytes(buf, how),
        }
    }

    /// Skips an urgent byte at the mark.
    pub(crate) fn pass_mark(&mut self) {
        if self.is_at_mark() {
            let passed = self.take_bytes(&mut [0], RecvFlags::default());
            self.passed.extend(passed);
        }
    }

    /// Receives the urgent byte (`MSG_OOB`).
    ///
    /// # Errors
    /// `EINVAL` if there is none, it was already received, or it is in line.
    pub(crate) fn take_urgent(&mut self, buf: &mut [u8], how: RecvFlags) -> Result<Received, Errno> {
        let urgent =
            self.urgent.as_mut().filter(|urgent| !urgent.taken && !how.inline).ok_or_else(|| Errno::EINVAL.here())?;
        let mut flags = MessageFlags::MSG_OOB;
        let len = match buf.first_mut() {
            Some(first) => {
                *first = urgent.byte;
                1
            }
            None => {
                flags |= MessageFlags::MSG_TRUNC;
                0
            }
        };
        if !how.peek {
            urgent.taken = true;
        }
        Ok(Received { len, full_len: len, flags, ..Received::default() })
    }

    /// The bytes skipped since the last call, to be dropped without locks.
    pub(crate) fn passed(&mut self) -> Vec<Received> {
        std::mem::take(&mut self.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKE: RecvFlags = RecvFlags { peek: false, skip: 0, by_sender: false, inline: false };
    const PEEK: RecvFlags = RecvFlags { peek: true, ..TAKE };

    fn stream() -> ByteStream {
        let mut stream = ByteStream::default();
        stream.put(b"ab", Control::default(), false);
        stream.put(b"cX", Control::default(), true);
        stream.put(b"de", Control::default(), false);
        stream
    }

    fn text(stream: &mut ByteStream, how: RecvFlags) -> String {
        let mut buf = [0; 9];
        let len = stream.take(&mut buf, how).map_or(0, |received| received.len);
        String::from_utf8_lossy(&buf[..len]).into_owned()
    }

    #[test]
    fn the_urgent_byte_stands_apart() {
        let mut stream = stream();
        assert_eq!((stream.mark(), stream.is_urgent()), (Some(3), true));
        assert_eq!(text(&mut stream, PEEK), "abc");
        assert_eq!(text(&mut stream, TAKE), "abc");
        assert!(stream.is_at_mark());
        assert_eq!(text(&mut stream, PEEK), "de");
        let mut byte = [0];
        assert_eq!(stream.take_urgent(&mut byte, TAKE).map(|received| received.len), Ok(1));
        assert_eq!((byte, stream.is_urgent(), stream.has_gap()), ([b'X'], false, true));
        assert_eq!(stream.take_urgent(&mut byte, TAKE).err(), Some(Errno::EINVAL));
        assert_eq!(text(&mut stream, TAKE), "de");
        assert!(stream.receive_queue().is_empty());
    }

    #[test]
    fn the_urgent_byte_may_belong_to_the_stream() {
        let mut stream = stream();
        let inline = RecvFlags { inline: true, ..TAKE };
        assert_eq!(text(&mut stream, inline), "abc");
        assert_eq!(text(&mut stream, inline), "Xde");
    }
}
