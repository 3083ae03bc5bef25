//! The guest's console: its terminal connected to the one in which Amber was started.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use amber_host::terminal::{RawMode, WindowSize, window_size};
use parking_lot::Mutex;

/// The master side of the guest's terminal.
pub(crate) trait ConsoleMaster: Send + Sync {
    /// Waits for output of the guest. Returns 0 once no guest process is left.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes input to the guest's terminal; waits while its queue is full.
    fn write(&self, buf: &[u8]) -> io::Result<usize>;
    /// Sets the size of the guest's terminal.
    fn resize(&self, size: WindowSize);
    /// Hangs up the guest's terminal.
    fn hangup(&self);
}

/// Keeps a guest terminal at the size of a host terminal.
pub(crate) struct Resizer {
    master: Arc<dyn ConsoleMaster>,
    host: OwnedFd,
}

impl Resizer {
    /// Sets the guest's terminal to the size of the host's, without effect if it is the same. To be called upon
    /// SIGWINCH.
    pub(crate) fn resized(&self) {
        if let Ok(size) = window_size(self.host.as_fd()) {
            self.master.resize(size);
        }
    }
}

/// A guest terminal connected to a host terminal. The host's is in raw mode meanwhile, so that the guest's line
/// discipline interprets the keys.
pub(crate) struct Relay {
    resizer: Arc<Resizer>,
    output: JoinHandle<()>,
    raw: Arc<Mutex<Option<RawMode>>>,
}

/// Returns the host terminal to its original mode for a while.
pub(crate) struct Suspender {
    raw: Arc<Mutex<Option<RawMode>>>,
    resizer: Arc<Resizer>,
}

impl Suspender {
    /// Restores the host terminal, calls `work`, and returns to raw mode.
    pub(crate) fn suspended(&self, work: impl FnOnce()) {
        // Dropping the raw mode restores the terminal.
        drop(self.raw.lock().take());
        work();
        match RawMode::enter(&self.resizer.host) {
            Ok(raw) => *self.raw.lock() = Some(raw),
            Err(error) => log::info!("the terminal cannot be taken again: {error}"),
        }
        self.resizer.resized();
    }
}

impl Relay {
    /// Connects `master` to the host terminal that these two files have open.
    ///
    /// # Errors
    /// The files are not a terminal.
    pub(crate) fn start(master: Arc<dyn ConsoleMaster>, keys: OwnedFd, screen: OwnedFd) -> io::Result<Relay> {
        let host = screen.try_clone()?;
        master.resize(window_size(host.as_fd())?);
        let raw = RawMode::enter(&keys)?;
        let resizer = Arc::new(Resizer { master: master.clone(), host });
        let typed = resizer.clone();
        thread::Builder::new().name("console-keys".into()).spawn(move || pass_keys(File::from(keys), &typed))?;
        let printed = master;
        let output = thread::Builder::new()
            .name("console-screen".into())
            .spawn(move || pass_output(&*printed, File::from(screen)))?;
        Ok(Relay { resizer, output, raw: Arc::new(Mutex::new(Some(raw))) })
    }

    /// A handle that keeps both terminals at the same size.
    pub(crate) fn resizer(&self) -> Arc<Resizer> {
        self.resizer.clone()
    }

    /// A handle that restores the host terminal for a while.
    pub(crate) fn suspender(&self) -> Suspender {
        Suspender { raw: self.raw.clone(), resizer: self.resizer.clone() }
    }

    /// Waits until all output of the guest is on the screen, and restores the host terminal.
    pub(crate) fn finish(self) {
        // A panic of that thread was reported already.
        let _ = self.output.join();
        drop(self.raw.lock().take());
    }
}

fn pass_keys(mut keys: File, resizer: &Resizer) {
    let master = &*resizer.master;
    let mut buf = [0; 4096];
    loop {
        match keys.read(&mut buf).map(|n| buf.get(..n)) {
            Ok(Some(mut rest @ [_, ..])) => {
                // Input typed after a change of size must not arrive before the new size, however late the signal is.
                resizer.resized();
                while let Ok(done @ 1..) = master.write(rest)
                    && let Some(left @ [_, ..]) = rest.get(done..)
                {
                    rest = left;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // In raw mode no key causes an end of file: the terminal is gone.
            _ => return master.hangup(),
        }
    }
}

fn pass_output(master: &dyn ConsoleMaster, mut screen: File) {
    let mut buf = [0; 16384];
    loop {
        match master.read(&mut buf).map(|n| buf.get(..n)) {
            Ok(Some(output @ [_, ..])) => {
                if let Err(error) = screen.write_all(output) {
                    log::info!("the terminal takes no more output: {error}");
                    return master.hangup();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    use nix::pty::{Winsize, openpty};

    use super::*;

    struct FakeGuest {
        end: UnixStream,
        events: Mutex<Vec<String>>,
    }

    impl ConsoleMaster for FakeGuest {
        fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
            (&self.end).read(buf)
        }
        fn write(&self, buf: &[u8]) -> io::Result<usize> {
            (&self.end).write(buf)
        }
        fn resize(&self, size: WindowSize) {
            self.events.lock().unwrap().push(format!("{}x{}", size.rows, size.columns));
        }
        fn hangup(&self) {
            self.events.lock().unwrap().push("gone".into());
        }
    }

    #[test]
    fn keys_and_output_pass_unchanged() {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let (end, mut guest) = UnixStream::pair().unwrap();
        let master = Arc::new(FakeGuest { end, events: Mutex::default() });
        let relay = Relay::start(master.clone(), pty.slave.try_clone().unwrap(), pty.slave).unwrap();
        let mut user = File::from(pty.master);

        user.write_all(b"ls\x03\x04\r").unwrap();
        let mut keys = [0; 5];
        guest.read_exact(&mut keys).unwrap();
        assert_eq!(&keys, b"ls\x03\x04\r");

        guest.write_all(b"a\nb\r\n").unwrap();
        let mut screen = [0; 5];
        user.read_exact(&mut screen).unwrap();
        assert_eq!(&screen, b"a\nb\r\n");

        relay.resizer().resized();
        drop(guest);
        relay.finish();
        assert_eq!(*master.events.lock().unwrap(), ["24x80", "24x80", "24x80"]);
    }
}
