//! User and group IDs of host files in this process's user namespace: see user_namespaces(7).
//!
//! The host shows owners that the namespace does not map as the overflow ID. Where the namespace does not map the overflow
//! ID itself, that is unambiguous. So namespaces that Amber makes map [`STAND_IN`] in its place.

use std::fs;
use std::io;
use std::str::FromStr;
use std::sync::OnceLock;

/// The owner or group of files that the namespace does not map. It is the ID of no process.
pub const UNMAPPED: u32 = u32::MAX;

/// The ID that namespaces of Amber's making have in place of the overflow ID, with the same ID outside.
pub const STAND_IN: u32 = u32::MAX - 1;

/// The overflow ID, unless the host has another.
const OVERFLOW: u32 = 65534;

/// A range of IDs of a user namespace, and the range of its parent that they are mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First ID inside.
    pub inside: u32,
    /// First ID outside.
    pub outside: u32,
    /// Number of IDs.
    pub count: u32,
}

impl IdRange {
    /// Whether the namespace has this ID by this range.
    pub fn contains(&self, id: u32) -> bool {
        id.checked_sub(self.inside).is_some_and(|distance| distance < self.count)
    }
}

/// Users or groups.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Users.
    Users,
    /// Groups.
    Groups,
}

impl Kind {
    /// The ID by which the host shows owners that a namespace does not map.
    pub fn overflow(self) -> u32 {
        let name = match self {
            Kind::Users => "overflowuid",
            Kind::Groups => "overflowgid",
        };
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().parse().unwrap_or(OVERFLOW)
    }

    fn translation(self) -> &'static OnceLock<Translation> {
        match self {
            Kind::Users => &USERS,
            Kind::Groups => &GROUPS,
        }
    }
}

static USERS: OnceLock<Translation> = OnceLock::new();
static GROUPS: OnceLock<Translation> = OnceLock::new();

/// The effective user of this process, as the guest's ID.
static CREATOR: OnceLock<u32> = OnceLock::new();

/// How IDs of the host's files become IDs of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translation {
    overflow: u32,
    /// The meaning of the overflow ID.
    means: u32,
    has_stand_in: bool,
}

impl Translation {
    /// The translation in a namespace with these ranges; files of owners that it does not map belong to `unmapped`.
    fn of(ranges: &[IdRange], overflow: u32, unmapped: u32) -> Translation {
        let maps = |id| ranges.iter().any(|range| range.contains(id));
        let is_ambiguous = maps(overflow);
        Translation {
            overflow,
            means: if is_ambiguous { overflow } else { unmapped },
            has_stand_in: !is_ambiguous && ranges.iter().any(|range| range.inside == STAND_IN),
        }
    }

    fn to_guest(self, host_id: u32) -> u32 {
        if host_id == self.overflow {
            self.means
        } else if host_id == STAND_IN && self.has_stand_in {
            self.overflow
        } else {
            host_id
        }
    }

    fn to_host(self, guest_id: u32) -> u32 {
        if guest_id == self.overflow && self.has_stand_in { STAND_IN } else { guest_id }
    }
}

/// Reads which IDs this process's user namespace maps, and from then on translates those of host files. Files of owners
/// that it does not map belong to `unmapped`. Returns the ranges as the guest sees them. Called once.
///
/// # Errors
/// The host shows no namespaces.
pub fn read(kind: Kind, unmapped: u32) -> io::Result<Vec<IdRange>> {
    let name = match kind {
        Kind::Users => "uid_map",
        Kind::Groups => "gid_map",
    };
    let ranges = parse(&fs::read_to_string(format!("/proc/self/{name}"))?)?;
    let translation = kind.translation().get_or_init(|| Translation::of(&ranges, kind.overflow(), unmapped));
    if let Kind::Users = kind {
        CREATOR.get_or_init(|| translation.to_guest(nix::unistd::geteuid().as_raw()));
    }
    Ok(shown(ranges, *translation))
}

