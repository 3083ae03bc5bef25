//! Forks the process where executing a program is not possible: execve(2) loses the capabilities that a user namespace
//! gave the process.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// The parent of the new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// The calling process.
    Child,
    /// The calling process's parent, which does not learn the process ID.
    Sibling,
}

/// The process in which [`fork`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The calling process, with the ID of the new process.
    Old(i32),
    /// The new process, with its ID in the caller's PID namespace. In a PID namespace of its own, it could not
    /// determine that.
    New(i32),
}

/// Sent by the new process when its parent-death signal is set.
const TIED: u8 = 1;

/// Forks the process, into the PID namespace for its children. The new process is killed when the thread that is its
/// parent ends, whenever that is.
///
/// # Errors
/// `EINVAL`: this process has other threads. Otherwise the host has no process left, or one of the two was killed; in
/// the latter case the new process must end.
pub fn fork(kinship: Kinship) -> io::Result<Half> {
    // SAFETY: the call takes a number only and changes nothing; it fails if there are other threads.
    Errno::result(unsafe { libc::unshare(libc::CLONE_THREAD) })?;
    let (mut old, mut new) = UnixStream::pair()?;
    // Where the C library stores the ID of the main thread, which must become the new one. Kernels without
    // checkpoint/restore do not report it. The library then has an old ID, which it only compares with other old IDs.
    let mut place: *mut libc::c_int = std::ptr::null_mut();
    // SAFETY: the call writes one pointer to the place given.
    let told = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut place) } == 0 && !place.is_null();
    let mut flags = libc::SIGCHLD;
    if told {
        flags |= libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
    }
    if kinship == Kinship::Sibling {
        flags |= libc::CLONE_PARENT;
    }
    // SAFETY: without CLONE_VM, the new process has a copy of all memory. There is only one thread, so no data in it is
    // inconsistent and no lock is held by another thread. The kernel stores the thread ID where fork(3) has it stored.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, place, 0) };
    match Errno::result(pid)? {
        0 => {
            drop(old);
            set_pdeathsig(Signal::SIGKILL)?;
            // The calling process answers only afterwards. If it is the parent and has ended, there is no answer.
            new.write_all(&[TIED])?;
            let mut number = [0; 4];
            new.read_exact(&mut number)?;
            Ok(Half::New(i32::from_ne_bytes(number)))
        }
        pid => {
            drop(new);
            let pid = pid as i32;
            old.read_exact(&mut [0])?;
            old.write_all(&pid.to_ne_bytes())?;
            Ok(Half::Old(pid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_copied() {
        // The test harness runs each test on a thread of its own.
        assert_eq!(fork(Kinship::Child).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
