//! The host's terminal: its modes and size, and raw mode, which is left on every way out.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use parking_lot::Mutex;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// The number of lines.
    pub rows: u16,
    /// The number of columns.
    pub columns: u16,
    /// Width in pixels, or 0 if unknown.
    pub x_pixels: u16,
    /// Height in pixels, or 0 if unknown.
    pub y_pixels: u16,
}

mod call {
    use super::MODES_BYTES;

    nix::ioctl_read_bad!(tiocgwinsz, libc::TIOCGWINSZ, libc::winsize);
    nix::ioctl_read_bad!(tcgets2, libc::TCGETS2, [u8; MODES_BYTES]);
    nix::ioctl_write_ptr_bad!(tcsets2, libc::TCSETS2, [u8; MODES_BYTES]);
    nix::ioctl_write_ptr_bad!(tcsetsw2, libc::TCSETSW2, [u8; MODES_BYTES]);
    nix::ioctl_write_ptr_bad!(tcsetsf2, libc::TCSETSF2, [u8; MODES_BYTES]);
    nix::ioctl_read_bad!(fionread, libc::FIONREAD, libc::c_int);
    nix::ioctl_read_bad!(tiocoutq, libc::TIOCOUTQ, libc::c_int);
    nix::ioctl_write_int_bad!(tcflsh, libc::TCFLSH);
    nix::ioctl_write_int_bad!(tcxonc, libc::TCXONC);
    nix::ioctl_write_int_bad!(tcsbrk, libc::TCSBRK);
    nix::ioctl_write_int_bad!(tiocsctty, libc::TIOCSCTTY);
}

/// Size of `struct termios2`, in which Linux passes a terminal's modes.
pub const MODES_BYTES: usize = 44;

/// When changed modes take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once (`TCSANOW`).
    Now,
    /// When all output is transmitted (`TCSADRAIN`).
    Drained,
    /// Likewise, and pending input is discarded (`TCSAFLUSH`).
    Flushed,
}

/// The modes of a terminal, as Linux's `struct termios2`.
///
/// # Errors
/// It is not a terminal.
pub fn modes(fd: impl AsFd) -> io::Result<[u8; MODES_BYTES]> {
    let mut modes = [0; MODES_BYTES];
    // SAFETY: the call writes one `termios2` to the place given, which has its size.
    unsafe { call::tcgets2(fd.as_fd().as_raw_fd(), &mut modes) }?;
    Ok(modes)
}

/// Changes the modes of a terminal.
///
/// # Errors
/// It is not a terminal, or it is gone.
pub fn set_modes(fd: impl AsFd, modes: &[u8; MODES_BYTES], when: When) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the calls read one `termios2` from the place given, which has its size.
    unsafe {
        match when {
            When::Now => call::tcsets2(fd, modes),
            When::Drained => call::tcsetsw2(fd, modes),
            When::Flushed => call::tcsetsf2(fd, modes),
        }
    }?;
    Ok(())
}

/// Pending input and output in bytes (`TIOCINQ`, `TIOCOUTQ`).
///
/// # Errors
/// It is not a terminal.
pub fn queued(fd: impl AsFd) -> io::Result<(i32, i32)> {
    let fd = fd.as_fd().as_raw_fd();
    let (mut input, mut output) = (0, 0);
    // SAFETY: each call writes one `int` to the place given.
    unsafe { (call::fionread(fd, &mut input)?, call::tiocoutq(fd, &mut output)?) };
    Ok((input, output))
}

/// The operations of tcflush(3), tcflow(3) and tcsendbreak(3), with Linux's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Discards queued bytes.
    Flush(i32),
    /// Suspends or resumes a direction.
    Flow(i32),
    /// Waits until all output is transmitted. Sends a break first if the number is 0.
    Drain(i32),
}

