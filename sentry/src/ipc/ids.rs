//! IDs, keys and permissions, common to the three kinds of objects.

use std::collections::{BTreeMap, HashMap};

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::ipc::{IPC_PRIVATE, IpcPerm};

use crate::credentials::Credentials;
use crate::id_map::IdMaps;

use super::limits::Limit;

/// Bits of an ID for the object's index. The others are the sequence number, which grows when indexes are reused.
const PLACE_BITS: u32 = 15;
const PLACES: i32 = 1 << PLACE_BITS;
/// Minimum number of indexes in circulation: an index is reused only after the others.
const LEAST_ROUND: i32 = 64;
const LAST_ROUND: u16 = (i32::MAX >> PLACE_BITS) as u16;

/// Creator, owner and mode of an object.
#[derive(Clone, Debug)]
pub(crate) struct Permissions {
    /// The key of the object.
    pub key: i32,
    /// User ID of the owner.
    pub uid: u32,
    /// Group ID of the owner.
    pub gid: u32,
    /// User ID of the creator.
    pub cuid: u32,
    /// Group ID of the creator.
    pub cgid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Sequence number, which grows when the index is reused.
    pub seq: u16,
}

impl Permissions {
    /// Checks the access `wanted`, given in any of the three digits of a mode.
    ///
    /// # Errors
    /// `EACCES`.
    pub(crate) fn check(&self, credentials: &Credentials, wanted: u32) -> Result<(), Errno> {
        let wanted = (wanted >> 6) | (wanted >> 3) | wanted;
        let granted = if credentials.euid == self.cuid || credentials.euid == self.uid {
            self.mode >> 6
        } else if [self.cgid, self.gid].iter().any(|&gid| credentials.egid == gid || credentials.groups.contains(&gid))
        {
            self.mode >> 3
        } else {
            self.mode
        };
        let refused = wanted & !granted & 0o7 != 0 && !credentials.has(Capability::CAP_IPC_OWNER);
        if refused { Err(Errno::EACCES.here()) } else { Ok(()) }
    }

    /// Checks that the caller may change or remove the object.
    ///
    /// # Errors
    /// `EPERM`.
    pub(crate) fn check_owner(&self, credentials: &Credentials) -> Result<(), Errno> {
        let owner =
            credentials.euid == self.cuid || credentials.euid == self.uid || credentials.has(Capability::CAP_SYS_ADMIN);
        if owner { Ok(()) } else { Err(Errno::EPERM.here()) }
    }

    /// `IPC_SET`: changes owner and mode.
    ///
    /// # Errors
    /// `EINVAL` if the user namespace does not have the owner or the group.
    pub(crate) fn change(&mut self, new: &IpcPerm, ids: &IdMaps) -> Result<(), Errno> {
        ids.check_owner(Some(new.uid), Some(new.gid))?;
        (self.uid, self.gid) = (new.uid, new.gid);
        self.mode = (self.mode & !0o777) | (new.mode & 0o777);
        Ok(())
    }

    /// The structure for the guest.
    pub(crate) fn shown(&self) -> IpcPerm {
        IpcPerm {
            key: self.key,
            uid: self.uid,
            gid: self.gid,
            cuid: self.cuid,
            cgid: self.cgid,
            mode: self.mode,
            seq: self.seq,
            ..IpcPerm::default()
        }
    }
}

/// An object with an ID.
pub(crate) trait Object {
    /// Its permissions.
    fn permissions(&self) -> &Permissions;

    /// Its permissions, for changes. The key must not be changed.
    fn permissions_mut(&mut self) -> &mut Permissions;

    /// Its contribution to [`Ids::total`], which never changes.
    fn weight(&self) -> u64 {
        0
    }
}

/// The objects of one kind.
pub(crate) struct Ids<T> {
    objects: BTreeMap<i32, T>,
    /// The index of the object with each key.
    by_key: HashMap<i32, i32>,
    /// The sum of all weights.
    total: u64,
    last: i32,
    round: u16,
}

fn identifier(place: i32, seq: u16) -> i32 {
    i32::from(seq) << PLACE_BITS | place
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Ids { objects: BTreeMap::new(), by_key: HashMap::new(), total: 0, last: -1, round: 0 }
    }
}

