//! The messages between commands, proxies and the sandbox.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use amber_host::channel::Channel;
use amber_host::terminal::WindowSize;
use amber_sentry::config::BootError;
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cli::GlobalArgs;

/// The first message from `create` to the sandbox's process. Files sent with it: standard input, output and error, the
/// control socket, the slave of the terminal if there is one, and preserved descriptors.
#[derive(Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The global flags.
    pub global: GlobalArgs,
    /// The container's name.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The contents of config.json.
    pub spec: Spec,
    /// The kind of standard streams.
    pub streams: Streams,
    /// Whether a shell would continue the command if it stopped with the guest.
    pub job_control: bool,
}

/// The standard streams of the first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Streams {
    /// The command's streams; the command need not outlive the process.
    Detached,
    /// A terminal made for the process; another program has the master.
    Terminal,
    /// The streams, or the terminal, of a command that waits for the process.
    Attached,
}

/// The steps of the sandbox's process before the container is created.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    /// From the sandbox: the namespaces exist. Has the process ID outside of them, which differs from the original one
    /// if the sandbox has a PID namespace.
    Namespaces(i32),
    /// To the sandbox, after `Namespaces`: the setup from outside is done. Has the container's state, for hooks.
    Hooked(String),
    /// To the sandbox, after `Ready`: it may be started.
    Go,
    /// From the sandbox: it is ready to be started.
    Ready,
    /// From the sandbox: it cannot be created, and ends.
    Failed(Failure),
}

/// A request to a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Start the first process.
    Start,
    /// Run an additional process. Files sent with it: standard input, output and error, or for a terminal the stream of
    /// its input and output; then the descriptors from 3 on. The connection belongs to the process from then on.
    Exec(Box<ExecRequest>),
    /// Send a signal: to the process of this connection if there is one, else to all processes.
    Signal(i32),
    /// Set the size of the terminal of this connection's process.
    Resize(Size),
    /// Register this host process as the proxy of this connection's process. Its `/proc/PID/stat` may be sent with it:
    /// that file becomes unreadable when the parent reaps the proxy, which the sandbox waits for.
    Proxy(i32),
    /// List the guest's processes.
    Processes,
    /// Suspend the guest.
    Pause,
    /// Resume the guest.
    Resume,
    /// Report resource usage.
    Usage,
    /// Change limits.
    Limit(LimitRequest),
}

/// An additional process.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The process to run.
    pub process: Process,
    /// The size of its terminal, if it has one.
    pub size: Size,
}

/// Limits to change. `None` keeps the limit, `u64::MAX` removes it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LimitRequest {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Number of tasks.
    pub tasks: Option<u64>,
    /// Quota and period of CPU time in microseconds; a quota of `u64::MAX` is none.
    pub cpu: Option<(u64, u64)>,
}

/// An answer of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// The request failed.
    Failed(Failure),
    /// The additional process is running, with this process ID in the guest.
    Started(i32),
    /// The additional process ended with this status.
    Ended(u8),
    /// The processes.
    Processes(Processes),
    /// Resource usage by name.
    Usage(BTreeMap<String, u64>),
}

/// The guest's processes, and their proxies on the host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Processes {
    /// Rows of a table, the header first.
    pub table: Vec<Vec<String>>,
    /// Process IDs of proxies on the host.
    pub proxies: Vec<i32>,
}

/// The size of a terminal, as it is sent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Size(pub u16, pub u16, pub u16, pub u16);

impl From<WindowSize> for Size {
    fn from(size: WindowSize) -> Size {
        Size(size.rows, size.columns, size.x_pixels, size.y_pixels)
    }
}

impl From<Size> for WindowSize {
    fn from(Size(rows, columns, x_pixels, y_pixels): Size) -> WindowSize {
        WindowSize { rows, columns, x_pixels, y_pixels }
    }
}

/// The failures that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The program was not found.
    NotFound,
    /// The program cannot be executed.
    NotExecutable,
    /// Anything else.
    Other,
}

/// Why a sandbox refused a request, in runc's words.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// The message, in one line.
    pub message: String,
}

impl Failure {
    /// Converts an error that may concern the start of a process.
    pub fn of(error: &anyhow::Error) -> Failure {
        let (kind, message) = match error.downcast_ref::<BootError>() {
            Some(BootError::NotFound { program, .. }) if program.contains('/') => {
                (FailureKind::NotFound, format!("exec: {program:?}: stat {program}: no such file or directory"))
            }
            Some(BootError::NotFound { program, .. }) => {
                (FailureKind::NotFound, format!("exec: {program:?}: executable file not found in $PATH"))
            }
            Some(BootError::NotExecutable { program, reason }) => {
                (FailureKind::NotExecutable, format!("exec: {program:?}: {reason}"))
            }
            _ => (FailureKind::Other, format!("error during container init: {error:#}")),
        };
        Failure { kind, message: format!("unable to start container process: {message}") }
    }

    /// Converts any other error.
    pub fn plain(error: &anyhow::Error) -> Failure {
        Failure { kind: FailureKind::Other, message: format!("{error:#}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Sends a message.
///
/// # Errors
/// The peer has closed the connection.
pub(crate) fn send<T: Serialize>(channel: &Channel, message: &T, files: &[BorrowedFd<'_>]) -> Result<()> {
    let bytes = serde_json::to_vec(message).context("putting a message into words")?;
    channel.send(&bytes, files).context("talking to the sandbox")
}

/// Waits for a message. Returns `None` when the peer closes the connection.
///
/// # Errors
/// The message is malformed.
pub fn receive<T: DeserializeOwned>(channel: &Channel) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, files)) = channel.receive().context("listening to the sandbox")? else { return Ok(None) };
    let message = serde_json::from_slice(&bytes).context("a malformed message")?;
    Ok(Some((message, files)))
}

/// Sends a request and waits for the answer.
///
/// # Errors
/// The failure that the sandbox reports, or the connection was closed.
pub(crate) fn ask(channel: &Channel, request: &Request, files: &[BorrowedFd<'_>]) -> Result<Reply> {
    send(channel, request, files)?;
    match receive(channel)? {
        Some((Reply::Failed(failure), _)) => Err(failure.into()),
        Some((reply, _)) => Ok(reply),
        None => Err(anyhow!("the sandbox ended")),
    }
}

/// Sends a request whose only answer is [`Reply::Done`].
///
/// # Errors
/// As for [`ask`].
pub(crate) fn order(channel: &Channel, request: &Request) -> Result<()> {
    match ask(channel, request, &[])? {
        Reply::Done => Ok(()),
        other => bail!("the sandbox answered {other:?}"),
    }
}
