//! Terminals of containers: sent to the console socket, and connected to those of the guest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use amber_abi::termios::Winsize;
use amber_host::channel::{Channel, send_file};
use amber_host::terminal::{WindowSize, make_pair};
use amber_sentry::Console;
use anyhow::{Context, Result};
use nix::sys::socket::{Shutdown, shutdown};

use super::control::{Request, send};
use crate::console::ConsoleMaster;

/// A terminal for a container: the master is sent to a socket, the slave is kept.
pub(crate) struct Pair {
    master: OwnedFd,
    socket: UnixStream,
    /// The slave.
    pub slave: OwnedFd,
}

impl Pair {
    /// Makes a terminal for the listener at this socket.
    ///
    /// # Errors
    /// Nothing listens at the socket, or the host has no terminals left.
    pub(crate) fn make(socket: &Path, size: WindowSize) -> Result<Pair> {
        let connected = UnixStream::connect(socket);
        let socket = connected.with_context(|| format!("console socket {}", socket.display()))?;
        let (master, slave) = make_pair(size).context("making a terminal")?;
        Ok(Pair { master, socket, slave })
    }

    /// Sends the master.
    ///
    /// # Errors
    /// The listener has closed the connection.
    pub(crate) fn send(self) -> Result<()> {
        send_file(&self.socket, b"/dev/ptmx", self.master.as_fd()).context("sending the console")
    }
}

/// The master of a guest terminal, connected by a stream; its size is sent over the channel.
pub(crate) struct StreamConsole {
    /// The stream of input and output.
    pub stream: UnixStream,
    /// The connection of the process.
    pub channel: Channel,
}

impl ConsoleMaster for StreamConsole {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        (&self.stream).write(buf)
    }

    fn resize(&self, size: WindowSize) {
        if let Err(error) = send(&self.channel, &Request::Resize(size.into()), &[]) {
            log::debug!("a new size is not told: {error:#}");
        }
    }

    fn hangup(&self) {
        // The stream may be closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

/// In the sandbox: connects a guest's terminal to a stream, until no guest process is left.
///
/// # Errors
/// The host has no threads left.
pub(crate) fn join(console: &Arc<Console>, stream: UnixStream) -> io::Result<thread::JoinHandle<()>> {
    // Converted to files, since sockets of the standard library use other host calls to read and write.
    let stream = File::from(OwnedFd::from(stream));
    let (keys, typed) = (stream.try_clone()?, console.clone());
    thread::Builder::new().name("exec-keys".into()).spawn(move || pass_keys(keys, &typed))?;
    let printed = console.clone();
    thread::Builder::new().name("exec-screen".into()).spawn(move || pass_output(&printed, stream))
}

fn pass_keys(mut keys: File, console: &Console) {
    let mut buf = [0; 4096];
    loop {
        match keys.read(&mut buf) {
            Ok(n @ 1..) => {
                let mut rest = buf.get(..n).unwrap_or_default();
                while !rest.is_empty() {
                    match console.write(rest) {
                        0 => return,
                        done => rest = rest.get(done..).unwrap_or_default(),
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return console.hang_up(),
        }
    }
}

fn pass_output(console: &Console, mut screen: File) {
    let mut buf = [0; 16384];
    loop {
        match console.read(&mut buf) {
            0 => break,
            n => {
                if screen.write_all(buf.get(..n).unwrap_or_default()).is_err() {
                    break;
                }
            }
        }
    }
    // The other direction may still wait for input.
    let _ = shutdown(screen.as_raw_fd(), Shutdown::Both);
}

/// Sets the size of a guest's terminal.
pub(crate) fn resize(console: &Console, size: WindowSize) {
    let WindowSize { rows, columns, x_pixels, y_pixels } = size;
    console.resize(Winsize { ws_row: rows, ws_col: columns, ws_xpixel: x_pixels, ws_ypixel: y_pixels });
}
