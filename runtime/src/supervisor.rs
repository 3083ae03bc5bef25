//! The process outside a sandbox, which its caller started. It forwards signals to the sandbox, stops with it, and ends
//! with its status.

use std::fs::File;
use std::io::{Read, Write, stdin};
use std::os::fd::AsFd;

use amber_host::process::ProcessHandle;
use amber_host::signals::SignalWatch;
use amber_host::terminal::{When, modes, set_modes};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::launch::STOP;

/// The stop signals of terminals and shells. They do not stop the sandbox, the first process of its PID namespace.
const STOPPING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Waits for the end of the sandbox, a child of this process, and returns the exit status. `stops` carries the
/// sandbox's requests to stop both processes. Signals from the host's kernel, as for a key, are not forwarded, since
/// the sandbox receives them as well. Starts no threads, which a process with children in another PID namespace cannot.
///
/// # Errors
/// The host has no descriptors left.
pub(crate) fn supervise(pid: i32, signals: SignalWatch, mut stops: Option<File>) -> Result<u8> {
    let sandbox = ProcessHandle::open(pid).context("the sandbox's process")?;
    let stopping = SignalWatch::new(&STOPPING).context("watching signals")?;
    let terminal = modes(stdin()).ok();
    loop {
        let mut waits = vec![wait_for(&sandbox), wait_for(&signals), wait_for(&stopping)];
        waits.extend(stops.as_ref().map(wait_for));
        match poll(&mut waits, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result.context("waiting for the sandbox")?,
        };
        let ready: Vec<bool> = waits.iter().map(|wait| wait.any() == Some(true)).collect();
        let [ended, signalled, stopped, asking] = [0, 1, 2, 3].map(|index| ready.get(index) == Some(&true));
        if ended {
            break;
        }
        if signalled {
            let caught = signals.next().context("reading signals")?;
            if !caught.from_kernel {
                // It may have ended already.
                let _ = sandbox.signal(caught.signal);
            }
        }
        if stopped {
            stopping.next().context("reading signals")?;
            stop(&sandbox)?;
        }
        if asking && !stops.as_mut().is_some_and(|stops| answer(stops, &sandbox)) {
            stops = None;
        }
    }
    match waitpid(Pid::from_raw(pid), None).context("waiting for the sandbox")? {
        WaitStatus::Exited(_, code) => Ok(code as u8),
        WaitStatus::Signaled(_, signal, _) => {
            // A killed sandbox could not restore the terminal.
            if let Some(before) = terminal {
                // The terminal may be gone.
                let _ = set_modes(stdin(), &before, When::Now);
            }
            Ok(128 + signal as u8)
        }
        other => Err(anyhow::anyhow!("the sandbox ended with {other:?}")),
    }
}

fn wait_for(file: &impl AsFd) -> PollFd<'_> {
    PollFd::new(file.as_fd(), PollFlags::POLLIN)
}

/// Stops both processes; returns when they continue.
fn stop(sandbox: &ProcessHandle) -> Result<()> {
    // It may have ended already.
    let _ = sandbox.signal(Signal::SIGSTOP as i32);
    raise(Signal::SIGSTOP).context("stopping")?;
    let _ = sandbox.signal(Signal::SIGCONT as i32);
    Ok(())
}

/// Carries out a request of the sandbox; false once it makes no more.
fn answer(stops: &mut File, sandbox: &ProcessHandle) -> bool {
    let mut byte = [0];
    let came = stops.read_exact(&mut byte).is_ok() && byte == [STOP];
    came && stop(sandbox).is_ok() && stops.write_all(&byte).is_ok()
}
