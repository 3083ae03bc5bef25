//! POSIX access control lists: see acl(5).

use crate::errno::Errno;

consts! { u16:
    ACL_USER_OBJ = 0x01,
    ACL_USER = 0x02,
    ACL_GROUP_OBJ = 0x04,
    ACL_GROUP = 0x08,
    ACL_MASK = 0x10,
    ACL_OTHER = 0x20,
}

/// The version in front of the entries of an attribute.
const POSIX_ACL_XATTR_VERSION: u32 = 2;

/// The bits that an entry may have: read, write, execute.
const ALL: u16 = 0o7;

/// What an access control list says beside the mode of its file. The rights of the owner, the mask and the rights of
/// others are not here: they are the mode's three groups of bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    users: Vec<(u32, u8)>,
    owning_group: u8,
    groups: Vec<(u32, u8)>,
}

impl Acl {
    /// Reads the value of the attribute `system.posix_acl_access`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for another version than 2; `EINVAL` for a length or an entry that version 2 does not have, and for a
    /// list without exactly one entry for the owning group.
    pub fn parse(value: &[u8]) -> Result<Acl, Errno> {
        let (version, entries) = value.split_first_chunk().ok_or_else(|| Errno::EINVAL.here())?;
        if u32::from_le_bytes(*version) != POSIX_ACL_XATTR_VERSION {
            return Err(Errno::EOPNOTSUPP.here());
        }
        let (entries, []) = entries.as_chunks::<8>() else { return Err(Errno::EINVAL.here()) };
        let (mut acl, mut owning_groups) = (Acl::default(), 0);
        for [tag0, tag1, bits0, bits1, id @ ..] in entries {
            let (tag, bits) = (u16::from_le_bytes([*tag0, *tag1]), u16::from_le_bytes([*bits0, *bits1]));
            if bits & !ALL != 0 {
                return Err(Errno::EINVAL.here());
            }
            let (id, bits) = (u32::from_le_bytes(*id), bits as u8);
            match tag {
                ACL_USER => acl.users.push((id, bits)),
                ACL_GROUP => acl.groups.push((id, bits)),
                ACL_GROUP_OBJ => {
                    acl.owning_group = bits;
                    owning_groups += 1;
                }
                ACL_USER_OBJ | ACL_MASK | ACL_OTHER => {}
                _ => return Err(Errno::EINVAL.here()),
            }
        }
        if owning_groups != 1 {
            return Err(Errno::EINVAL.here());
        }
        acl.groups.sort_by_key(|(id, _)| *id);
        Ok(acl)
    }

    /// How many users and groups it names.
    pub fn named(&self) -> usize {
        self.users.len() + self.groups.len()
    }

    /// The rights of a named user, before the mask.
    pub fn user(&self, uid: u32) -> Option<u8> {
        self.users.iter().find(|(id, _)| *id == uid).map(|(_, bits)| *bits)
    }

    /// The rights of the file's own group, before the mask.
    pub fn owning_group(&self) -> u8 {
        self.owning_group
    }

    /// Whether it names any group.
    pub fn names_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The rights of a named group, before the mask. A list that names it several times has several.
    pub fn group(&self, gid: u32) -> impl Iterator<Item = u8> {
        let first = self.groups.partition_point(|(id, _)| *id < gid);
        self.groups.iter().skip(first).take_while(move |(id, _)| *id == gid).map(|(_, bits)| *bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: u32 = u32::MAX;

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            bytes.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn entries_are_read() {
        let acl = Acl::parse(&value(&[
            (ACL_USER_OBJ, 6, NOBODY),
            (ACL_USER, 0, 1000),
            (ACL_USER, 7, 1001),
            (ACL_GROUP_OBJ, 4, NOBODY),
            (ACL_GROUP, 2, 9),
            (ACL_GROUP, 1, 5),
            (ACL_GROUP, 3, 9),
            (ACL_MASK, 7, NOBODY),
            (ACL_OTHER, 0, NOBODY),
        ]))
        .unwrap();
        assert_eq!([1000, 1001, 1002].map(|uid| acl.user(uid)), [Some(0), Some(7), None]);
        assert_eq!((acl.owning_group(), acl.named(), acl.names_groups()), (4, 5, true));
        assert_eq!([4, 5, 9, 10].map(|gid| acl.group(gid).collect::<Vec<_>>()), [vec![], vec![1], vec![2, 3], vec![]]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let good = value(&[(ACL_USER_OBJ, 6, NOBODY), (ACL_GROUP_OBJ, 4, NOBODY), (ACL_OTHER, 4, NOBODY)]);
        assert!(Acl::parse(&good).is_ok());
        for length in (0..good.len()).filter(|length| *length != 20) {
            assert!(Acl::parse(&good[..length]).is_err(), "{length} bytes");
        }
        let other_version = [&1u32.to_le_bytes(), &good[4..]].concat();
        assert_eq!(Acl::parse(&other_version), Err(Errno::EOPNOTSUPP));
        for entries in [
            &[][..],
            &[(ACL_USER_OBJ, 6, NOBODY)],
            &[(ACL_GROUP_OBJ, 4, NOBODY), (ACL_GROUP_OBJ, 4, NOBODY)],
            &[(ACL_GROUP_OBJ, 8, NOBODY)],
            &[(ACL_GROUP_OBJ, 4, NOBODY), (0x40, 4, NOBODY)],
            &[(ACL_GROUP_OBJ, 4, NOBODY), (0, 4, NOBODY)],
            &[(ACL_GROUP_OBJ, 4, NOBODY), (ACL_USER | ACL_GROUP, 4, 1000)],
        ] {
            assert_eq!(Acl::parse(&value(entries)), Err(Errno::EINVAL), "{entries:?}");
        }
    }
}
