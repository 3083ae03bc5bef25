//! A process that goes on as two, where a program cannot be executed anew: what executes loses the capabilities that a
//! user namespace gave it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// Whose child the new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// The old one's.
    Child,
    /// That of the old one's parent, which is not told its number.
    Sibling,
}

/// Which of the two this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The old process, and the new one's number here.
    Old(i32),
    /// The new process, and its number where the old one is, which in a PID namespace of its own it cannot ask for.
    New(i32),
}

/// What the new process says once its end is tied to its parent's.
const TIED: u8 = 1;

/// Copies this process, in the PID namespace that its children have. The new process is killed when the thread that is
/// its parent ends, at whatever time.
///
/// # Errors
/// `EINVAL`: this process has other threads. Otherwise the host has no process left, or one of the two was killed; then
/// the new one must end.
pub fn fork(kinship: Kinship) -> io::Result<Half> {
    // SAFETY: the call takes a number only and changes nothing; it fails if there are other threads.
    Errno::result(unsafe { libc::unshare(libc::CLONE_THREAD) })?;
    let (mut old, mut new) = UnixStream::pair()?;
    // Where the C library keeps the number of the main thread, which is to be the new one. Kernels without
    // checkpointing do not tell; then the library has an old number, which it compares with other old numbers only.
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
    // SAFETY: without CLONE_VM the new process has a copy of all memory, and since there is one thread only, nothing in it
    // is half done and no lock is held by another thread. The kernel writes the thread's number where fork(3) has it
    // written.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, place, 0) };
    match Errno::result(pid)? {
        0 => {
            drop(old);
            set_pdeathsig(Signal::SIGKILL)?;
            // The old process answers afterwards only. If it is the parent and gone, nobody answers.
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
        // The harness runs each test on a thread of its own.
        assert_eq!(fork(Kinship::Child).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