/// Controls the queues of a terminal.
///
/// # Errors
/// It is not a terminal, or the number is invalid.
pub fn control(fd: impl AsFd, control: Control) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: none of these calls takes an address.
    unsafe {
        match control {
            Control::Flush(queue) => call::tcflsh(fd, queue),
            Control::Flow(action) => call::tcxonc(fd, action),
            Control::Drain(how) => call::tcsbrk(fd, how),
        }
    }?;
    Ok(())
}

/// Opens the controlling terminal, if there is one and this process is in its foreground process group.
pub fn controlling() -> Option<OwnedFd> {
    let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty").ok()?;
    (tcgetpgrp(&terminal) == Ok(getpgrp())).then(|| terminal.into())
}

/// The size of a terminal.
///
/// # Errors
/// It is not a terminal.
pub fn window_size(fd: impl AsFd) -> io::Result<WindowSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes one `winsize` to the place given, which is one.
    unsafe { call::tiocgwinsz(fd.as_fd().as_raw_fd(), &mut size) }?;
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col, x_pixels: size.ws_xpixel, y_pixels: size.ws_ypixel })
}

/// Makes a pseudoterminal: master and slave.
///
/// # Errors
/// The host has no terminals or descriptors left.
pub fn make_pair(size: WindowSize) -> io::Result<(OwnedFd, OwnedFd)> {
    let size = nix::pty::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.x_pixels,
        ws_ypixel: size.y_pixels,
    };
    let pair = nix::pty::openpty(&size, None)?;
    for end in [&pair.master, &pair.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((pair.master, pair.slave))
}

/// Makes the terminal the controlling one of this process's session. The process must be the session leader, and the
/// session must not have a controlling terminal.
///
/// # Errors
/// The process is not a session leader, or the terminal belongs to another session.
pub fn make_controlling(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: the call takes a number only.
    unsafe { call::tiocsctty(terminal.as_fd().as_raw_fd(), 0) }?;
    Ok(())
}

/// The terminal in raw mode and its previous modes. A process has at most one.
static RAW: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// Keeps a terminal in raw mode: each key is passed on at once and none is interpreted.
#[must_use]
pub struct RawMode(());

impl RawMode {
    /// Puts the terminal into raw mode until this is dropped or [`restore_terminal`] is called.
    ///
    /// # Errors
    /// It is not a terminal, or it is gone.
    pub fn enter(terminal: impl AsFd) -> io::Result<RawMode> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // Save the modes first, for a panic in between.
        let mut saved = RAW.lock();
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw)?;
        *saved = Some((terminal, before));
        Ok(RawMode(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Ends raw mode, if a terminal is in it. For ways out without destructors, such as a panic hook.
pub fn restore_terminal() {
    if let Some((terminal, before)) = RAW.lock().take() {
        // If the terminal is gone, there is nothing to restore.
        let _ = tcsetattr(&terminal, SetArg::TCSADRAIN, &before);
    }
}

/// Like [`restore_terminal`], for signal handlers: does not wait for the lock.
pub fn restore_if_free() {
    if let Some(mut saved) = RAW.try_lock()
        && let Some((terminal, before)) = saved.as_ref()
    {
        let _ = tcsetattr(terminal, SetArg::TCSADRAIN, before);
        // The handler ends the process, so the descriptor need not be closed.
        std::mem::forget(saved.take());
    }
}

/// Whether a terminal is in raw mode.
pub fn is_raw() -> bool {
    RAW.lock().is_some()
}

#[cfg(test)]
mod tests {
    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::LocalFlags;

    use super::*;

    #[test]
    fn raw_mode_is_left_as_it_was_found() {
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let size = window_size(&pty.slave).unwrap();
        assert_eq!((size.rows, size.columns), (33, 101));
        let canonical = || tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO);
        assert!(canonical());
        let raw = RawMode::enter(&pty.slave).unwrap();
        assert!(!canonical());
        drop(raw);
        assert!(canonical());
    }

    #[test]
    fn a_file_is_no_terminal() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(window_size(&file).is_err());
        assert!(RawMode::enter(&file).is_err());
    }
}
