//! Signals that others send to Amber's own process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Its number.
    pub signal: i32,
    /// Whether the host's kernel sent it, as for a key of the terminal, and not a process. All processes of the
    /// foreground group have it then.
    pub from_kernel: bool,
}

/// Receives signals in place of their usual effect.
pub struct SignalWatch(SignalFd);

impl SignalWatch {
    /// Watches `signals` from now on. They are blocked in the calling thread and those it will start, so this is called
    /// before there are others. Signals ignored by the process stay ignored, as `nohup` wants.
    ///
    /// SIGXFSZ is blocked as well, and never seen: a file too large for the process's limit is an `EFBIG`, and no more.
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

    /// Watches every signal that others may want to send on to a program, those this process ignores included: all but
    /// what tells of our own faults and children, and the highest, which a platform uses among its threads. To be called
    /// before there are other threads.
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
        // SAFETY: the set was made by the library and is our own; the number is one of a signal.
        unsafe { libc::sigdelset(&mut raw, libc::SIGRTMAX()) };
        // SAFETY: the set was made by the library.
        let set = unsafe { SigSet::from_sigset_t_unchecked(raw) };
        set.thread_block()?;
        Ok(SignalWatch(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// The host cannot read the signals; no further call will.
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
    /// Readable when a signal is there; in each process for its own signals, also after a fork.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether this process ignores a signal.
fn is_ignored(signal: Signal) -> io::Result<bool> {
    // SAFETY: all zeros is an action: plain data, in which no handler is the default.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no action is given, so none is changed, and the present one is written to the place given.
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
        // The standard library ignores it.
        assert!(is_ignored(Signal::SIGPIPE).unwrap());
        assert!(!is_ignored(Signal::SIGCHLD).unwrap());
    }
}
