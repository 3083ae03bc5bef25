//! Runs one command to its end or its time limit, and keeps what it printed.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use wait_timeout::ChildExt;

/// How long one test program may take before its process group is killed: several times what it needs, for machines that
/// have other things to do.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Seconds one part of a test program may take, as in `tests/guests/check.h`.
const CHECK_ALARM: u32 = 25;

/// How much longer everything may take here than elsewhere: a number in `AMBER_TEST_PATIENCE`, for emulated machines.
fn patience() -> u32 {
    std::env::var("AMBER_TEST_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// What a command left behind.
#[derive(Debug)]
pub struct Outcome {
    /// Its wait status; `None` when it was killed for taking longer than the limit.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// The exit code as a shell reports it: 128 + n for death by signal n, `None` for a timeout.
    pub fn code(&self) -> Option<i32> {
        let status = self.status?;
        status.code().or_else(|| status.signal().map(|signal| 128 + signal))
    }

    /// Both streams and the status as one readable text, for the report of a failed test.
    pub fn describe(&self) -> String {
        let status = match self.status {
            Some(status) => status.to_string(),
            None => "killed for taking too long".to_owned(),
        };
        let (out, err) = (String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr));
        format!("{status}\n--- stdout\n{}--- stderr\n{}", tail(&out), tail(&err))
    }
}

/// The last 8 KiB or so of a text, cut at a line.
fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(8 << 10);
    if start == 0 {
        return text;
    }
    text.bytes()
        .enumerate()
        .skip(start)
        .find(|(_, byte)| *byte == b'\n')
        .and_then(|(index, _)| text.get(index + 1..))
        .unwrap_or("")
}

/// Gives the command a small fixed environment, so that a test never depends on who starts it.
pub fn plain_environment(command: &mut Command) {
    command.env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", "/root").env("LANG", "C.UTF-8").env("TERM", "dumb").env("TZ", "UTC");
    if patience() > 1 {
        command.env("CHECK_ALARM", (CHECK_ALARM * patience()).to_string());
    }
}

/// Runs the command in `directory` with no input, in a process group of its own, for at most `limit`, or longer where
/// that was asked for.
///
/// Output goes to files, not pipes: a process that outlives the command and holds its output open delays nobody.
pub fn run(mut command: Command, directory: &Path, limit: Duration) -> Result<Outcome> {
    let mut stdout = tempfile::tempfile().context("a file for the output")?;
    let mut stderr = tempfile::tempfile().context("a file for the errors")?;
    command.current_dir(directory).stdin(Stdio::null()).process_group(0);
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let status = child.wait_timeout(limit * patience())?;
    if status.is_none() {
        kill_group(child.id());
        child.wait()?;
    }
    Ok(Outcome { status, stdout: contents(&mut stdout)?, stderr: contents(&mut stderr)? })
}

/// Kills every process of the group `leader` leads.
pub fn kill_group(leader: u32) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{leader}")]).status();
}

fn contents(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
