//! Memory that is stored to between forks. A fork copies it at once instead of making both sides fault for it: a shell
//! forks again and again, and parent and child store to the same few places each time.

use std::ops::Range;

use super::fault::COPY_BLOCK;

/// The most places to keep in mind.
const MOST: usize = 16;
/// After so many forks without news a place is forgotten, to see whether it is still stored to.
const FORKS: u8 = 8;

/// The places.
#[derive(Clone, Debug, Default)]
pub struct PrecopyBlocks {
    /// Starts of aligned blocks, and for how many forks they are still copied.
    blocks: Vec<(u64, u8)>,
}

impl PrecopyBlocks {
    /// Notes that the memory around `address` was, or is about to be, stored to after a fork.
    pub fn note(&mut self, address: u64) {
        let block = address & !(COPY_BLOCK - 1);
        match self.blocks.iter_mut().find(|(known, _)| *known == block) {
            Some((_, forks)) => *forks = FORKS,
            None => {
                if self.blocks.len() == MOST
                    && let Some(oldest) = (0..MOST).min_by_key(|&at| self.blocks[at].1)
                {
                    self.blocks.swap_remove(oldest);
                }
                self.blocks.push((block, FORKS));
            }
        }
    }

    /// Counts a fork, and answers which memory to copy for it, in order.
    pub fn at_fork(&mut self) -> Vec<Range<u64>> {
        self.blocks.retain_mut(|(_, forks)| {
            *forks = forks.saturating_sub(1);
            *forks > 0
        });
        let mut ranges: Vec<_> =
            self.blocks.iter().map(|&(start, _)| start..start.saturating_add(COPY_BLOCK)).collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }
}

/// What is left of `whole` without `holes`, which are in order.
pub fn without(whole: Range<u64>, holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut rest = Vec::new();
    let mut at = whole.start;
    for hole in holes.iter().filter(|hole| hole.start < whole.end && hole.end > whole.start) {
        if at < hole.start {
            rest.push(at..hole.start);
        }
        at = hole.end;
    }
    if at < whole.end {
        rest.push(at..whole.end);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_stored_to_again_is_forgotten() {
        let mut blocks = PrecopyBlocks::default();
        blocks.note(COPY_BLOCK + 5);
        for _ in 1..FORKS {
            assert_eq!(bounds(blocks.at_fork()), [(COPY_BLOCK, 2 * COPY_BLOCK)]);
        }
        assert!(blocks.at_fork().is_empty());
        (0..100).for_each(|i| blocks.note(i * COPY_BLOCK));
        assert_eq!(blocks.at_fork().len(), MOST);
    }

    #[test]
    fn holes_leave_the_rest() {
        let rest = |holes: &[Range<u64>]| bounds(without(10..20, holes));
        assert_eq!(rest(&[]), [(10, 20)]);
        assert_eq!(rest(&[5..12, 14..15, 18..30]), [(12, 14), (15, 18)]);
        assert_eq!(rest(&[0..10, 20..30]), [(10, 20)]);
        assert_eq!(rest(&[0..12, 12..40]), []);
    }

    fn bounds(ranges: Vec<Range<u64>>) -> Vec<(u64, u64)> {
        ranges.into_iter().map(|range| (range.start, range.end)).collect()
    }
}
