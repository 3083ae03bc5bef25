//! Commands that end in time.

use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use wait_timeout::ChildExt;

/// No command of the benchmark takes this long, however slow the contender.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// A command that was started in a process group of its own; dropping it kills the group.
pub(crate) struct Running {
    child: Child,
    shown: String,
    ended: bool,
}

impl Running {
    /// Starts a command without input; what it prints is kept for [`finish`](Self::finish).
    pub(crate) fn start(mut command: Command) -> Result<Running> {
        let shown = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().with_context(|| shown.clone())?;
        Ok(Running { child, shown, ended: false })
    }

    /// The process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end and returns what was printed.
    ///
    /// # Errors
    /// The command failed or did not end.
    pub(crate) fn finish(&mut self, limit: Duration) -> Result<String> {
        let mut pipes =
            (self.child.stdout.take().context("no output")?, self.child.stderr.take().context("no output")?);
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipes.1.read_to_end(&mut text);
            text
        });
        let output = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipes.0.read_to_end(&mut text);
            text
        });
        let Some(status) = self.child.wait_timeout(limit)? else {
            bail!("{} did not end within {} seconds", self.shown, limit.as_secs());
        };
        self.ended = true;
        // Whoever is left of the group would keep the pipes open.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let output = output.join().unwrap_or_default();
        let errors = errors.join().unwrap_or_default();
        let first = String::from_utf8_lossy(&errors).lines().next().unwrap_or("no message").to_string();
        ensure!(status.success(), "{}: {status}: {first}", self.shown);
        Ok(String::from_utf8_lossy(&output).into_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end with nothing to read and nothing kept of what it prints, which its children may hold open.
///
/// # Errors
/// The command failed, or did not end; what it printed as errors tells why.
pub(crate) fn quietly(mut command: Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let mut errors = tempfile::tempfile().context("making a temporary file")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?);
    let mut child = command.spawn().with_context(|| shown.clone())?;
    let Some(status) = child.wait_timeout(LIMIT)? else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("{shown} did not end within {} seconds", LIMIT.as_secs());
    };
    let mut said = String::new();
    errors.rewind()?;
    errors.read_to_string(&mut said)?;
    ensure!(status.success(), "{shown}: {status}: {}", said.lines().next().unwrap_or("no message"));
    Ok(())
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output(command: Command) -> Result<String> {
    Running::start(command)?.finish(LIMIT)
}
