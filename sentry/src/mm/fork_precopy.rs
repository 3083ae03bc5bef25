//! Memory that is stored to between forks. A fork copies it at once, which saves a fault on both sides: a shell forks
//! repeatedly, and parent and child store to the same few blocks each time.

use std::ops::Range;

use super::fault::COPY_BLOCK;

/// The maximum number of blocks.
const MOST: usize = 16;
/// After this many forks without a store, a block is dropped, to find out whether it is still stored to.
const FORKS: u8 = 8;

/// The blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct PrecopyBlocks {
    /// Starts of aligned blocks, and the number of forks that still copy them.
    blocks: Vec<(u64, u8)>,
}

impl PrecopyBlocks {
    /// Records a store to the memory around `address` after a fork, or one that is about to happen.
    pub(super) fn note(&mut self, address: u64) {
        let block = address & !(COPY_BLOCK - 1);
        match self.blocks.iter_mut().find(|(known, _)| *known == block) {
            Some((_, forks)) => *forks = FORKS,
            None => {
                if self.blocks.len() == MOST
                    && let Some((oldest, _)) = self.blocks.iter().enumerate().min_by_key(|(_, (_, forks))| *forks)
                {
                    self.blocks.swap_remove(oldest);
                }
                self.blocks.push((block, FORKS));
            }
        }
    }

    /// Counts a fork, and returns the ranges to copy for it, in ascending order.
    pub(super) fn at_fork(&mut self) -> Vec<Range<u64>> {
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

/// The parts of `whole` outside of `holes`, which are in ascending order.
pub(super) fn without(whole: Range<u64>, holes: &[Range<u64>]) -> Vec<Range<u64>> {
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
