//! The sandbox's side of the control socket.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use amber_abi::Signal;
use amber_host::channel::Channel;
use amber_sentry::config::{CpuQuota, Descriptors, Limits};
use amber_sentry::sandbox::Sandbox;
use anyhow::{Context, Result, bail};
use parking_lot::{Condvar, Mutex};

use super::console::{join, resize};
use super::control::{ExecRequest, Failure, Processes, Reply, Request, receive, send};
use super::ps_table;
use super::start_hooks::StartHooks;
use crate::bundle::process_spec;
use crate::launch::status_number;

/// How long the last output of an additional process may take to drain.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a proxy may take to end and be reaped.
const FAREWELL: Duration = Duration::from_secs(2);
/// Polling interval for that: nothing notifies of a reaped process.
const LOOK: Duration = Duration::from_millis(1);

/// The control socket.
pub(super) struct Server {
    listener: UnixListener,
    limits: Limits,
    hooks: StartHooks,
}

/// State that all connections share.
struct Shared {
    sandbox: Arc<Sandbox>,
    /// Proxies on the host, by process ID, and the guest process of each.
    proxies: Mutex<BTreeMap<i32, i32>>,
    limits: Mutex<Limits>,
    /// Hooks to run before the first process; the lock serializes starts.
    hooks: Mutex<StartHooks>,
    /// Number of requests without an answer and of running additional processes.
    pending: Mutex<usize>,
    over: Condvar,
}

/// A control socket that is being served.
pub(super) struct Served(Arc<Shared>);

impl Served {
    /// Waits, with a time limit, until all requests are answered and all proxies have ended and been reaped.
    ///
    /// On Linux the processes of a container end before its first one does, and engines rely on that: they drop exec
    /// exit events that arrive after the container's, and `docker exec` would hang.
    pub(super) fn wait_for_others(&self) {
        let deadline = Instant::now() + FAREWELL;
        let mut pending = self.0.pending.lock();
        while *pending > 0 && !self.0.over.wait_until(&mut pending, deadline).timed_out() {}
    }
}

/// Counts a request that is being answered, or an additional process, while it lives.
struct PendingWork<'a>(&'a Shared);

impl PendingWork<'_> {
    fn new(shared: &Shared) -> PendingWork<'_> {
        *shared.pending.lock() += 1;
        PendingWork(shared)
    }
}

impl Drop for PendingWork<'_> {
    fn drop(&mut self) {
        *self.0.pending.lock() -= 1;
        self.0.over.notify_all();
    }
}

impl Server {
    /// Makes a server for a listening socket.
    pub(super) fn new(listener: OwnedFd, limits: Limits, hooks: StartHooks) -> Server {
        Server { listener: listener.into(), limits, hooks }
    }

    /// Starts to serve a sandbox.
    ///
    /// # Errors
    /// The host has no threads left.
    pub(super) fn start(self, sandbox: Arc<Sandbox>) -> Result<Served> {
        let (limits, hooks) = (Mutex::new(self.limits), Mutex::new(self.hooks));
        let (proxies, pending, over) = (Mutex::default(), Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { sandbox, proxies, limits, hooks, pending, over });
        let served = Served(shared.clone());
        let accept = move || {
            loop {
                match self.listener.accept() {
                    Ok((socket, _)) => serve(&shared, socket),
                    Err(error) => {
                        log::warn!("the control socket: {error}");
                        // The host may be out of descriptors; retry when others have been closed.
                        thread::park_timeout(Duration::from_millis(50));
                    }
                }
            }
        };
        thread::Builder::new().name("control".into()).spawn(accept).context("starting a thread")?;
        Ok(served)
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

/// Answers the requests of a connection until it is closed.
fn converse(shared: &Arc<Shared>, channel: &Channel) -> Result<()> {
    while let Some((request, files)) = receive(channel)? {
        let request = match request {
            Request::Exec(request) => return exec(shared, channel, &request, files),
            other => other,
        };
        // Keep the reply pending even if the started process exits immediately.
        let _pending = PendingWork::new(shared);
        let starts = matches!(request, Request::Start);
        let reply = answer(shared, request).unwrap_or_else(|error| Reply::Failed(Failure::plain(&error)));
        let failed = starts && matches!(reply, Reply::Failed(_));
        let sent = send(channel, &reply, &[]);
        match (failed, shared.sandbox.is_started()) {
            // A container whose start failed has ended; closing this connection follows.
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
            return Ok(Reply::Processes(Processes { table: ps_table::rows(&sandbox.processes()), proxies }));
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

/// Runs an additional process. The connection is closed when the process ends, and closing it kills the process.
fn exec(shared: &Arc<Shared>, channel: &Channel, request: &ExecRequest, files: Vec<OwnedFd>) -> Result<()> {
    let _pending = PendingWork::new(shared);
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
        // The client may be gone. Otherwise it leaves now and closes the connection.
        let _ = send(&teller, &Reply::Ended(status), &[]);
    };
    thread::Builder::new().name("exec".into()).spawn(tell).context("starting a thread")?;
    let mut proxy_status = None;
    while let Ok(Some((request, files))) = receive(channel) {
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
                proxy_status = files.into_iter().next().map(File::from);
            }
            _ => break,
        }
    }
    shared.proxies.lock().remove(&number);
    // The process has ended already, unless its proxy was killed.
    process.signal(Signal::SIGKILL);
    if let Some(status) = proxy_status {
        let deadline = Instant::now() + FAREWELL;
        while status.read_at(&mut [0], 0).is_ok() && Instant::now() < deadline {
            thread::park_timeout(LOOK);
        }
    }
    Ok(())
}

fn finish(output: &thread::JoinHandle<()>) {
    let step = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while !output.is_finished() && waited < DRAIN {
        thread::park_timeout(step);
        waited += step;
    }
}

type Begun = (amber_sentry::external_process::Process, Option<UnixStream>);

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
