//! The buffer of a pipe: a queue of pages, in which pipe(7) counts the capacity.

use std::collections::VecDeque;

use crate::slices::{at_most, copy_fitting};
use amber_abi::errno::Errno;

/// Bytes in a page of the buffer.
pub(crate) const PAGE: usize = 4096;

/// A page of the buffer.
pub(crate) struct Slot {
    data: Box<[u8; PAGE]>,
    start: usize,
    end: usize,
    /// Whether it is a packet (`O_DIRECT`): one read takes it, and discards what does not fit.
    packet: bool,
    /// Whether later writes may fill the rest of the page.
    open: bool,
}

impl Slot {
    /// A slot with at most a page of bytes, to which writes do not append.
    pub(crate) fn new(bytes: &[u8]) -> Slot {
        let mut data = Box::new([0; PAGE]);
        let end = copy_fitting(bytes, &mut *data);
        Slot { data, start: 0, end, packet: false, open: false }
    }

    /// The unread bytes.
    #[expect(clippy::indexing_slicing, reason = "`end` counts bytes that fit, and `start` does not exceed it")]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// Drops the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// A copy of the first `most` bytes, for tee(2) and for moving a part of a slot.
    pub(crate) fn copy(&self, most: usize) -> Slot {
        let mut copy = Slot::new(at_most(self.bytes(), most));
        copy.packet = self.packet;
        copy
    }
}

/// The pages of a pipe, up to a limit.
pub(crate) struct Ring {
    slots: VecDeque<Slot>,
    limit: usize,
    spare: Vec<Box<[u8; PAGE]>>,
}

impl Ring {
    /// An empty buffer of at most `limit` pages.
    pub(crate) fn new(limit: usize) -> Ring {
        Ring { slots: VecDeque::new(), limit, spare: Vec::new() }
    }

    /// Whether there is no data.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether all pages are in use.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= self.limit
    }

    /// The maximum number of pages.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Sets the maximum number of pages.
    ///
    /// # Errors
    /// `EBUSY` if more are in use.
    pub(crate) fn set_limit(&mut self, limit: usize) -> Result<(), Errno> {
        if self.slots.len() > limit {
            return Err(Errno::EBUSY.here());
        }
        self.limit = limit;
        Ok(())
    }

    /// The number of unread bytes.
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().map(|s| s.end - s.start).sum()
    }

    /// The number of free slots.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.slots.len())
    }

    /// Appends bytes and returns how many fit. A write of at most [`PAGE`] (PIPE_BUF) bytes fits as a whole or not at all.
    pub(crate) fn write(&mut self, buf: &[u8], packets: bool) -> usize {
        let mut rest = buf;
        let fragment = buf.len() % PAGE;
        if fragment != 0
            && let Some(last) = self.slots.back_mut()
            && last.open
            && let Some(place) = last.data.get_mut(last.end..last.end + fragment)
        {
            let (head, tail) = buf.split_at(fragment);
            place.copy_from_slice(head);
            last.end += fragment;
            rest = tail;
        }
        while !rest.is_empty() && !self.is_full() {
            let (head, tail) = rest.split_at(rest.len().min(PAGE));
            let mut data = self.spare.pop().unwrap_or_else(|| Box::new([0; PAGE]));
            let end = copy_fitting(head, &mut *data);
            self.slots.push_back(Slot { data, start: 0, end, packet: packets, open: !packets });
            rest = tail;
        }
        buf.len() - rest.len()
    }

    /// Reads bytes and returns their number. A packet ends the read.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(left) = buf.get_mut(done..).filter(|left| !left.is_empty()) {
            let Some(slot) = self.slots.front_mut() else { break };
            let count = copy_fitting(slot.bytes(), left);
            done += count;
            slot.consume(count);
            let packet = slot.packet;
            if packet || slot.bytes().is_empty() {
                self.drop_front();
            }
            if packet {
                break;
            }
        }
        done
    }

    fn drop_front(&mut self) {
        if let Some(slot) = self.slots.pop_front()
            && self.spare.len() < 2
        {
            self.spare.push(slot.data);
        }
    }

    /// Appends a slot; the caller has checked that there is room.
    pub(crate) fn push(&mut self, slot: Slot) {
        self.slots.push_back(slot);
    }

    /// Puts back the rest of a slot that [`split_front`](Self::split_front) removed, if bytes are left.
    pub(crate) fn unpop(&mut self, slot: Slot) {
        if !slot.bytes().is_empty() {
            self.slots.push_front(slot);
        }
    }

    /// Removes at most `most` bytes from the front, as a separate slot.
    pub(crate) fn split_front(&mut self, most: usize) -> Option<Slot> {
        let first = self.slots.front_mut()?;
        if first.bytes().len() <= most {
            return self.slots.pop_front();
        }
        let part = first.copy(most);
        first.consume(most);
        Some(part)
    }

    /// The slots in order, for tee(2).
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_writes_share_a_page_and_the_capacity_is_exact() {
        let mut ring = Ring::new(16);
        for _ in 0..65536 {
            assert_eq!(ring.write(b"x", false), 1);
        }
        assert_eq!(ring.write(b"x", false), 0);
        assert_eq!(ring.len(), 65536);
        let mut buf = vec![0; 65536];
        assert_eq!(ring.read(&mut buf[..4096]), 4096);
        assert_eq!(ring.write(&[1; 5000], false), 4096);
        assert_eq!(ring.read(&mut buf), 65536);
        assert!(ring.is_empty());
    }

    #[test]
    fn a_piece_up_to_pipe_buf_is_never_divided() {
        let mut ring = Ring::new(2);
        assert_eq!(ring.write(&[1; 3000], false), 3000);
        assert_eq!(ring.write(&[2; 3000], false), 3000);
        assert_eq!(ring.write(&[3; 2000], false), 0);
        assert_eq!(ring.write(&[3; 1000], false), 1000);
    }

    #[test]
    fn packets_keep_their_borders() {
        let mut ring = Ring::new(16);
        ring.write(b"hello", true);
        ring.write(b"world", true);
        let mut buf = [0; 3];
        assert_eq!(ring.read(&mut buf), 3);
        assert_eq!(&buf, b"hel");
        assert_eq!(ring.read(&mut buf), 3);
        assert_eq!(&buf, b"wor");
        assert!(ring.is_empty());
    }

    #[test]
    fn slots_move_whole_or_in_part() {
        let mut ring = Ring::new(16);
        ring.write(b"abcdef", false);
        let part = ring.split_front(2).expect("there are bytes");
        assert_eq!(part.bytes(), b"ab");
        ring.unpop(part);
        assert_eq!(ring.room(), 14);
        assert_eq!(ring.len(), 6);
        assert_eq!(ring.set_limit(1), Err(Errno::EBUSY));
    }
}
