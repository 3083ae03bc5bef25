//! What the sandbox does for commands that connect to its control socket.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use amber_abi::Signal;
use amber_host::channel::Channel;
use amber_sentry::boot::{CpuQuota, Descriptors, Limits};
use amber_sentry::start::Sandbox;
use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use super::console::{join, resize};
use super::control::{ExecRequest, Failure, Processes, Reply, Request, receive, send};
use super::inside::StartHooks;
use super::table;
use crate::bundle::process_spec;
use crate::launch::status_number;

/// How long what a further process printed last may take on its way out.
const DRAIN: Duration = Duration::from_secs(10);

/// The control socket.
pub struct Server {
    listener: UnixListener,
    limits: Limits,
    hooks: StartHooks,
}

/// What every connection knows.
struct Shared {
    sandbox: Arc<Sandbox>,
    /// Processes of the host that stand for further ones of the guest, by these.
    proxies: Mutex<BTreeMap<i32, i32>>,
    limits: Mutex<Limits>,
    /// What runs before the first process; one start at a time.
    hooks: Mutex<StartHooks>,
}

impl Server {
    /// A socket that listens already, for a sandbox with these limits and hooks.
    pub fn new(listener: OwnedFd, limits: Limits, hooks: StartHooks) -> Server {
        Server { listener: listener.into(), limits, hooks }
    }

    /// Serves a sandbox from now on.
    ///
    /// # Errors
    /// The host has no threads left.
    pub fn start(self, sandbox: Arc<Sandbox>) -> Result<()> {
        let (limits, hooks) = (Mutex::new(self.limits), Mutex::new(self.hooks));
        let shared = Arc::new(Shared { sandbox, proxies: Mutex::default(), limits, hooks });
        let accept = move || {
            loop {
                match self.listener.accept() {
                    Ok((socket, _)) => serve(&shared, socket),
                    Err(error) => {
                        log::warn!("the control socket: {error}");
                        // As when there are no descriptors left: others will be closed.
                        thread::sleep(Duration::from_millis(50));
                    }
                }
            }
        };
        thread::Builder::new().name("control".into()).spawn(accept).context("starting a thread")?;
        Ok(())
    }
}

fn serve(shared: &Arc<Shared>, socket: UnixStream) {
    let shared = shared.clone();
    let answer = move || {
        if let Err(error) = converse(&shared, &Channel::new(socket)) {
            log::info!("the control socket: {error:#}");
        }
    };
    if let Err(error) = thread::Builder::new().name("control".into()).spawn(answer) {
        log::warn!("the control socket: {error}");
    }
}

/// Answers what comes on a connection, until its end.
fn converse(shared: &Arc<Shared>, channel: &Channel) -> Result<()> {
    while let Some((request, files)) = receive(channel)? {
        let request = match request {
            Request::Exec(request) => return exec(shared, channel, &request, files),
            other => other,
        };
        let starts = matches!(request, Request::Start);
        let reply = answer(shared, request).unwrap_or_else(|error| Reply::Failed(Failure::plain(&error)));
        let failed = starts && matches!(reply, Reply::Failed(_));
        let sent = send(channel, &reply, &[]);
        match (failed, shared.sandbox.is_started()) {
            // A container whose start failed has ended; this connection ends with it.
            (true, false) => shared.sandbox.kill(),
            (true, true) => return sent,
            (false, _) => sent?,
        }
    }
    Ok(())
}

