//! `amber run`: everything from `create` to `delete`.

use std::process::Child;
use std::thread;

use amber_host::process::ProcessHandle;
use amber_host::signals::SignalWatch;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Runtime;
use super::create::{Created, create};
use super::{delete, start};
use crate::cli::RunArgs;
use crate::launch::FORWARDED;

/// Runs a container, and waits for its end unless that is not wanted.
///
/// # Errors
/// As for the commands it consists of.
pub fn command(runtime: &Runtime, args: &RunArgs) -> Result<u8> {
    let id = &args.create.id;
    let Created { mut child } = create(runtime, &args.create, !args.detach)?;
    // Before the start, so that none is missed.
    let signals = if args.detach { None } else { Some(SignalWatch::new(&FORWARDED).context("watching signals")?) };
    let started = start::command(runtime, id);
    let status = match (started, signals) {
        (Err(error), _) => {
            // What cannot be removed is less of a fault than what could not be started.
            let _ = child.kill();
            let _ = child.wait();
            let _ = delete::command(runtime, id, true);
            return Err(error);
        }
        (Ok(()), None) => return Ok(0),
        (Ok(()), Some(signals)) => {
            forward(signals, child.id() as i32)?;
            wait(child)?
        }
    };
    if !args.keep {
        delete::command(runtime, id, true)?;
    }
    Ok(status)
}

/// Gives what others send to this process on to the sandbox's. What the host's kernel sends both have.
fn forward(signals: SignalWatch, pid: i32) -> Result<()> {
    let handle = ProcessHandle::open(pid).context("the sandbox's process")?;
    let forward = move || {
        while let Ok(caught) = signals.next() {
            if !caught.from_kernel && handle.signal(caught.signal).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(forward).context("starting a thread")?;
    Ok(())
}

/// Waits for the end of the sandbox. When it stops, as for Ctrl-Z, this process does, so that the shell that started it
/// takes over; both are continued together.
fn wait(child: Child) -> Result<u8> {
    let pid = Pid::from_raw(child.id() as i32);
    loop {
        match waitpid(pid, Some(WaitPidFlag::WUNTRACED)).context("waiting for the sandbox")? {
            WaitStatus::Exited(_, code) => return Ok(code as u8),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as u8),
            WaitStatus::Stopped(..) => raise(Signal::SIGSTOP).context("stopping")?,
            _ => {}
        }
    }
}
