//! The guest's console: its terminal joined to the one Amber was started at.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use amber_host::terminal::{RawMode, WindowSize, window_size};
use parking_lot::Mutex;

/// The master side of the guest's terminal.
pub trait ConsoleMaster: Send + Sync {
    /// Waits for what the guest printed; 0 bytes once no guest is left.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Types at the guest's terminal, waiting while its input queue is full.
    fn write(&self, buf: &[u8]) -> io::Result<usize>;
    /// Tells the guest of a new size.
    fn resize(&self, size: WindowSize);
    /// Tells the guest that its terminal is gone.
    fn hangup(&self);
}

/// Makes a guest terminal as large as a host terminal.
pub struct Resizer {
    master: Arc<dyn ConsoleMaster>,
    host: OwnedFd,
}

impl Resizer {
    /// Gives the size of the host terminal on to the guest, for whom the same size again is no news; to be called upon
    /// SIGWINCH.
    pub fn resized(&self) {
        if let Ok(size) = window_size(self.host.as_fd()) {
            self.master.resize(size);
        }
    }
}

/// A guest terminal and a host terminal joined. The host's is in raw mode meanwhile: keys mean what the guest's line
/// discipline makes of them.
pub struct Relay {
    resizer: Arc<Resizer>,
    output: JoinHandle<()>,
    raw: Arc<Mutex<Option<RawMode>>>,
}

/// Gives the host terminal back for a while.
pub struct Suspender {
    raw: Arc<Mutex<Option<RawMode>>>,
    resizer: Arc<Resizer>,
}

impl Suspender {
    /// Restores the host terminal, does something, and takes the terminal again.
    pub fn suspended(&self, work: impl FnOnce()) {
        // Dropping it restores the terminal.
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
    /// Joins `master` to the host terminal with these two open files.
    ///
    /// # Errors
    /// They are not a terminal.
    pub fn start(master: Arc<dyn ConsoleMaster>, keys: OwnedFd, screen: OwnedFd) -> io::Result<Relay> {
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

    /// What keeps both of one size.
    pub fn resizer(&self) -> Arc<Resizer> {
        self.resizer.clone()
    }

    /// What gives the host terminal back for a while.
    pub fn suspender(&self) -> Suspender {
        Suspender { raw: self.raw.clone(), resizer: self.resizer.clone() }
    }

    /// Waits until all that the guest printed is on the screen and restores the host terminal.
    pub fn finish(self) {
        // A panic over there was already reported.
        let _ = self.output.join();
        drop(self.raw.lock().take());
    }
}

fn pass_keys(mut keys: File, resizer: &Resizer) {
    let master = &*resizer.master;
    let mut buf = [0; 4096];
    loop {
        match keys.read(&mut buf) {
            Ok(n) if n > 0 => {
                // What was typed after a change of size must not arrive before it, however late the signal is.
                resizer.resized();
                let mut rest = &buf[..n];
                while let Ok(done @ 1..) = master.write(rest)
                    && done < rest.len()
                {
                    rest = &rest[done..];
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // In raw mode no key makes an end of file: the terminal is gone.
            _ => return master.hangup(),
        }
    }
}

fn pass_output(master: &dyn ConsoleMaster, mut screen: File) {
    let mut buf = [0; 16384];
    loop {
        match master.read(&mut buf) {
            Ok(n) if n > 0 => {
                if let Err(error) = screen.write_all(&buf[..n]) {
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