fn answer(shared: &Shared, request: Request) -> Result<Reply> {
    let sandbox = &shared.sandbox;
    match request {
        Request::Start => {
            let hooks = shared.hooks.lock();
            if sandbox.is_started() {
                bail!("cannot start an already running container");
            }
            hooks.run(sandbox)?;
            sandbox.start()?;
        }
        Request::Signal(number) => {
            let signal = Signal::from_raw(number).with_context(|| format!("there is no signal {number}"))?;
            sandbox.signal_all(signal);
        }
        Request::Processes => {
            let proxies = shared.proxies.lock().values().copied().collect();
            return Ok(Reply::Processes(Processes { table: table::rows(&sandbox.processes()), proxies }));
        }
        Request::Usage => {
            let usage = sandbox.usage();
            let numbers = [("oom_kills", usage.oom_kills), ("memory", usage.memory), ("tasks", usage.tasks)];
            return Ok(Reply::Usage(numbers.map(|(name, value)| (name.to_owned(), value)).into()));
        }
        Request::Pause => sandbox.pause(),
        Request::Resume => sandbox.resume(),
        Request::Limit(wanted) => {
            let mut limits = shared.limits.lock();
            let limited = |new: u64| (new != u64::MAX).then_some(new);
            let changed = |new: Option<u64>, old| new.map_or(old, limited);
            limits.memory = changed(wanted.memory, limits.memory);
            limits.tasks = changed(wanted.tasks, limits.tasks);
            let quota = |(quota, period)| limited(quota).map(|quota| CpuQuota { quota, period });
            limits.cpu = wanted.cpu.map_or(limits.cpu, quota);
            sandbox.set_limits(&limits);
        }
        Request::Exec(_) | Request::Resize(_) | Request::Proxy(_) => bail!("this belongs to a further process"),
    }
    Ok(Reply::Done)
}

/// Runs a further process; the connection ends with it, and it with the connection.
fn exec(shared: &Arc<Shared>, channel: &Channel, request: &ExecRequest, files: Vec<OwnedFd>) -> Result<()> {
    let begun = begin(shared, request, files);
    let (process, stream) = match begun {
        Ok(begun) => begun,
        Err(error) => return send(channel, &Reply::Failed(Failure::of(&error)), &[]),
    };
    let process = Arc::new(process);
    let number = process.pid();
    let output = match (process.console(), stream) {
        (Some(console), Some(stream)) => Some(join(console, stream).context("starting a thread")?),
        _ => None,
    };
    send(channel, &Reply::Started(number), &[])?;
    let (waited, teller) = (process.clone(), channel.try_clone().context("duplicating a descriptor")?);
    let tell = move || {
        let status = status_number(waited.wait());
        if let Some(output) = output {
            finish(&output);
        }
        // Whoever asked may be gone.
        let _ = send(&teller, &Reply::Ended(status), &[]);
        teller.close();
    };
    thread::Builder::new().name("exec".into()).spawn(tell).context("starting a thread")?;
    while let Ok(Some((request, _))) = receive(channel) {
        match request {
            Request::Signal(signal) => {
                if let Some(signal) = Signal::from_raw(signal) {
                    process.signal(signal);
                }
            }
            Request::Resize(size) => {
                if let Some(console) = process.console() {
                    resize(console, size.into());
                }
            }
            Request::Proxy(pid) => {
                shared.proxies.lock().insert(number, pid);
            }
            _ => break,
        }
    }
    shared.proxies.lock().remove(&number);
    // It has ended already, unless whoever stood for it was killed.
    process.signal(Signal::SIGKILL);
    Ok(())
}

fn finish(output: &thread::JoinHandle<()>) {
    let step = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while !output.is_finished() && waited < DRAIN {
        thread::sleep(step);
        waited += step;
    }
}

type Begun = (amber_sentry::process::Process, Option<UnixStream>);

fn begin(shared: &Shared, request: &ExecRequest, files: Vec<OwnedFd>) -> Result<Begun> {
    let terminal = request.process.terminal().unwrap_or(false);
    let size = terminal.then_some((request.size.0, request.size.1));
    let mut spec = process_spec(&request.process, size)?;
    spec.protected = false;
    let mut files = files.into_iter();
    let mut descriptors = Descriptors::new();
    let mut stream = None;
    if terminal {
        stream = Some(UnixStream::from(files.next().context("the stream of a terminal is missing")?));
        descriptors.resize_with(3, || None);
    }
    descriptors.extend(files.map(Some));
    Ok((shared.sandbox.exec(&spec, descriptors)?, stream))
}
