//! Conversion of limits from cgroup version 1, which bundles use, to version 2.

use anyhow::{Result, bail, ensure};

/// The weight of CPU time: maps the range from 2 to 262144 to that from 1 to 10000.
pub(crate) fn weight(shares: u64) -> u64 {
    1 + shares.clamp(2, 262_144).saturating_sub(2) * 9999 / 262_142
}

/// The weight of block I/O: maps the range from 10 to 1000 to that from 1 to 10000.
pub(crate) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000)).saturating_sub(10) * 9999 / 990
}

/// The swap limit, from limits of memory and of memory plus swap; none if there is no limit to set, -1 for unlimited
/// swap. Zero means not set.
///
/// # Errors
/// The combination is invalid.
pub(crate) fn swap(memory: i64, both: i64) -> Result<Option<i64>> {
    match (memory, both) {
        // Unlimited memory implies unlimited swap.
        (-1, 0) | (_, -1) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (0 | -1, _) => bail!("unable to set swap limit without memory limit"),
        (..0, _) => bail!("invalid memory value: {memory}"),
        _ => {
            ensure!(both >= memory, "memory+swap limit should be >= memory limit");
            Ok(Some(both - memory))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_at_both_ends() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 39, 10_000, 10_000]);
        assert_eq!([0, 10, 500, 1000].map(io_weight), [1, 1, 4950, 10_000]);
    }

    #[test]
    fn swap_is_what_is_left_of_both() {
        let good = [
            ((0, 0), None),
            ((5, 0), None),
            ((5, 9), Some(4)),
            ((5, 5), Some(0)),
            ((5, -1), Some(-1)),
            ((-1, 0), Some(-1)),
            ((0, -1), Some(-1)),
        ];
        for ((memory, both), wanted) in good {
            assert_eq!(swap(memory, both).unwrap(), wanted, "{memory} {both}");
        }
        for (memory, both) in [(0, 5), (-1, 5), (-7, 5), (9, 5)] {
            assert!(swap(memory, both).is_err(), "{memory} {both}");
        }
    }
}
