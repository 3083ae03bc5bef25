//! Extended attributes of host files, and fchmodat2(2).

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use amber_abi::acl::{ACL_GROUP, ACL_USER};
use amber_abi::errno::Errno;
use amber_abi::xattr::{XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};

use crate::fs::Result;
use crate::users::{self, Kind};

fn last_error() -> Errno {
    Errno::from_host(std::io::Error::last_os_error())
}

fn c_string(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Errno::EINVAL.here())
}

fn length(answer: isize) -> Result<usize> {
    usize::try_from(answer).map_err(|_| last_error())
}

/// The value of an attribute of an open file (not with `O_PATH`). The users and groups of access control lists are those
/// of the guest.
pub fn get(file: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let is_acl = name == XATTR_ACL_ACCESS || name == XATTR_ACL_DEFAULT;
    let name = c_string(name)?;
    let mut value = vec![0; amber_abi::xattr::XATTR_SIZE_MAX];
    // SAFETY: the name ends with a zero byte and the buffer is as long as passed.
    let got = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(length(got)?);
    if is_acl {
        translate_acl(&mut value, users::to_guest);
    }
    Ok(value)
}

/// Translates the IDs in an access control list: entries of a tag, rights and an ID, after a version.
fn translate_acl(value: &mut [u8], translate: impl Fn(Kind, u32) -> u32) {
    let Some((_, entries)) = value.split_first_chunk_mut::<4>() else { return };
    for [tag0, tag1, _, _, id @ ..] in entries.as_chunks_mut::<8>().0 {
        let kind = match u16::from_le_bytes([*tag0, *tag1]) {
            ACL_USER => Kind::Users,
            ACL_GROUP => Kind::Groups,
            _ => continue,
        };
        *id = translate(kind, u32::from_le_bytes(*id)).to_le_bytes();
    }
}

/// Whether an open file (not with `O_PATH`) has an attribute of this name. A file system without attributes has none.
pub fn has(file: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    let name = c_string(name)?;
    // SAFETY: the name ends with a zero byte, and a length of 0 asks for the length of the value only.
    match length(unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) }) {
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(false),
        found => found.map(|_| true),
    }
}

/// The names of all attributes of an open file.
pub fn list(file: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut names = vec![0u8; amber_abi::xattr::XATTR_LIST_MAX];
    // SAFETY: the buffer is as long as passed.
    let got = unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(length(got)?);
    Ok(names.split(|&b| b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Sets an attribute of an open file, with the flags of setxattr(2).
pub fn set(file: BorrowedFd<'_>, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
    let name = c_string(name)?;
    // SAFETY: the name ends with a zero byte and the value is as long as passed.
    let done = unsafe {
        libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags as libc::c_int)
    };
    length(done as isize).map(drop)
}

/// Removes an attribute of an open file.
pub fn remove(file: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let name = c_string(name)?;
    // SAFETY: the name ends with a zero byte.
    let done = unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) };
    length(done as isize).map(drop)
}

/// Changes the permissions of an open file, also of one opened with `O_PATH`, but never of a symbolic link.
///
/// # Errors
/// `ENOSYS` on hosts before Linux 6.6.
pub fn set_permissions(file: BorrowedFd<'_>, permissions: u16) -> Result<()> {
    let mode = libc::c_uint::from(permissions);
    // SAFETY: the path is an empty string; the call takes no other memory.
    let done = unsafe {
        libc::syscall(libc::SYS_fchmodat2, file.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH as libc::c_uint)
    };
    length(done as isize).map(drop)
}

#[cfg(test)]
mod tests {
    use amber_abi::acl::ACL_MASK;

    use super::*;

    #[test]
    fn only_ids_of_named_users_and_groups_are_translated() {
        let list = |ids: [u32; 3]| {
            let mut value = 2u32.to_le_bytes().to_vec();
            for (tag, id) in [ACL_USER, ACL_MASK, ACL_GROUP].into_iter().zip(ids) {
                value.extend([tag.to_le_bytes(), 7u16.to_le_bytes()].concat());
                value.extend(id.to_le_bytes());
            }
            value
        };
        let mut value = list([5, 5, 5]);
        translate_acl(&mut value, |kind, id| if matches!(kind, Kind::Users) { id + 1 } else { id + 2 });
        assert_eq!(value, list([6, 5, 7]));
        translate_acl(&mut [1, 2], |_, id| id);
    }
}
