//! Running a sandbox, from its configuration to its exit status.

use std::fs::File;
use std::io::{IsTerminal, Read, Write, stderr, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

use amber_abi::termios::Winsize;
use amber_host::fork::{Half, Kinship};
use amber_host::processor::limit_arenas;
use amber_host::signals::SignalWatch;
use amber_host::speculation;
use amber_host::terminal::WindowSize;
use amber_platform::{GuestMemory, Platform};
use amber_sentry::Console;
use amber_sentry::config::{Descriptors, ExitStatus, SandboxConfig, TraceFilter};
use amber_sentry::entries;
use amber_sentry::sandbox::Sandbox;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, raise};
use nix::unistd::{getpgid, getpgrp, getppid, getsid};

use crate::cli::{GlobalArgs, Network};
use crate::confine::{self, Confinement, Namespaces};
use crate::console::{ConsoleMaster, Relay, Resizer, Suspender};
use crate::metrics::Metrics;
use crate::printable::Printable;
use crate::supervisor::supervise;
use crate::{logging, platforms, proc_view};

/// Signals that are forwarded to the guest's first process instead of ending Amber.
pub(crate) const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
];

/// Signals that end a command waiting for a sandbox's answer, while signals for the guest are watched already.
pub(crate) const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Heap arenas per CPU: the C library's default. With a memory limit, freed memory can be reused by other threads.
const ARENAS: usize = 8;
const ARENAS_WITHIN_LIMIT: usize = 1;

/// The host resources of a sandbox.
pub(crate) struct HostIo {
    /// The guest's initial descriptors.
    pub descriptors: Descriptors,
    /// The host terminal to connect to the guest's, if it has one: for keys and for output.
    pub terminal: Option<(OwnedFd, OwnedFd)>,
    /// The signals for the guest. Watched before threads start, which would receive them otherwise.
    pub signals: SignalWatch,
    /// How Amber stops when the guest's first process does; `None` if no shell would continue it.
    pub suspension: Option<Suspension>,
}

/// How Amber stops, so that the shell regains control.
pub(crate) enum Suspension {
    /// The shell's child is the sandbox's process.
    Own,
    /// The shell's child stays outside. The sandbox, as the first process of its PID namespace, cannot stop itself: it
    /// sends a byte to request that both stop, and receives one when both continue.
    OnRequest(File),
}

/// The byte that requests a stop of both processes, and that reports their continuation.
pub(crate) const STOP: u8 = b'Z';

/// A sandbox that is ready to be started.
pub(crate) struct Guest {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    platform: Arc<dyn Platform>,
    relay: Option<Relay>,
    metrics: Option<Metrics>,
}

/// Runs a sandbox to its end and returns the exit status.
pub(crate) fn launch(config: SandboxConfig, args: &GlobalArgs) -> Result<u8> {
    let mut namespaces = Namespaces::own(config.network);
    if let Network::Namespace(path) = &args.network {
        namespaces.join_network(path);
    }
    let mut confinement = Confinement::enter(namespaces)?;
    confine::bound_to_serving().context("giving up capabilities")?;
    // Blocked in both processes, so that no signal is lost before the sandbox can forward them.
    let signals = SignalWatch::new(&FORWARDED).context("watching signals")?;
    // The first process of a PID namespace cannot look up the shell's process group.
    let job_control = has_job_control();
    let (outside, inside) = UnixStream::pair().context("making a socket")?;
    let suspension = match confinement.split(Kinship::Child)? {
        Some(Half::Old(pid)) => {
            drop((config, inside));
            confine::keep_signals_only().context("giving up capabilities")?;
            return supervise(pid, signals, Some(OwnedFd::from(outside).into()));
        }
        Some(Half::New(_)) => Suspension::OnRequest(OwnedFd::from(inside).into()),
        None => Suspension::Own,
    };
    drop(outside);
    let io = HostIo {
        descriptors: standard_streams(config.process.terminal.is_some())?.into(),
        terminal: Some((keys()?, screen()?)),
        signals,
        suspension: job_control.then_some(suspension),
    };
    let guest = Guest::boot(config, args, io, confinement)?;
    guest.sandbox.start()?;
    Ok(guest.wait())
}

