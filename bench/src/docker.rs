//! A Docker daemon of the benchmark's own, in namespaces that end with it, and servers in its containers.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::run;

/// The image: Debian with servers, as the container tests have it.
const IMAGE: &str = "services";
/// How long the daemon may take to come up.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What the first process of the namespaces does.
const FIRST: &str = r#"mount -t tmpfs tmpfs /run && ip link set lo up && dockerd "$@"; exit $?"#;

/// The running daemon.
pub(crate) struct Docker {
    directory: PathBuf,
    keeper: Child,
}

impl Docker {
    /// Starts the daemon with all the runtimes (names and command lines) and gives it the image.
    pub(crate) fn start(directory: &Path, runtimes: &[(String, Vec<OsString>)]) -> Result<Docker> {
        let tree = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/rootfs/build"))
            .arg("services")
            .output()?;
        ensure!(tree.status.success(), "no Debian tree: {}", String::from_utf8_lossy(&tree.stderr).trim_end());
        let known: serde_json::Map<_, _> = runtimes
            .iter()
            .map(|(name, words)| {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                (name.clone(), json!({ "path": words[0], "runtimeArgs": words[1..] }))
            })
            .collect();
        let settings = json!({
            "hosts": [format!("unix://{}", directory.join("docker.sock").display())],
            "data-root": directory.join("data"),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "runtimes": known,
        });
        fs::write(directory.join("daemon.json"), settings.to_string())?;
        let log = File::create(directory.join("log"))?;
        let keeper = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", FIRST, "sh"])
            .arg("--config-file")
            .arg(directory.join("daemon.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("unshare")?;
        let mut docker = Docker { directory: directory.to_owned(), keeper };
        let deadline = Instant::now() + TIMEOUT;
        while docker.run(&["version"]).is_err() {
            ensure!(docker.keeper.try_wait()?.is_none() && Instant::now() < deadline, "dockerd does not come up");
            thread::sleep(Duration::from_millis(200));
        }
        let mut import = Command::new("bash");
        import.args(["-c", r#"set -o pipefail; tar --create --directory "$0" . | docker --host "$1" import - "$2""#]);
        import.args([String::from_utf8(tree.stdout)?.trim_end(), &docker.host(), IMAGE]);
        run::output(import).context("importing the image")?;
        Ok(docker)
    }

    fn host(&self) -> String {
        format!("unix://{}", self.directory.join("docker.sock").display())
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.host()).args(words);
        Ok(run::output(command)?.trim_end().to_owned())
    }

    /// Nanoseconds of `docker run --rm … true`.
    pub(crate) fn run_true(&self, runtime: &str) -> Result<f64> {
        let begin = Instant::now();
        self.run(&["run", "--rm", "--runtime", runtime, IMAGE, "true"])?;
        Ok(begin.elapsed().as_nanos() as f64)
    }

    /// Nanoseconds a request takes from nginx, asked over twenty connections by the daemon's host.
    pub(crate) fn nginx(&self, runtime: &str) -> Result<f64> {
        let server = Server::start(self, runtime, &["nginx", "-g", "daemon off;"])?;
        let address = format!("http://{}/index.nginx-debian.html", server.address);
        server.wait_until(|| run::output(self.on_host(&["curl", "--silent", "--fail", &address])).map(drop))?;
        let said =
            run::output(self.on_host(&["wrk", "--threads", "1", "--connections", "20", "--duration", "3s", &address]))?;
        let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk tells no rate")?;
        Ok(1e9 / rate.trim().parse::<f64>()?)
    }

    /// Nanoseconds a GET takes from redis, asked over twenty connections from a container of runc's.
    pub(crate) fn redis(&self, runtime: &str) -> Result<f64> {
        let server = Server::start(self, runtime, &["redis-server", "--protected-mode", "no", "--save", ""])?;
        let client = ["run", "--rm", "--runtime", "runc", IMAGE];
        let ask = |words: &[&str]| self.run(&[&client, words].concat());
        server.wait_until(|| ask(&["redis-cli", "-h", &server.address, "ping"]).map(drop))?;
        let said = ask(&["redis-benchmark", "-h", &server.address, "-n", "20000", "-c", "20", "-t", "get", "--csv"])?;
        let line = said.lines().find_map(|line| line.strip_prefix("\"GET\",\"")).context("no rate of GET")?;
        let rate = line.split('"').next().context("no rate")?;
        Ok(1e9 / rate.parse::<f64>()?)
    }

    /// A command in the network the daemon's bridge is in.
    fn on_host(&self, words: &[&str]) -> Command {
        let keeper = self.keeper.id();
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap_or_default();
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", children.trim(), "--"]).args(words);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A container with a server, removed when it is dropped.
struct Server<'a> {
    docker: &'a Docker,
    id: String,
    address: String,
}

impl<'a> Server<'a> {
    fn start(docker: &'a Docker, runtime: &str, words: &[&str]) -> Result<Server<'a>> {
        let id = docker.run(&[&["run", "--detach", "--runtime", runtime, IMAGE], words].concat())?;
        let mut server = Server { docker, id, address: String::new() };
        server.address = docker.run(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", &server.id])?;
        Ok(server)
    }

    fn wait_until(&self, answers: impl Fn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(15);
        while let Err(error) = answers() {
            if Instant::now() > deadline {
                bail!("the server does not answer: {error:#}");
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.docker.run(&["rm", "--force", &self.id]);
    }
}
