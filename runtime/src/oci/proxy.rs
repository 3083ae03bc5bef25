//! The proxy on the host of an additional guest process: forwards signals to it and ends with its status.

use std::fs::File;
use std::io::stdin;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use amber_host::channel::Channel;
use amber_host::process::ProcessHandle;
use amber_host::signals::SignalWatch;
use amber_host::terminal::make_controlling;
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, SIGKILL, flock};
use nix::sys::signal::Signal;
use nix::unistd::setsid;

use super::console::StreamConsole;
use super::control::{Reply, Request, receive, send};
use crate::console::Relay;

/// How long all proxies together may take to end.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The exit status if the sandbox was killed.
const KILLED: u8 = 128 + 9;

/// A terminal of the host, and the stream to the guest's.
pub(crate) struct Terminal {
    /// The stream of input and output.
    pub stream: OwnedFd,
    /// The source of keys.
    pub keys: OwnedFd,
    /// The destination of output.
    pub screen: OwnedFd,
}

/// Runs a proxy that `exec` started.
///
/// # Errors
/// The starter is gone or sent a malformed message.
pub(crate) fn main() -> Result<u8> {
    // Before the first signal for the guest can arrive.
    let signals = SignalWatch::all().context("watching signals")?;
    let parent: Channel = stdin().as_fd().try_clone_to_owned().context("standard input")?.into();
    let Some(((), files)) = receive(&parent)? else { return Ok(KILLED) };
    drop(parent);
    setsid().context("starting a session")?;
    let mut files = files.into_iter();
    let channel = Channel::from(files.next().context("the connection is missing")?);
    let registry = File::from(files.next().context("the list of proxies is missing")?);
    let own = lock_of(std::process::id().into());
    fcntl(&registry, FcntlArg::F_SETLK(&own)).context("the list of proxies")?;
    let terminal = match (files.next(), files.next(), files.next()) {
        (Some(stream), Some(keys), Some(screen)) => {
            // The host then sends SIGWINCH for size changes.
            make_controlling(&keys).context("taking the terminal")?;
            Some(Terminal { stream, keys, screen })
        }
        _ => None,
    };
    run(channel, terminal, signals)
}

/// The record lock that registers a proxy while it lives: that of the byte at its process ID.
fn lock_of(number: i64) -> flock {
    flock { l_type: F_WRLCK as i16, l_whence: SEEK_SET as i16, l_start: number, l_len: 1, l_pid: 0 }
}

/// Kills all proxies of a container, so that their parents are notified before the container's end. Waits for that with
/// a time limit.
///
/// The host reports the holder of a lock and drops the lock with it, so the registry never names an ended or an
/// unrelated process.
pub(crate) fn end_all(registry: &File) {
    let deadline = Instant::now() + TIMEOUT;
    let holder = || {
        let mut lock = flock { l_len: 0, ..lock_of(0) };
        let asked = fcntl(registry, FcntlArg::F_GETLK(&mut lock));
        asked.ok().filter(|_| lock.l_type != F_UNLCK as i16).map(|_| lock.l_pid)
    };
    while let Some(pid) = holder()
        && Instant::now() < deadline
    {
        // A proxy that has just ended does not stop the loop. Check the lock again: the process ID may have been reused
        // before the handle was opened.
        let handle = ProcessHandle::open(pid).ok().filter(|_| holder() == Some(pid));
        let Some(handle) = handle.filter(|handle| handle.signal(SIGKILL).is_ok()) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        // Poll until it is reaped: nothing notifies of that.
        while handle.signal(0).is_ok() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Acts as the proxy of a process until the process ends, and returns its exit status. `signals` must have been set up
/// before there were other threads.
///
/// # Errors
/// The terminal is invalid, or the host has no threads left.
pub(crate) fn run(channel: Channel, terminal: Option<Terminal>, signals: SignalWatch) -> Result<u8> {
    let relay = match terminal {
        Some(Terminal { stream, keys, screen }) => {
            let console = StreamConsole { stream: stream.into(), channel: channel.try_clone()? };
            Some(Relay::start(Arc::new(console), keys, screen).context("joining the terminals")?)
        }
        None => None,
    };
    let resizer = relay.as_ref().map(Relay::resizer);
    let told = channel.try_clone().context("duplicating a descriptor")?;
    let forward = move || {
        while let Ok(caught) = signals.next() {
            match &resizer {
                Some(resizer) if caught.signal == Signal::SIGWINCH as i32 => resizer.resized(),
                _ if send(&told, &Request::Signal(caught.signal), &[]).is_err() => return,
                _ => {}
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(forward).context("starting a thread")?;
    let status = loop {
        match receive(&channel) {
            Ok(Some((Reply::Ended(status), _))) => break status,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break KILLED,
        }
    };
    if let Some(relay) = relay {
        relay.finish();
    }
    Ok(status)
}
