//! Construction of netlink messages.

use amber_abi::netlink::{Nlmsghdr, Rtattr, align};
use zerocopy::{Immutable, IntoBytes};

/// A message under construction.
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Begins a message.
    pub(super) fn new(kind: u16, flags: u16, sequence: u32, port: u32) -> Self {
        let header =
            Nlmsghdr { nlmsg_len: 0, nlmsg_type: kind, nlmsg_flags: flags, nlmsg_seq: sequence, nlmsg_pid: port };
        Message { bytes: header.as_bytes().to_vec() }
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// Adds a structure.
    pub(super) fn body<T: IntoBytes + Immutable + ?Sized>(mut self, value: &T) -> Self {
        self.bytes.extend_from_slice(value.as_bytes());
        self
    }

    /// Adds an attribute.
    pub(super) fn attribute<T: IntoBytes + Immutable + ?Sized>(mut self, kind: u16, value: &T) -> Self {
        self.pad();
        let data = value.as_bytes();
        let len = (size_of::<Rtattr>() + data.len()) as u16;
        self.bytes.extend_from_slice(Rtattr { rta_len: len, rta_type: kind }.as_bytes());
        self.bytes.extend_from_slice(data);
        self
    }

    /// Adds an attribute with a zero-terminated name.
    pub(super) fn name(self, kind: u16, name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes[..])
    }

    /// The message, padded.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        if let Some(field) = self.bytes.first_chunk_mut() {
            *field = len.to_ne_bytes();
        }
        self.pad();
        self.bytes
    }
}

/// The attributes of a message: type and data, up to the first malformed one.
pub(super) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some(head) = bytes.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(data) = bytes.get(4..len) else { break };
        found.push((u16::from_ne_bytes([head[2], head[3]]), data));
        bytes = bytes.get(align(len)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_have_attributes(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = attributes(&bytes);
        }
    }

    #[test]
    fn attributes_survive() {
        let bytes = Message::new(16, 0, 1, 2).name(3, "lo").attribute(4, &7u32).finish();
        assert_eq!(bytes.len(), 16 + 8 + 8);
        assert_eq!(attributes(&bytes[16..]), vec![(3, &b"lo\0"[..]), (4, &7u32.to_ne_bytes()[..])]);
    }
}
