//! What is mapped where in a stub, as it will be once all changes made so far are applied.

use std::collections::BTreeMap;
use std::ops::Range;

use amber_platform::{FrameRange, Protection};

/// A mapping without a gap, of contiguous frames, with one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it ends.
    pub end: u64,
    /// The first frame.
    pub frames: u64,
    /// What the guest may do.
    pub protection: Protection,
    /// The number of the change that made it so.
    pub change: u64,
}

/// The mappings of a stub, by their start. They never overlap.
#[derive(Clone, Debug, Default)]
pub struct Pieces(BTreeMap<u64, Piece>);

impl Pieces {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What is mapped at `address`.
    pub fn at(&self, address: u64) -> Option<Piece> {
        let (_, piece) = self.0.range(..=address).next_back()?;
        (address < piece.end).then_some(*piece)
    }

    /// Makes `at` the border of pieces.
    fn cut(&mut self, at: u64) {
        if let Some((&start, piece)) = self.0.range_mut(..at).next_back()
            && at < piece.end
        {
            let tail = Piece { frames: piece.frames + (at - start), ..*piece };
            piece.end = at;
            self.0.insert(at, tail);
        }
    }

    /// Joins the pieces that meet at `at`, if they are alike.
    fn join(&mut self, at: u64) {
        if let Some(&right) = self.0.get(&at)
            && let Some((&start, left)) = self.0.range_mut(..at).next_back()
            && left.end == at
            && left.protection == right.protection
            && left.frames + (at - start) == right.frames
        {
            left.end = right.end;
            left.change = left.change.max(right.change);
            self.0.remove(&at);
        }
    }

    /// Removes everything in `range`; returns whether there was anything.
    pub fn remove(&mut self, range: Range<u64>) -> bool {
        self.cut(range.start);
        self.cut(range.end);
        let starts: Vec<u64> = self.0.range(range).map(|(&start, _)| start).collect();
        for start in &starts {
            self.0.remove(start);
        }
        !starts.is_empty()
    }

    /// Maps `frames` at `at`; returns whether that changes anything.
    pub fn insert(&mut self, at: u64, frames: FrameRange, protection: Protection, change: u64) -> bool {
        let end = at + frames.len;
        if let Some((&start, piece)) = self.0.range(..=at).next_back()
            && end <= piece.end
            && piece.protection == protection
            && piece.frames + (at - start) == frames.start
        {
            return false;
        }
        self.remove(at..end);
        self.0.insert(at, Piece { end, frames: frames.start, protection, change });
        self.join(at);
        self.join(end);
        true
    }

    /// Changes the protection of what is mapped in `range`; returns the parts that were mapped otherwise.
    pub fn protect(&mut self, range: Range<u64>, protection: Protection, change: u64) -> Vec<Range<u64>> {
        self.cut(range.start);
        self.cut(range.end);
        let mut changed: Vec<Range<u64>> = Vec::new();
        let mut borders = vec![range.start, range.end];
        for (&start, piece) in self.0.range_mut(range) {
            borders.push(start);
            if piece.protection != protection {
                piece.protection = protection;
                piece.change = change;
                match changed.last_mut() {
                    Some(last) if last.end == start => last.end = piece.end,
                    _ => changed.push(start..piece.end),
                }
            }
        }
        for border in borders {
            self.join(border);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Protection = Protection { read: true, write: false, execute: false };
    const WRITE: Protection = Protection { read: true, write: true, execute: false };

    fn frames(start: u64, len: u64) -> FrameRange {
        FrameRange { start, len }
    }

    #[test]
    fn neighbours_join_and_are_cut_again() {
        let mut pieces = Pieces::default();
        assert!(pieces.insert(0x1000, frames(0x5000, 0x1000), READ, 1));
        assert!(pieces.insert(0x2000, frames(0x6000, 0x1000), READ, 2));
        assert_eq!(pieces.at(0x1000), Some(Piece { end: 0x3000, frames: 0x5000, protection: READ, change: 2 }));
        assert!(!pieces.insert(0x2000, frames(0x6000, 0x1000), READ, 3));
        assert!(pieces.remove(0x1000..0x2000));
        assert!(!pieces.remove(0x1000..0x2000));
        assert_eq!(pieces.at(0x1fff), None);
        assert_eq!(pieces.at(0x2000).map(|piece| piece.frames), Some(0x6000));
    }

    #[test]
    fn protection_leaves_holes_alone() {
        let mut pieces = Pieces::default();
        pieces.insert(0x1000, frames(0, 0x1000), READ, 1);
        pieces.insert(0x3000, frames(0x2000, 0x2000), READ, 2);
        assert_eq!(pieces.protect(0..0x4000, WRITE, 3), vec![0x1000..0x2000, 0x3000..0x4000]);
        assert_eq!(pieces.protect(0..0x5000, WRITE, 4), vec![0x4000..0x5000]);
        assert_eq!(pieces.at(0x3000).map(|piece| piece.end), Some(0x5000));
        assert_eq!(pieces.at(0x2000), None);
    }
}
