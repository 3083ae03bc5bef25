//! Other processes of the host, and the descriptors of this one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A pidfd, which cannot refer to a later process with the same ID.
#[derive(Debug)]
pub struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// Opens the process with this ID.
    ///
    /// # Errors
    /// There is none.
    pub fn open(pid: i32) -> io::Result<ProcessHandle> {
        // SAFETY: the call takes numbers only and makes a new descriptor, or fails.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        // SAFETY: the kernel has just made the descriptor for this call.
        Ok(ProcessHandle(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Sends a signal by number; 0 only checks whether one could be sent.
    ///
    /// # Errors
    /// The process has ended, or belongs to another user.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let (fd, none) = (self.0.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: without an information record the call reads no memory.
        Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) })?;
        Ok(())
    }

    /// Waits for the end of the process. Returns false on timeout.
    ///
    /// # Errors
    /// The host is out of memory.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let end = Instant::now() + limit;
        loop {
            let rest = PollTimeout::try_from(end.saturating_duration_since(Instant::now())).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], rest) {
                Err(Errno::EINTR) => {}
                result => return Ok(result? > 0),
            }
        }
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sets close-on-exec on all descriptors from `first` on.
///
/// # Errors
/// The host is older than Linux 5.11 and does not list this process's descriptors.
pub fn keep_descriptors_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the call takes numbers only; the flag of a descriptor does not concern its owner.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if done == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|&number| number >= first) {
            // SAFETY: as above.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// A new descriptor for one that this process inherited. Descriptors opened since are not inherited ones: they have
/// close-on-exec set, which inherited ones do not have before [`keep_descriptors_from`].
///
/// # Errors
/// `EBADF`: there is no such descriptor.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: the descriptor is only borrowed for a call that fails if it is closed.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_GETFD)?;
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(Errno::EBADF.into());
    }
    borrowed.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_signalled_and_its_end_is_seen() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let handle = ProcessHandle::open(child.id() as i32).unwrap();
        assert!(!handle.wait(Duration::from_millis(1)).unwrap());
        handle.signal(0).unwrap();
        handle.signal(libc::SIGKILL).unwrap();
        assert!(handle.wait(Duration::from_secs(10)).unwrap());
        child.wait().unwrap();
        assert!(handle.signal(0).is_err());
    }

    #[test]
    fn numbers_without_a_descriptor_are_refused() {
        assert!(inherited(-1).is_err());
        assert!(inherited(1 << 20).is_err());
        assert!(inherited(2).is_ok());
    }
}
