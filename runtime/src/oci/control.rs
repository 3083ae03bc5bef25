//! What commands, proxies and the sandbox say to each other.

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

/// What `create` gives the sandbox's process first. The files with it: standard input, output and error, the control
/// socket, the slave of its terminal if it has one, and those to be preserved.
#[derive(Serialize, Deserialize)]
pub struct Launch {
    /// The flags of every command.
    pub global: GlobalArgs,
    /// The container's name.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// What its config.json says.
    pub spec: Spec,
    /// Where its standard streams lead.
    pub streams: Streams,
    /// Whether a shell would continue the command if it stopped with the guest.
    pub job_control: bool,
}

/// What the first process has as standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Streams {
    /// Those of the command, which need not outlive it.
    Detached,
    /// A terminal made for it, whose master somebody else has.
    Terminal,
    /// Those of a command that stays, its terminal included.
    Attached,
}

/// The steps of the sandbox's process before the container is created.
#[derive(Debug, Serialize, Deserialize)]
pub enum Step {
    /// From the sandbox: its namespaces are there, and this is the number of its process outside of them. It is another
    /// than at the beginning if the sandbox has a PID namespace.
    Namespaces(i32),
    /// To the sandbox, after `Namespaces`: what has to be done from outside is done. With the container's state, for
    /// hooks.
    Hooked(String),
    /// To the sandbox, after `Ready`: it may be started.
    Go,
    /// From the sandbox: everything is ready to be started.
    Ready,
    /// From the sandbox: it cannot be; this is the end.
    Failed(Failure),
}

/// What can be asked of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Let the first process run.
    Start,
    /// Run a further process. The files with it: standard input, output and error, or for a terminal the stream that
    /// carries what is typed and printed; then those it gets as 3 and following. The connection belongs to it from then
    /// on.
    Exec(Box<ExecRequest>),
    /// Send a signal: on a connection of `Exec` to that process, else to every process.
    Signal(i32),
    /// The terminal of the connection's process has this size now.
    Resize(Size),
    /// This process of the host stands for the connection's process. With it may come its `/proc/PID/stat`, so that the
    /// sandbox sees when its parent took note of its end: from then on the file cannot be read.
    Proxy(i32),
    /// Tell the guest's processes.
    Processes,
    /// Suspend the guest.
    Pause,
    /// Resume it.
    Resume,
    /// Tell what it uses.
    Usage,
    /// Change limits.
    Limit(LimitRequest),
}

/// A further process.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecRequest {
    /// What to run.
    pub process: Process,
    /// The size of its terminal, if it wants one.
    pub size: Size,
}

/// Limits to change; none stays, `u64::MAX` is no limit.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LimitRequest {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Number of tasks.
    pub tasks: Option<u64>,
    /// Microseconds of processor time in so many microseconds; `u64::MAX` is no quota.
    pub cpu: Option<(u64, u64)>,
}

/// What a sandbox answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// It cannot be done.
    Failed(Failure),
    /// The further process runs, with this number in the guest.
    Started(i32),
    /// The further process ended with this status.
    Ended(u8),
    /// The processes.
    Processes(Processes),
    /// Names and numbers.
    Usage(BTreeMap<String, u64>),
}

/// The guest's processes, and the host's that stand for them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Processes {
    /// Lines of a table, the head first.
    pub table: Vec<Vec<String>>,
    /// Numbers of proxies on the host.
    pub proxies: Vec<i32>,
}

/// The size of a terminal, in a form that travels.
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

/// Which of the failures that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The program is not there.
    NotFound,
    /// The program cannot be executed.
    NotExecutable,
    /// Anything else.
    Other,
}

/// Why a sandbox did not do what was asked, in the words of runc.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind.
    pub kind: FailureKind,
    /// One line.
    pub message: String,
}

impl Failure {
    /// Brings an error into the form in which it travels.
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

    /// An error that has nothing to do with starting a process.
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
/// The other side is gone.
pub fn send<T: Serialize>(channel: &Channel, message: &T, files: &[BorrowedFd<'_>]) -> Result<()> {
    let bytes = serde_json::to_vec(message).context("putting a message into words")?;
    channel.send(&bytes, files).context("talking to the sandbox")
}

/// Waits for a message; none once the other side is gone.
///
/// # Errors
/// What came makes no sense.
pub fn receive<T: DeserializeOwned>(channel: &Channel) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, files)) = channel.receive().context("listening to the sandbox")? else { return Ok(None) };
    let message = serde_json::from_slice(&bytes).context("a message makes no sense")?;
    Ok(Some((message, files)))
}

/// Asks a sandbox and waits for its answer.
///
/// # Errors
/// What the sandbox says, or that it is gone.
pub fn ask(channel: &Channel, request: &Request, files: &[BorrowedFd<'_>]) -> Result<Reply> {
    send(channel, request, files)?;
    match receive(channel)? {
        Some((Reply::Failed(failure), _)) => Err(failure.into()),
        Some((reply, _)) => Ok(reply),
        None => Err(anyhow!("the sandbox ended")),
    }
}

/// Asks for something that has no answer but that it is done.
///
/// # Errors
/// As for [`ask`].
pub fn order(channel: &Channel, request: &Request) -> Result<()> {
    match ask(channel, request, &[])? {
        Reply::Done => Ok(()),
        other => bail!("the sandbox answered {other:?}"),
    }
}
