//! Where the engines live: namespaces of processes, mounts and network that end with the tests, and all in them.
//!
//! The test starts itself again in there. `/run` is an empty one, so that an engine of the machine is not met; "the host"
//! of these tests, where a published port appears, is this network namespace.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use amber_tests::run;
use amber_tests::setup::Setup;
use anyhow::{Context, Result, bail};

use crate::runtime::Runtime;

/// Set inside: the directory everything is kept below.
const SPACE: &str = "AMBER_TEST_SPACE";
/// Set inside: the Debian tree that images are made of.
const TREE: &str = "AMBER_TEST_TREE";
/// The programs without which nothing can be tested.
const ENGINES: [&str; 9] =
    ["dockerd", "docker", "docker-compose", "containerd", "ctr", "podman", "runc", "curl", "wrk"];

/// What the first process of the namespaces does; it must reap what others leave, which a shell does.
const FIRST: &str = r#"
set -e
mount -t tmpfs tmpfs /run
# The engines make overlays, which cannot stand upon another.
[ "$(stat --file-system --format %T "$AMBER_TEST_SPACE")" != overlayfs ] || mount -t tmpfs tmpfs "$AMBER_TEST_SPACE"
ip link set lo up
set +e
"$0" "$@"
exit $?
"#;

/// The place, as the tests see it.
#[derive(Debug)]
pub(crate) struct Space {
    /// Everything that engines keep is below this directory.
    pub directory: PathBuf,
    /// The tree of files that images are made of.
    pub tree: PathBuf,
    /// The directory with the helpers of the scenarios.
    pub sources: PathBuf,
    /// What runs the containers.
    pub runtime: Runtime,
    /// The control group of all containers, as a path in each hierarchy.
    pub cgroup: &'static str,
}

/// Why containers cannot be tested on this machine at all.
pub(crate) fn obstacle() -> Option<String> {
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        return Some("the engines need root".to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = |program: &&str| env::split_paths(&path).any(|directory| directory.join(program).is_file());
    let missing: Vec<&str> = ENGINES.into_iter().filter(|program| !found(program)).collect();
    if !missing.is_empty() {
        return Some(format!("this machine lacks {}", missing.join(", ")));
    }
    let try_it = Command::new("unshare").args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "true"]).output();
    match try_it {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
        Err(error) => Some(format!("unshare cannot be run: {error}")),
    }
}

/// Whether this process is in the namespaces made for it.
pub(crate) fn is_own() -> bool {
    env::var_os(SPACE).is_some()
}

/// Runs this program with its arguments in new namespaces, to its end.
pub(crate) fn enter(runtime: Runtime, setup: &Setup) -> Result<ExitCode> {
    let directory = setup.built.join(format!("containers-{}", runtime.name));
    fs::create_dir_all(&directory)?;
    // What takes long, or needs the world outside, is made before the door closes.
    let (runtime, tree) = (runtime.prepare(setup, &directory)?, setup.services()?);
    // Two runs at once would meet in the directory.
    let mut command = Command::new("flock");
    command.arg(directory.join("lock")).args([
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        FIRST,
    ]);
    command.arg(env::current_exe()?).args(env::args_os().skip(1));
    command.env(SPACE, &directory).env(TREE, tree).env("AMBER_TEST_RUNTIME", &runtime.program);
    let status = command.status().context("cannot run flock")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Space {
    /// What [`enter`] prepared.
    pub(crate) fn inside(setup: &Setup, runtime: Runtime) -> Result<Space> {
        let given = |name| env::var_os(name).map(PathBuf::from).with_context(|| format!("{name} is not set"));
        let (directory, tree) = (given(SPACE)?, given(TREE)?);
        Ok(Space { directory, tree, sources: setup.sources.join("containers"), runtime, cgroup: "/amber-containers" })
    }

    /// A command in the environment of all scenarios.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        run::plain_environment(&mut command);
        command.env("DOCKER_CONFIG", self.directory.join("client")).env("DOCKER_BUILDKIT", "0");
        command.env("HELPERS", &self.sources).env("TREE", &self.tree).env("IMAGE", crate::images::SERVICES);
        command
            .env("RUNTIME", &self.runtime.program)
            .env("RUNTIME_NAME", &self.runtime.name)
            .env("CGROUP", self.cgroup);
        command
    }

    /// Runs `docker WORDS…` and gives what it prints.
    pub(crate) fn docker(&self, words: &[&str]) -> Result<String> {
        let output = self.command("docker").args(words).output().context("cannot run docker")?;
        if !output.status.success() {
            bail!("docker {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}
