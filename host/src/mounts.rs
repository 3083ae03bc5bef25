//! Mount operations without a safe wrapper elsewhere.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `MOUNT_ATTR_RDONLY`, for [`restrict`], like the next three.
pub const READ_ONLY: u64 = 1;
/// `MOUNT_ATTR_NOSUID`.
pub const NO_SUID: u64 = 2;
/// `MOUNT_ATTR_NODEV`.
pub const NO_DEVICES: u64 = 4;
/// `MOUNT_ATTR_NOEXEC`.
pub const NO_EXECUTION: u64 = 8;

const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
const AT_RECURSIVE: u32 = 0x8000;

/// `struct mount_attr`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets attributes of an open mount; with `all`, of all mounts beneath it as well.
///
/// # Errors
/// `ENOSYS` on hosts before Linux 5.12, and those of mount_setattr(2).
pub fn restrict(mount: BorrowedFd<'_>, attributes: u64, all: bool) -> io::Result<()> {
    let attributes = Attributes { set: attributes, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path is an empty string and the structure has the size that is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            if all { AT_EMPTY_PATH | AT_RECURSIVE } else { AT_EMPTY_PATH },
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