impl<T: Object> Ids<T> {
    /// The object with this ID.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub(crate) fn get(&self, id: i32) -> Result<&T, Errno> {
        let found = self.objects.get(&(id & (PLACES - 1))).filter(|_| id >= 0);
        found
            .filter(|object| i32::from(object.permissions().seq) == id >> PLACE_BITS)
            .ok_or_else(|| Errno::EINVAL.here())
    }

    /// Like [`get`](Self::get), for changes.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub(crate) fn get_mut(&mut self, id: i32) -> Result<&mut T, Errno> {
        let found = self.objects.get_mut(&(id & (PLACES - 1))).filter(|_| id >= 0);
        found
            .filter(|object| i32::from(object.permissions().seq) == id >> PLACE_BITS)
            .ok_or_else(|| Errno::EINVAL.here())
    }

    /// The object at an index, with its ID.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub(crate) fn in_place(&self, place: i32) -> Result<(i32, &T), Errno> {
        let object =
            self.objects.get(&(place & (PLACES - 1))).filter(|_| place >= 0).ok_or_else(|| Errno::EINVAL.here())?;
        Ok((identifier(place & (PLACES - 1), object.permissions().seq), object))
    }

    /// All objects with their IDs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, &T)> {
        self.objects.iter().map(|(&place, object)| (identifier(place, object.permissions().seq), object))
    }

    /// The number of objects.
    pub(crate) fn count(&self) -> usize {
        self.objects.len()
    }

    /// The sum of their weights.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The highest index in use, or 0.
    pub(crate) fn highest(&self) -> u64 {
        self.objects.last_key_value().map_or(0, |(&place, _)| place as u64)
    }

    /// Finds or creates the object with a key, as shmget(2) and the like do, with their `flags`. `check` is called for
    /// an existing object; `make` creates one, unless there are `most` already.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `EACCES`, `ENOSPC`; those of `check` and `make`.
    pub(crate) fn find_or_make(
        &mut self,
        credentials: &Credentials,
        key: i32,
        flags: u32,
        most: &Limit,
        check: impl FnOnce(&T) -> Result<(), Errno>,
        make: impl FnOnce(&Self, Permissions) -> Result<T, Errno>,
    ) -> Result<i32, Errno> {
        const CREATE: u32 = 0o1000;
        const EXCLUSIVE: u32 = 0o2000;
        if let Some(&place) = self.by_key.get(&key) {
            let (id, object) = self.in_place(place)?;
            if flags & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE {
                return Err(Errno::EEXIST.here());
            }
            check(object)?;
            object.permissions().check(credentials, flags & 0o777)?;
            return Ok(id);
        }
        if key != IPC_PRIVATE && flags & CREATE == 0 {
            return Err(Errno::ENOENT.here());
        }
        let mut permissions = Permissions {
            key,
            uid: credentials.euid,
            gid: credentials.egid,
            cuid: credentials.euid,
            cgid: credentials.egid,
            mode: flags & 0o777,
            seq: 0,
        };
        // All checks precede the allocation of an index.
        let mut object = make(self, permissions.clone())?;
        let place = self.take_place(most.get())?;
        permissions.seq = self.round;
        *object.permissions_mut() = permissions;
        if key != IPC_PRIVATE {
            self.by_key.insert(key, place);
        }
        self.total += object.weight();
        self.objects.insert(place, object);
        Ok(identifier(place, self.round))
    }

    /// The next free index in circular order.
    fn take_place(&mut self, most: u64) -> Result<i32, Errno> {
        if self.objects.len() as u64 >= most {
            return Err(Errno::ENOSPC.here());
        }
        let length = (self.objects.len() as i32 * 3 / 2).max(LEAST_ROUND).min(most as i32);
        let after = (self.last + 1..length).find(|place| !self.objects.contains_key(place));
        let place = after.or_else(|| (0..length).find(|place| !self.objects.contains_key(place)));
        let place = place.ok_or_else(|| Errno::ENOSPC.here())?;
        if place <= self.last {
            self.round = (self.round + 1) % LAST_ROUND;
        }
        self.last = place;
        Ok(place)
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, id: i32) -> Option<T> {
        self.take_key(id);
        self.get(id).ok()?;
        let object = self.objects.remove(&(id & (PLACES - 1)))?;
        self.total -= object.weight();
        Some(object)
    }

    /// Removes the key, so that the object is found only by its ID.
    pub(crate) fn take_key(&mut self, id: i32) {
        if let Ok(object) = self.get_mut(id) {
            let key = std::mem::replace(&mut object.permissions_mut().key, IPC_PRIVATE);
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::Limits;

    struct Thing(Permissions);

    impl Object for Thing {
        fn permissions(&self) -> &Permissions {
            &self.0
        }

        fn permissions_mut(&mut self) -> &mut Permissions {
            &mut self.0
        }
    }

    #[test]
    fn an_identifier_is_not_used_again_soon() {
        let root = Credentials::root();
        let mut ids: Ids<Thing> = Ids::default();
        let most = &Limits::default().msgmni;
        let mut make = |key, flags| ids.find_or_make(&root, key, flags, most, |_| Ok(()), |_, p| Ok(Thing(p)));
        let first = make(IPC_PRIVATE, 0).unwrap();
        assert_eq!(make(7, 0), Err(Errno::ENOENT));
        let second = make(7, 0o1600).unwrap();
        assert_eq!(make(7, 0), Ok(second));
        assert_eq!(make(7, 0o3000), Err(Errno::EEXIST));
        assert_eq!((first, second), (0, 1));
        assert!(ids.remove(first).is_some() && ids.remove(first).is_none());
        for _ in 0..200 {
            let id = ids.find_or_make(&root, IPC_PRIVATE, 0, most, |_| Ok(()), |_, p| Ok(Thing(p))).unwrap();
            assert_ne!(id, first);
            ids.remove(id);
        }
        assert_eq!(ids.get(-1).err(), Some(Errno::EINVAL));
        assert_eq!(ids.get(i32::MAX).err(), Some(Errno::EINVAL));
    }
}
