//! A Docker daemon of the tests' own.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wait_timeout::ChildExt;

use crate::images;
use crate::space::Space;

/// How long the daemon may take to come up, and to go.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The running daemon. What it holds when it is dropped goes with the namespaces.
pub(crate) struct Engine {
    space: Arc<Space>,
    daemon: Child,
}

impl Engine {
    /// Starts the daemon with the runtime under test as its default, and gives it the images.
    pub(crate) fn start(space: &Arc<Space>) -> Result<Engine> {
        let runtime = &space.runtime;
        let configuration = space.directory.join("daemon.json");
        let mut settings = serde_json::json!({
            "default-runtime": runtime.name,
            "cgroup-parent": space.cgroup,
            "data-root": space.directory.join("docker"),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
        });
        if runtime.name != "runc" {
            settings["runtimes"] = serde_json::json!({ &runtime.name: { "path": runtime.program } });
        }
        fs::write(&configuration, settings.to_string())?;
        let log = File::create(space.directory.join("dockerd.log"))?;
        let mut command = space.command("dockerd");
        command.arg("--config-file").arg(&configuration).stdin(Stdio::null());
        let daemon = command.stdout(log.try_clone()?).stderr(log).spawn().context("cannot start dockerd")?;
        let mut engine = Engine { space: Arc::clone(space), daemon };
        engine.wait_until_up()?;
        engine.clear()?;
        images::import(space)?;
        Ok(engine)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let Err(error) = self.space.docker(&["version"]) else { return Ok(()) };
            if self.daemon.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.space.directory.join("dockerd.log"))?;
                let lines: Vec<&str> = log.lines().collect();
                bail!("dockerd does not come up: {error}\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Removes what a run before this one left, for that one may have been killed.
    fn clear(&self) -> Result<()> {
        let left = self.space.docker(&["ps", "--all", "--quiet"])?;
        for container in left.lines() {
            self.space.docker(&["rm", "--force", "--volumes", container])?;
        }
        self.space.docker(&["network", "prune", "--force"])?;
        self.space.docker(&["volume", "prune", "--force"])?;
        Ok(())
    }

    /// Why no runtime could pass here: what keeps runc, which is known to be right, from running a container.
    pub(crate) fn unfit(&self) -> Result<Option<String>> {
        let words = ["run", "--rm", "--runtime", "runc", images::SERVICES, "true"];
        Ok(self.space.docker(&words).err().map(|error| error.to_string()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        if !matches!(self.daemon.wait_timeout(TIMEOUT), Ok(Some(_))) {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }
}
