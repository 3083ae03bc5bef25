//! The IDs of the sandbox's user namespace: see [`amber_host::users`].

use amber_host::users::{self, IdRange, Kind, STAND_IN, UNMAPPED};
use amber_sentry::id_map::{IdMap, IdMaps};
use nix::unistd::geteuid;

/// The most ranges that the host accepts for a namespace.
const MOST_RANGES: usize = 340;

/// Ranges for a new namespace with [`STAND_IN`] in place of the overflow ID, if they map the overflow ID. Without it, files
/// of unmapped owners could not be told from those of the overflow ID.
pub(super) fn with_stand_in(ranges: &[IdRange], overflow: u32) -> Vec<IdRange> {
    let is_taken = ranges.iter().any(|range| range.contains(STAND_IN));
    if is_taken || ranges.len() + 2 > MOST_RANGES {
        return ranges.to_vec();
    }
    ranges.iter().flat_map(|range| split(*range, overflow)).collect()
}

/// A range in up to three: what comes before the overflow ID, the stand-in, and what comes after.
fn split(range: IdRange, overflow: u32) -> Vec<IdRange> {
    if !range.contains(overflow) {
        return vec![range];
    }
    let IdRange { inside, outside, count } = range;
    let before = overflow - inside;
    let parts = [
        IdRange { inside, outside, count: before },
        IdRange { inside: STAND_IN, outside: outside.saturating_add(before), count: 1 },
        IdRange {
            inside: overflow.saturating_add(1),
            outside: outside.saturating_add(before + 1),
            count: count - before - 1,
        },
    ];
    parts.into_iter().filter(|part| part.count > 0).collect()
}

/// The IDs that the guest has: those of this process's user namespace. For an ordinary user, whose namespace has no other,
/// the guest has every ID, and unmapped owners are shown as root: they own nearly every file, and programs such as `ssh`
/// trust files of root only.
pub(super) fn take() -> IdMaps {
    let is_ordinary = !geteuid().is_root();
    let unmapped = if is_ordinary { 0 } else { UNMAPPED };
    let read = |kind| match users::read(kind, unmapped) {
        Ok(_) if is_ordinary => IdMap::default(),
        Ok(ranges) => IdMap::new(ranges),
        Err(error) => {
            log::warn!("the host does not show which users Amber's user namespace has: {error}");
            IdMap::default()
        }
    };
    IdMaps { users: read(Kind::Users), groups: read(Kind::Groups) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    #[test]
    fn the_stand_in_takes_the_place_of_the_overflow_id() {
        let whole = with_stand_in(&[range(0, 100_000, 65536)], 65534);
        assert_eq!(whole, [range(0, 100_000, 65534), range(STAND_IN, 165_534, 1), range(65535, 165_535, 1)]);
        let last = with_stand_in(&[range(0, 1000, 1), range(1, 100_000, 65534)], 65534);
        assert_eq!(last, [range(0, 1000, 1), range(1, 100_000, 65533), range(STAND_IN, 165_533, 1)]);
        assert_eq!(with_stand_in(&[range(65534, 5, 1)], 65534), [range(STAND_IN, 5, 1)]);
    }

    #[test]
    fn other_ranges_stay() {
        let few = [range(0, 1000, 1), range(7, 0, 3)];
        assert_eq!(with_stand_in(&few, 65534), few);
        let all = [range(0, 0, u32::MAX)];
        assert_eq!(with_stand_in(&all, 65534), all);
        let many: Vec<_> = (0..340).map(|at| range(65534 + at, at, 1)).collect();
        assert_eq!(with_stand_in(&many, 65534), many);
    }
}
