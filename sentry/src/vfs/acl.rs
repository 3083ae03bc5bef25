//! POSIX access control lists and the permissions they grant (acl(5)).

use std::sync::Arc;

use amber_abi::acl::Acl;
use amber_abi::errno::Errno;

use super::access::{Access, Ownership};
use crate::credentials::Credentials;

/// Parses the value of an ACL attribute as a file system returns it; none if there is no such attribute.
///
/// # Errors
/// Errors of reading the attribute; `EINVAL` for a malformed list.
pub(crate) fn of(value: Result<Vec<u8>, Errno>) -> Result<Option<Arc<Acl>>, Errno> {
    match value {
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        // An unknown version is an error, not an absent list.
        value => Acl::parse(&value?).map(|acl| Some(Arc::new(acl))).map_err(|_| Errno::EINVAL.here()),
    }
}

/// Whether a list grants the access to a user that does not own the file.
pub(crate) fn grants(acl: &Acl, credentials: &Credentials, ownership: Ownership, wanted: Access) -> bool {
    let mode = u32::from(ownership.permissions);
    let has = |bits: u32| Access::from_bits_truncate(bits).contains(wanted);
    let mask = mode >> 3;
    if let Some(bits) = acl.user(credentials.fsuid) {
        return has(u32::from(bits) & mask);
    }
    let mut is_member = credentials.in_group(ownership.gid);
    if is_member && has(acl.owning_group().into()) {
        return has(mask);
    }
    if acl.names_groups() {
        // One entry must grant the whole access: permissions of several groups do not add up.
        for gid in credentials.groups.iter().chain([&credentials.fsgid]) {
            for bits in acl.group(*gid) {
                if has(bits.into()) {
                    return has(mask);
                }
                is_member = true;
            }
        }
    }
    !is_member && has(mode)
}

#[cfg(test)]
mod tests {
    use amber_abi::acl::{ACL_GROUP, ACL_GROUP_OBJ, ACL_USER};
    use amber_abi::capability::CapabilitySet;

    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Acl {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            value.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
            value.extend(id.to_le_bytes());
        }
        of(Ok(value)).unwrap().map(|acl| (*acl).clone()).unwrap()
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        let none = CapabilitySet::EMPTY;
        Credentials { fsuid: uid, fsgid: gid, groups: groups.to_vec(), effective: none, ..Credentials::root() }
    }

    #[test]
    fn an_entry_that_matches_decides() {
        let acl = list(&[
            (ACL_USER, 0, 1000),
            (ACL_USER, 6, 1001),
            (ACL_GROUP_OBJ, 4, u32::MAX),
            (ACL_GROUP, 2, 3000),
            (ACL_GROUP, 7, 3001),
            (ACL_GROUP, 0, 3002),
        ]);
        let granted = |permissions: u16, who: &Credentials| {
            let ownership = Ownership { permissions, uid: 0, gid: 2000 };
            let all = [Access::READ, Access::WRITE, Access::READ | Access::WRITE, Access::EXECUTE];
            all.map(|wanted| grants(&acl, who, ownership, wanted))
        };
        let (yes, no) = (true, false);
        assert_eq!(granted(0o677, &user(1000, 3001, &[2000])), [no, no, no, no]);
        assert_eq!(granted(0o677, &user(1001, 5, &[])), [yes, yes, yes, no]);
        assert_eq!(granted(0o647, &user(1001, 5, &[])), [yes, no, no, no]);
        assert_eq!(granted(0o677, &user(1002, 2000, &[])), [yes, no, no, no]);
        // Permissions of two groups do not add up.
        assert_eq!(granted(0o677, &user(1002, 2000, &[3000])), [yes, yes, no, no]);
        assert_eq!(granted(0o677, &user(1002, 5, &[3002, 3001])), [yes, yes, yes, yes]);
        assert_eq!(granted(0o617, &user(1002, 5, &[3001])), [no, no, no, yes]);
        // A member of the group does not get the permissions of others.
        assert_eq!(granted(0o677, &user(1002, 3002, &[])), [no, no, no, no]);
        assert_eq!(granted(0o676, &user(1002, 5, &[6])), [yes, yes, yes, no]);
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_no_list() {
        assert_eq!(of(Err(Errno::ENODATA)), Ok(None));
        assert_eq!(of(Err(Errno::EOPNOTSUPP)), Ok(None));
        assert_eq!(of(Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(of(Ok(1u32.to_le_bytes().to_vec())), Err(Errno::EINVAL));
        assert_eq!(of(Ok(Vec::new())), Err(Errno::EINVAL));
    }
}