impl Guest {
    /// Makes a sandbox without running anything in it, and confines this process, which cannot open files afterwards.
    ///
    /// # Errors
    /// Names the step that failed.
    pub(crate) fn boot(
        mut config: SandboxConfig,
        args: &GlobalArgs,
        io: HostIo,
        confinement: Confinement,
    ) -> Result<Guest> {
        if args.speculation_mitigations {
            // Before there are other threads or processes, which inherit it.
            let flushed = speculation::restrict().context("--speculation-mitigations")?;
            log::info!(
                "first-level data caches are {}flushed when a task leaves them",
                if flushed { "" } else { "not " }
            );
        }
        limit_arenas(if config.limits.memory.is_some() { ARENAS_WITHIN_LIMIT } else { ARENAS });
        config.trace = trace(args)?;
        let metrics = Metrics::open(args)?;
        config.descriptors = io.descriptors;
        let log = logging::descriptor(args)?;
        let mut confinement = confinement.prepare(&mut config)?;
        let memory = GuestMemory::new(memory_size()?)?;
        let platform = platforms::choose(args.platform, &memory)?;
        let sandbox = Arc::new(Sandbox::boot(platform.clone(), memory, config)?);
        let relay = match (sandbox.console(), io.terminal) {
            (Some(console), Some((keys, screen))) => {
                Some(Relay::start(Arc::new(GuestConsole(console.clone())), keys, screen)?)
            }
            _ => None,
        };
        forward_signals(io.signals, Arc::downgrade(&sandbox), relay.as_ref().map(Relay::resizer))?;
        if let (Some(relay), Some(suspension)) = (&relay, io.suspension) {
            sandbox.watch();
            suspend_with_guest(Arc::clone(&sandbox), relay.suspender(), suspension)?;
        }
        if let Some(connection) = confinement.served.take() {
            proc_view::serve(connection, Arc::downgrade(&sandbox))?;
        }
        confinement.lock_down(platform.host_calls(), log)?;
        Ok(Guest { sandbox, platform, relay, metrics })
    }

    /// Waits for the end of a started sandbox and returns the exit status.
    pub(crate) fn wait(self) -> u8 {
        let status = self.sandbox.wait();
        if let Some(relay) = self.relay {
            relay.finish();
        }
        if let Some(metrics) = self.metrics {
            metrics.write(&*self.platform);
        }
        // This process ends next: the host frees everything at once.
        std::mem::forget(self.sandbox);
        status_number(status)
    }
}

/// The exit status for an end of the guest: the program's own, or 128 plus the signal's number.
pub(crate) fn status_number(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Exited(code) => code,
        ExitStatus::Signaled(signal) => 128 + signal as u8,
    }
}

/// The sandbox's terminal as [`Relay`](crate::console::Relay) sees it.
struct GuestConsole(Arc<Console>);

impl ConsoleMaster for GuestConsole {
    fn read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
        Ok(self.0.read(buf))
    }

    fn write(&self, buf: &[u8]) -> std::io::Result<usize> {
        Ok(self.0.write(buf))
    }

    fn resize(&self, size: WindowSize) {
        let WindowSize { rows, columns, x_pixels, y_pixels } = size;
        self.0.resize(Winsize { ws_row: rows, ws_col: columns, ws_xpixel: x_pixels, ws_ypixel: y_pixels });
    }

    fn hangup(&self) {
        self.0.hang_up();
    }
}

/// Opens the source of keys.
pub(crate) fn keys() -> Result<OwnedFd> {
    stdin().as_fd().try_clone_to_owned().context("duplicating standard input")
}

