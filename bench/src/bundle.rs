//! Containers as an engine has them made: a bundle, and the commands of an OCI runtime.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use crate::contender::Runtime;
use crate::memory;
use crate::run;

/// How long a container may take to end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a container costs, without any engine.
pub(crate) struct Costs {
    /// Nanoseconds that `create` and `start` take together.
    pub start: f64,
    /// Nanoseconds from before `create` to after `delete`, for a container that runs `true`.
    pub life: f64,
    /// Nanoseconds that `exec` of `true` takes in a running container.
    pub exec: f64,
    /// Bytes of memory, as their proportional share, of a container that does nothing.
    pub memory: f64,
}

/// Measures a runtime.
pub(crate) fn measure(runtime: &Runtime, directory: &Path, micro: &OsString) -> Result<Costs> {
    // The runtime leaves the container's process to whoever reaps its orphans.
    prctl::set_child_subreaper(true)?;
    let state = directory.join("state");
    let oci = Oci { runtime, state, bundle: directory.to_owned() };
    write(directory, &["true".into()])?;
    let begin = Instant::now();
    let mut container = oci.create("true")?;
    oci.run(&["start", "true"])?;
    let start = begin.elapsed().as_nanos() as f64;
    container.wait()?;
    oci.run(&["delete", "true"])?;
    let life = begin.elapsed().as_nanos() as f64;
    reap();

    write(directory, &[micro.clone(), "idle".into(), "60000".into()])?;
    let mut container = oci.create("idle")?;
    oci.run(&["start", "idle"])?;
    let observed = memory::observe_children();
    let begin = Instant::now();
    let executed = oci.run(&["exec", "idle", "true"]);
    let exec = begin.elapsed().as_nanos() as f64;
    oci.run(&["kill", "idle", "KILL"])?;
    container.wait()?;
    oci.run(&["delete", "--force", "idle"])?;
    reap();
    executed?;
    Ok(Costs { start, life, exec, memory: observed?.memory })
}

/// A runtime and what it works on.
struct Oci<'a> {
    runtime: &'a Runtime,
    state: PathBuf,
    bundle: PathBuf,
}

impl<'a> Oci<'a> {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.runtime.words[0]);
        command.args(&self.runtime.words[1..]).arg("--root").arg(&self.state);
        command
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let mut command = self.command();
        command.args(words);
        run::quietly(command).with_context(|| words.join(" "))
    }

    fn create(&'a self, id: &'a str) -> Result<Container<'a>> {
        let pid_file = self.bundle.join("pid");
        let mut command = self.command();
        command
            .arg("create")
            .args(self.runtime.creation)
            .arg("--bundle")
            .arg(&self.bundle)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(id);
        run::quietly(command).context("create")?;
        let pid = fs::read_to_string(&pid_file)?.trim().parse().context("the pid file")?;
        Ok(Container { oci: self, id, pid: Pid::from_raw(pid), ended: false })
    }
}

/// A container that was created; dropping it removes it.
struct Container<'a> {
    oci: &'a Oci<'a>,
    id: &'a str,
    pid: Pid,
    ended: bool,
}

impl Container<'_> {
    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() > deadline => bail!("the container does not end"),
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
                Ok(_) | Err(Errno::ECHILD) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.ended = true;
        Ok(())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.oci.run(&["delete", "--force", self.id]);
            reap();
        }
    }
}

/// Takes note of all that ended.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// Writes a bundle whose container sees the host's files, as the other contenders do, and has a `/tmp` in memory.
pub(crate) fn write(directory: &Path, args: &[OsString]) -> Result<()> {
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let path = std::env::var("PATH").unwrap_or_default();
    let namespaces: Vec<_> =
        ["pid", "ipc", "uts", "mount", "network"].iter().map(|kind| json!({ "type": kind })).collect();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": [format!("PATH={path}")],
            "cwd": "/"
        },
        "root": {"path": "/", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
        ],
        "linux": {"namespaces": namespaces}
    });
    fs::write(directory.join("config.json"), config.to_string()).context("writing a bundle")
}
