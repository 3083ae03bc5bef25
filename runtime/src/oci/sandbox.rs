//! The process of a sandbox: `create` starts it, `start` lets the guest run, and it ends with the guest.

use std::fs::File;
use std::io::{IsTerminal, stdin};
use std::os::fd::{AsFd, OwnedFd};

use amber_host::channel::Channel;
use amber_host::fork::{Half, Kinship};
use amber_host::signals::SignalWatch;
use amber_host::terminal::{make_controlling, window_size};
use amber_sentry::config::NetworkKind;
use amber_sentry::profile::KernelProfile;
use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::control::{Failure, Launch, Step, Streams, receive, send};
use super::hooks;
use super::serve::Server;
use super::start_hooks::StartHooks;
use crate::bundle::Bundle;
use crate::caller::{self, Caller};
use crate::confine::{Confinement, Namespaces};
use crate::launch::{FORWARDED, Guest, HostIo, Suspension, keys, screen, standard_streams};
use crate::logging;

/// Runs the process to its end.
///
/// # Errors
/// The creator is gone or sent a malformed message.
pub(super) fn main() -> Result<u8> {
    // Until everything is ready, a sandbox does not outlive its creator.
    set_pdeathsig(Signal::SIGKILL).context("tying the sandbox to its maker")?;
    let channel: Channel = stdin().as_fd().try_clone_to_owned().context("standard input")?.into();
    let Some((launch, files)) = receive::<Launch>(&channel)? else { return Ok(1) };
    let guest = match prepare(&channel, launch, files) {
        Ok(Some(guest)) => guest,
        Ok(None) => return Ok(0),
        Err(error) => {
            send(&channel, &Step::Failed(Failure::of(&error)), &[])?;
            return Ok(1);
        }
    };
    // Before the creator is notified, since it may end then. If it ends earlier, the connection is closed.
    if guest.outlives {
        set_pdeathsig(None).context("untying the sandbox from its maker")?;
    }
    send(&channel, &Step::Ready, &[])?;
    let Some((Step::Go, _)) = receive::<Step>(&channel)? else { return Ok(1) };
    drop(channel);
    let served = guest.server.start(guest.guest.sandbox.clone())?;
    let status = guest.guest.wait();
    served.wait_for_others();
    Ok(status)
}

/// A sandbox that is ready, and its control socket.
struct Prepared {
    guest: Guest,
    server: Server,
    outlives: bool,
}

/// Prepares everything. Returns `None` in a process that was replaced by another.
fn prepare(channel: &Channel, launch: Launch, files: Vec<OwnedFd>) -> Result<Option<Prepared>> {
    logging::start(&launch.global)?;
    let profile = match &launch.global.kernel {
        Some(text) => KernelProfile::new(text).with_context(|| format!("--kernel {text}"))?,
        None => KernelProfile::default(),
    };
    let mut files = files.into_iter();
    let mut next = || files.next().context("a file is missing");
    let (input, output, errors, listener) = (next()?, next()?, next()?, next()?);
    let slave = if launch.streams == Streams::Terminal { Some(next()?) } else { None };
    let preserved: Vec<OwnedFd> = files.collect();
    // Stops are requested only while the sandbox is tied to its creator; later nothing reads them.
    let attached = launch.streams == Streams::Attached;
    // The first process of a PID namespace cannot look up the caller's process group.
    let mut size = None;
    if attached {
        dup2_stdin(&input).context("standard input")?;
        dup2_stdout(&output).context("standard output")?;
        dup2_stderr(&errors).context("standard error")?;
        size = caller::terminal();
    }

    let namespaces = Namespaces::specified(launch.spec.linux().as_ref())?;
    let mut confinement = Confinement::enter(namespaces)?.with_control_socket();
    let number = match confinement.split(Kinship::Sibling)? {
        Some(Half::Old(_)) => return Ok(None),
        Some(Half::New(number)) => number,
        None => std::process::id() as i32,
    };
    if !attached {
        setsid().context("starting a session")?;
    }
    send(channel, &Step::Namespaces(number), &[])?;
    let state = match receive::<Step>(channel)? {
        Some((Step::Hooked(state), _)) => state,
        _ => bail!("the command that creates the sandbox has ended"),
    };
    hooks::run_inside(launch.spec.hooks().as_ref(), &state)?;

    let (stdio, terminal, signals) = match &slave {
        Some(slave) => {
            dup2_stdin(File::open("/dev/null").context("/dev/null")?).context("standard input")?;
            make_controlling(slave).context("taking the terminal")?;
            // The caller of `create` waits until no process holds standard output open.
            dup2_stdout(slave).context("standard output")?;
            dup2_stderr(slave).context("standard error")?;
            let copy = || slave.try_clone().context("duplicating a descriptor");
            ([None, None, None], Some((copy()?, copy()?)), SignalWatch::all())
        }
        None if attached => {
            let wants = launch.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
            let terminal = if stdin().is_terminal() { Some((keys()?, screen()?)) } else { None };
            (standard_streams(wants)?, terminal, SignalWatch::new(&FORWARDED))
        }
        None => {
            dup2_stdin(File::open("/dev/null").context("/dev/null")?).context("standard input")?;
            ([Some(input), Some(output), Some(errors)], None, SignalWatch::all())
        }
    };
    let signals = signals.context("watching signals")?;
    Caller::take_over().context("limits")?;
    if let Some(slave) = &slave {
        size = window_size(slave).map(|size| Some((size.rows, size.columns))).context("the terminal")?;
    }
    let bundle = Bundle { directory: launch.bundle, spec: launch.spec };
    let hooks = StartHooks::of(&bundle.spec, &state)?;
    let mut config = bundle.sandbox(&launch.id, profile, size)?;
    // The sandbox is already in the network namespace that it may reach.
    config.network = NetworkKind::Host;
    let limits = config.limits;
    let descriptors = stdio.into_iter().chain(preserved.into_iter().map(Some)).collect();
    let suspension = if launch.job_control {
        Some(Suspension::OnRequest(OwnedFd::from(channel.try_clone().context("duplicating a descriptor")?).into()))
    } else {
        None
    };
    let io = HostIo { descriptors, terminal, signals, suspension };
    let guest = Guest::boot(config, &launch.global, io, confinement)?;
    let server = Server::new(listener, limits, hooks);
    Ok(Some(Prepared { guest, server, outlives: !attached }))
}