fn parse(text: &str) -> io::Result<Vec<IdRange>> {
    let range = |line: &str| {
        let numbers: Vec<u32> = line.split_whitespace().map(u32::from_str).collect::<Result<_, _>>().ok()?;
        let [inside, outside, count] = numbers[..] else { return None };
        Some(IdRange { inside, outside, count })
    };
    text.lines().map(|line| range(line).ok_or_else(|| io::Error::other(format!("an ID map has `{line}`")))).collect()
}

/// The ranges with the overflow ID back in its place, as they were before the stand-in was chosen.
fn shown(mut ranges: Vec<IdRange>, translation: Translation) -> Vec<IdRange> {
    if !translation.has_stand_in {
        return ranges;
    }
    for range in &mut ranges {
        range.inside = translation.to_guest(range.inside);
    }
    let mut joined: Vec<IdRange> = Vec::new();
    ranges.sort_by_key(|range| range.inside);
    for range in ranges {
        match joined.last_mut() {
            Some(last) if continues(last, &range) => last.count += range.count,
            _ => joined.push(range),
        }
    }
    joined
}

fn continues(first: &IdRange, next: &IdRange) -> bool {
    first.inside.checked_add(first.count) == Some(next.inside)
        && first.outside.checked_add(first.count) == Some(next.outside)
}

/// The guest's ID of an owner or group that the host shows.
pub fn to_guest(kind: Kind, host_id: u32) -> u32 {
    kind.translation().get().map_or(host_id, |translation| translation.to_guest(host_id))
}

/// The host's ID for one of the guest's.
pub(crate) fn to_host(kind: Kind, guest_id: u32) -> u32 {
    kind.translation().get().map_or(guest_id, |translation| translation.to_host(guest_id))
}

/// Whether a new file with this owner shows that its file system chooses owners itself, such as vfat, or NFS for root:
/// others give it to the process that created it.
pub fn is_imposed(owner: u32) -> bool {
    CREATOR.get().is_some_and(|creator| *creator != owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    #[test]
    fn an_overflow_id_that_is_not_mapped_means_an_unmapped_owner() {
        let few = Translation::of(&[range(0, 1000, 1)], 65534, UNMAPPED);
        assert_eq!([0, 5, 65534, STAND_IN].map(|id| few.to_guest(id)), [0, 5, UNMAPPED, STAND_IN]);
        assert_eq!([0, 65534].map(|id| few.to_host(id)), [0, 65534]);
        let all = Translation::of(&[range(0, 0, u32::MAX)], 65534, UNMAPPED);
        assert_eq!([0, 65534, STAND_IN].map(|id| all.to_guest(id)), [0, 65534, STAND_IN]);
        assert_eq!(all.to_host(65534), 65534);
    }

    #[test]
    fn the_stand_in_is_the_overflow_id() {
        let ranges = [range(0, 100, 65534), range(STAND_IN, 65634, 1), range(65535, 65635, 1)];
        let translation = Translation::of(&ranges, 65534, UNMAPPED);
        assert_eq!([7, 65534, STAND_IN].map(|id| translation.to_guest(id)), [7, UNMAPPED, 65534]);
        assert_eq!([7, 65534].map(|id| translation.to_host(id)), [7, STAND_IN]);
        assert_eq!(shown(ranges.to_vec(), translation), [range(0, 100, 65536)]);
        // Neighbours inside that are none outside stay apart.
        let apart = [range(0, 100, 65534), range(STAND_IN, 7, 1)];
        assert_eq!(shown(apart.to_vec(), translation), [range(0, 100, 65534), range(65534, 7, 1)]);
    }

    #[test]
    fn a_map_is_read_as_the_host_writes_it() {
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(parse(text).unwrap(), [range(0, 1000, 1), range(1, 100_000, 65536)]);
        assert!(parse("0 1\n").is_err() && parse("0 1 x\n").is_err());
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn a_range_ends_before_its_count() {
        let last = range(10, 0, 5);
        assert_eq!([9, 10, 14, 15].map(|id| last.contains(id)), [false, true, true, false]);
        assert!(!range(0, 0, u32::MAX).contains(u32::MAX));
    }
}
