//! Who stands on the host for a further process of the guest: gives signals on to it and ends as it does.

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

/// How long the ends of all proxies may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The exit status of a process whose sandbox was killed.
const KILLED: u8 = 128 + 9;

/// A terminal of the host, and the stream to the guest's.
pub struct Terminal {
    /// What is typed and printed.
    pub stream: OwnedFd,
    /// Where keys come from.
    pub keys: OwnedFd,
    /// Where output goes.
    pub screen: OwnedFd,
}

/// Runs a proxy that `exec` left behind.
///
/// # Errors
/// Whoever started it is gone or talks nonsense.
pub fn main() -> Result<u8> {
    // Before the first that is meant for the guest can arrive.
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
            // So that the host tells us of its new sizes.
            make_controlling(&keys).context("taking the terminal")?;
            Some(Terminal { stream, keys, screen })
        }
        _ => None,
    };
    run(channel, terminal, signals)
}

/// The lock by which a proxy is found as long as it lives: that of the byte of its number.
fn lock_of(number: i64) -> flock {
    flock { l_type: F_WRLCK as i16, l_whence: SEEK_SET as i16, l_start: number, l_len: 1, l_pid: 0 }
}

/// Kills all proxies of a container, so that their parent hears of their ends before it does of the container's. What
/// takes longer than a while is left.
///
/// The host knows who holds a lock, and drops it with its holder: so nobody is listed who is gone, nor a stranger.
pub fn end_all(registry: &File) {
    let deadline = Instant::now() + TIMEOUT;
    let holder = || {
        let mut lock = flock { l_len: 0, ..lock_of(0) };
        let asked = fcntl(registry, FcntlArg::F_GETLK(&mut lock));
        asked.ok().filter(|_| lock.l_type != F_UNLCK as i16).map(|_| lock.l_pid)
    };
    while let Some(pid) = holder()
        && Instant::now() < deadline
    {
        // One that just ends is no reason to leave the others. Before the handle was there, the number may have become
        // another's.
        let handle = ProcessHandle::open(pid).ok().filter(|_| holder() == Some(pid));
        let Some(handle) = handle.filter(|handle| handle.signal(SIGKILL).is_ok()) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        // Until it is reaped; nothing tells of that.
        while handle.signal(0).is_ok() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Stands for a process until its end, and answers its exit status. The signals were watched before there were other
/// threads.
///
/// # Errors
/// The terminal is none, or the host has no threads left.
pub fn run(channel: Channel, terminal: Option<Terminal>, signals: SignalWatch) -> Result<u8> {
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
