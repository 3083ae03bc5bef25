//! The user and group IDs of the first user namespace, the only one: see user_namespaces(7).

use std::fmt;

use amber_abi::errno::Errno;
use amber_host::users::{IdRange, UNMAPPED};

/// What a guest sees as the owner of files whose owner the namespace does not map.
pub(crate) const OVERFLOW_ID: u32 = 65534;

/// The IDs of the users or the groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap(Vec<IdRange>);

impl Default for IdMap {
    /// That of a kernel's initial namespace: each ID is itself.
    fn default() -> Self {
        IdMap(vec![IdRange { inside: 0, outside: 0, count: u32::MAX }])
    }
}

impl IdMap {
    /// A map of these ranges.
    pub fn new(ranges: Vec<IdRange>) -> Self {
        IdMap(ranges)
    }

    /// Whether the namespace has this ID. It never has the one that means "unchanged" in calls.
    pub(crate) fn maps(&self, id: u32) -> bool {
        id != UNMAPPED && self.0.iter().any(|range| range.contains(id))
    }

    /// Refuses an ID that the namespace does not have.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(crate) fn check(&self, id: u32) -> Result<(), Errno> {
        if self.maps(id) { Ok(()) } else { Err(Errno::EINVAL.here()) }
    }

    /// The same for several IDs, of which any may be "unchanged".
    ///
    /// # Errors
    /// `EINVAL`.
    pub(crate) fn check_changes(&self, ids: &[u32]) -> Result<(), Errno> {
        ids.iter().filter(|&&id| id != u32::MAX).try_for_each(|&id| self.check(id))
    }
}

impl fmt::Display for IdMap {
    /// As `/proc/PID/uid_map` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|range| writeln!(f, "{:>10} {:>10} {:>10}", range.inside, range.outside, range.count))
    }
}

/// The maps of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub users: IdMap,
    /// Groups.
    pub groups: IdMap,
}

impl IdMaps {
    /// Refuses an owner or a group that the namespace does not have.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(crate) fn check_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        uid.map_or(Ok(()), |uid| self.users.check(uid))?;
        gid.map_or(Ok(()), |gid| self.groups.check(gid))
    }
}

/// The ID that a guest sees for the owner or group of a file.
pub(crate) fn shown(id: u32) -> u32 {
    if id == UNMAPPED { OVERFLOW_ID } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_its_ranges_are_in_a_namespace() {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let map = IdMap::new(vec![range(0, 1000, 1), range(10, 100_000, 5)]);
        assert_eq!([0, 1, 10, 14, 15, u32::MAX].map(|id| map.maps(id)), [true, false, true, true, false, false]);
        assert_eq!(map.check_changes(&[u32::MAX, 10]), Ok(()));
        assert_eq!(map.check_changes(&[10, 1]), Err(Errno::EINVAL));
        assert_eq!(map.check(u32::MAX), Err(Errno::EINVAL));
        assert_eq!(map.to_string(), "         0       1000          1\n        10     100000          5\n");
    }

    #[test]
    fn the_initial_namespace_has_all_ids() {
        let map = IdMap::default();
        assert!([0, 65534, u32::MAX - 1].iter().all(|&id| map.maps(id)) && !map.maps(u32::MAX));
        assert_eq!(map.to_string(), "         0          0 4294967295\n");
    }
}
