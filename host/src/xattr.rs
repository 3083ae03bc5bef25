//! Extended attributes of host files, and fchmodat2(2).

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use amber_abi::errno::Errno;

use crate::fs::Result;

fn last_error() -> Errno {
    Errno::from_host(std::io::Error::last_os_error())
}

fn c_string(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Errno::EINVAL.here())
}

fn length(answer: isize) -> Result<usize> {
    usize::try_from(answer).map_err(|_| last_error())
}

/// The value of an attribute of an open file (not with `O_PATH`).
pub fn get(file: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let name = c_string(name)?;
    let mut value = vec![0; amber_abi::xattr::XATTR_SIZE_MAX];
    // SAFETY: the name ends with a zero byte and the buffer is as long as passed.
    let got = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(length(got)?);
    Ok(value)
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
