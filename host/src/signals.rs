//! Signals that other processes send to Amber's own process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A received signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The signal number.
    pub signal: i32,
    /// Whether the host's kernel sent it, as for a key of the terminal. Then all processes of the foreground group
    /// receive it.
    pub from_kernel: bool,
}

/// Receives signals in place of their default effect (signalfd(2)).
pub struct SignalWatch(SignalFd);

impl SignalWatch {
    /// Watches `signals`. They are blocked in the calling thread and in those it starts, so call this before other
    /// threads exist. Signals that the process ignores stay ignored, as nohup(1) requires.
    ///
    /// SIGXFSZ is blocked as well and never reported: a file larger than the process's limit only results in `EFBIG`.
    ///
    /// # Errors
    /// The host lacks file descriptors or memory.
    pub fn new(signals: &[Signal]) -> io::Result<SignalWatch> {
        let mut set = SigSet::empty();
        for &signal in signals {
            if !is_ignored(signal)? {
                set.add(signal);
            }
        }
        set.thread_block()?;
        SigSet::from(Signal::SIGXFSZ).thread_block()?;
        Ok(SignalWatch(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Watches every signal that can be forwarded to a program, including those that this process ignores: all but the
    /// signals for own faults and for children, and the highest one, which a platform uses between its threads. Call
    /// this before other threads exist.
    ///
    /// # Errors
    /// The host lacks file descriptors or memory.
    pub fn all() -> io::Result<SignalWatch> {
        let mut set = SigSet::all();
        for own in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGTRAP,
            Signal::SIGSYS,
            Signal::SIGCHLD,
        ] {
            set.remove(own);
        }
        let mut raw = *set.as_ref();
        // SAFETY: the set was made by the library and belongs to this function; the number is one of a signal.
        unsafe { libc::sigdelset(&mut raw, libc::SIGRTMAX()) };
        // SAFETY: the set was made by the library.
        let set = unsafe { SigSet::from_sigset_t_unchecked(raw) };
        set.thread_block()?;
        Ok(SignalWatch(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// The host cannot read the signals. All further calls will fail, too.
    pub fn next(&self) -> io::Result<Caught> {
        loop {
            match self.0.read_signal() {
                Ok(Some(info)) => {
                    return Ok(Caught { signal: info.ssi_signo as i32, from_kernel: info.ssi_code == libc::SI_KERNEL });
                }
                Ok(None) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for SignalWatch {
    /// Readable if a signal is pending. After a fork, each process receives its own signals.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether this process ignores a signal.
fn is_ignored(signal: Signal) -> io::Result<bool> {
    // SAFETY: all zeros is a valid `sigaction`: plain data, with the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no action is given, so none is changed, and the current one is written to the place given.
    Errno::result(unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut action) })?;
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

#[cfg(test)]
mod tests {
    use nix::sys::pthread::{pthread_kill, pthread_self};

    use super::*;

    #[test]
    fn a_signal_is_received_and_has_no_other_effect() {
        let watch = SignalWatch::new(&[Signal::SIGUSR2]).unwrap();
        pthread_kill(pthread_self(), Signal::SIGUSR2).unwrap();
        assert_eq!(watch.next().unwrap(), Caught { signal: libc::SIGUSR2, from_kernel: false });
    }

    #[test]
    fn ignored_signals_are_known() {
        // The standard library ignores SIGPIPE.
        assert!(is_ignored(Signal::SIGPIPE).unwrap());
        assert!(!is_ignored(Signal::SIGCHLD).unwrap());
    }
}