/// Opens the destination of the guest's output.
pub(crate) fn screen() -> Result<OwnedFd> {
    stdout().as_fd().try_clone_to_owned().context("duplicating standard output")
}

/// Forwards signals to the guest's first process. Signals from the host's kernel, as for a key of the terminal, go to
/// the first process's group, as they would to a foreground group.
fn forward_signals(signals: SignalWatch, sandbox: Weak<Sandbox>, resizer: Option<Arc<Resizer>>) -> Result<()> {
    let forward = move || {
        while let (Ok(caught), Some(sandbox)) = (signals.next(), sandbox.upgrade()) {
            if caught.signal == Signal::SIGWINCH as i32
                && let Some(resizer) = &resizer
            {
                // The guest's terminal notifies its foreground group if the size has changed.
                resizer.resized();
                continue;
            }
            if let Some(signal) = amber_abi::Signal::from_raw(caught.signal) {
                sandbox.signal(signal, caught.from_kernel);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward).context("starting a thread")?;
    Ok(())
}

/// Whether a shell would continue Amber if it stopped: the parent is in the same session and another process group.
pub(crate) fn has_job_control() -> bool {
    let parent = Some(getppid());
    getsid(parent).is_ok_and(|sid| getsid(None) == Ok(sid)) && getpgid(parent).is_ok_and(|group| group != getpgrp())
}

/// Stops Amber when the guest's first process stops, as for Ctrl-Z, so that the shell regains control; both continue
/// together.
fn suspend_with_guest(sandbox: Arc<Sandbox>, suspender: Suspender, mut suspension: Suspension) -> Result<()> {
    let watch = move || {
        let mut seen = 0;
        while let Some(stops) = sandbox.wait_for_stop(seen) {
            seen = stops;
            suspender.suspended(|| {
                let stopped = match &mut suspension {
                    Suspension::Own => raise(Signal::SIGSTOP).map_err(Into::into),
                    Suspension::OnRequest(other) => other.write_all(&[STOP]).and_then(|()| other.read_exact(&mut [0])),
                };
                if let Err(error) = stopped {
                    log::error!("stopping: {error}");
                }
            });
            sandbox.signal(amber_abi::Signal::SIGCONT, true);
        }
    };
    std::thread::Builder::new().name("suspension".to_owned()).spawn(watch).context("starting a thread")?;
    Ok(())
}

/// The filter for `--strace`.
fn trace(args: &GlobalArgs) -> Result<Option<TraceFilter>> {
    let Some(names) = &args.strace else { return Ok(None) };
    let all = names.iter().any(|name| name == "all");
    if let Some(unknown) = names.iter().find(|name| !all && !entries().any(|entry| entry.name == **name)) {
        bail!("--strace={unknown}: there is no such system call; `amber syscalls` lists them");
    }
    let names = if all { Vec::new() } else { names.clone() };
    Ok(Some(TraceFilter { names, sink: Box::new(Printable(logging::sink(args)?)) }))
}

/// Descriptors 0, 1 and 2 of the guest: the caller's; with a console, none that is a terminal.
pub(crate) fn standard_streams(console: bool) -> Result<[Option<OwnedFd>; 3]> {
    let own = |fd: &dyn AsFd, is_terminal: bool| -> Result<Option<OwnedFd>> {
        if console && is_terminal {
            return Ok(None);
        }
        fd.as_fd().try_clone_to_owned().map(Some).context("duplicating a standard stream")
    };
    Ok([
        own(&stdin(), stdin().is_terminal())?,
        own(&stdout(), stdout().is_terminal())?,
        own(&stderr(), stderr().is_terminal())?,
    ])
}

/// The size of guest memory in bytes: the host's memory, since more would only be swap.
fn memory_size() -> Result<u64> {
    Ok(nix::sys::sysinfo::sysinfo().context("asking for the size of memory")?.ram_total())
}
