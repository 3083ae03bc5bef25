//! Who is measured, and how each runs a command.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::bundle;
use crate::exits::Exits;
use crate::memory::{self, Idle};
use crate::run;
use crate::work::Workspace;

/// The contender others are compared with in the last column.
pub(crate) const RIVAL: &str = "runsc ptrace";

/// What begins the name of Amber on a platform.
pub(crate) const AMBER: &str = "amber ";
/// What begins the name of another build of Amber, which this one is compared with, on a platform.
pub(crate) const BEFORE: &str = "before ";

/// Amber on ptrace.
pub(crate) const PTRACE: &str = "amber ptrace";
/// Amber on KVM.
pub(crate) const KVM: &str = "amber kvm";

/// A way to run a command.
pub(crate) struct Contender {
    name: String,
    kind: Kind,
}

/// A contender as an OCI runtime.
pub(crate) struct Runtime {
    /// The first words of its command line.
    pub words: Vec<OsString>,
    /// Flags of its `create`.
    pub creation: &'static [&'static str],
}

enum Kind {
    Native,
    /// Amber on one of its platforms.
    Amber {
        program: PathBuf,
        platform: String,
    },
    /// A program whose command line ends with the command to run.
    Prefix(Vec<OsString>),
    /// An OCI runtime, for which a bundle is written each time.
    Bundle {
        runtime: PathBuf,
        flags: &'static [&'static str],
        /// Flags of `create` and `run`.
        creation: &'static [&'static str],
        directory: PathBuf,
    },
}

/// Every contender there may be on this machine, with another build of Amber if there is one.
pub(crate) fn all(workspace: &Workspace, before: Option<&Path>) -> Result<Vec<Contender>> {
    let mut list = vec![Contender { name: "native".into(), kind: Kind::Native }];
    let amber = build_amber()?;
    for platform in platforms(&amber)? {
        list.push(Contender::amber(&amber, &platform));
        if let Some(program) = before {
            list.push(Contender { name: format!("{BEFORE}{platform}"), ..Contender::amber(program, &platform) });
        }
    }
    match find_program("runsc") {
        Some(runsc) => {
            for platform in ["ptrace", "kvm"] {
                let mut prefix = vec![runsc.clone().into()];
                if !Uid::effective().is_root() {
                    prefix.push("--rootless".into());
                }
                prefix.extend([format!("--platform={platform}").into(), "--network=none".into(), "do".into()]);
                list.push(Contender { name: format!("runsc {platform}"), kind: Kind::Prefix(prefix) });
            }
        }
        None => println!("left out: runsc: not installed (Debian: apt-get install runsc)"),
    }
    // Both have the host's root as theirs, which runc can only change to.
    let others: [(&str, &[&str], &[&str]); 2] =
        [("crun", &["--cgroup-manager=disabled"], &[]), ("runc", &[], &["--no-pivot"])];
    for (name, flags, creation) in others {
        match find_program(name) {
            Some(runtime) if Uid::effective().is_root() => {
                let directory = workspace.directory(name)?;
                list.push(Contender { name: name.into(), kind: Kind::Bundle { runtime, flags, creation, directory } });
            }
            Some(_) => println!("left out: {name}: its bundle over the host's root needs root"),
            None => println!("left out: {name}: not installed (Debian: apt-get install {name})"),
        }
    }
    Ok(list)
}

impl Contender {
    /// Amber on a platform, as this program.
    pub(crate) fn amber(program: &Path, platform: &str) -> Contender {
        let kind = Kind::Amber { program: program.into(), platform: platform.to_owned() };
        Contender { name: format!("{AMBER}{platform}"), kind }
    }

    /// What the table calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The host command that runs `args` in this contender.
    pub(crate) fn command(&self, args: &[OsString]) -> Result<Command> {
        let (program, rest) = args.split_first().context("no command")?;
        Ok(match &self.kind {
            Kind::Native => {
                let mut command = Command::new(program);
                command.args(rest);
                command
            }
            Kind::Amber { program, platform } => amber_do(program, platform, &[], args),
            Kind::Prefix(prefix) => {
                let mut command = Command::new(&prefix[0]);
                command.args(&prefix[1..]).args(args);
                command
            }
            Kind::Bundle { runtime, flags, creation, directory } => {
                bundle::write(directory, args)?;
                let mut command = Command::new(runtime);
                let id = format!("amber-bench-{}", std::process::id());
                command.args(*flags).arg("run").args(*creation).arg("--bundle").arg(directory).arg(id);
                command
            }
        })
    }

    /// Whether it runs a program at all on this machine; says why if it does not.
    pub(crate) fn try_out(&self, micro: OsString) -> Result<()> {
        let command = self.command(&[micro, "nothing".into()])?;
        run::Running::start(command)?.finish(Duration::from_secs(20)).map(drop)
    }

    /// Runs a guest program and reads the lines it prints: names and nanoseconds.
    pub(crate) fn micro(&self, args: &[OsString]) -> Result<Vec<(String, f64)>> {
        self.micro_within(args, run::LIMIT)
    }

    /// The same, for a program that may not end in time.
    pub(crate) fn micro_within(&self, args: &[OsString], limit: Duration) -> Result<Vec<(String, f64)>> {
        let output = run::Running::start(self.command(args)?)?.finish(limit)?;
        let parse = |line: &str| {
            let (name, value) = line.trim_end().split_once('\t')?;
            Some((name.to_string(), value.parse().ok()?))
        };
        output.lines().map(|line| parse(line).with_context(|| format!("unexpected line {line:?}"))).collect()
    }

    /// It as an OCI runtime, if it is one.
    pub(crate) fn runtime(&self) -> Option<Runtime> {
        let (words, creation) = match &self.kind {
            Kind::Native => return None,
            Kind::Amber { program, platform } => {
                (vec![program.clone().into(), format!("--platform={platform}").into()], &[] as &[&str])
            }
            Kind::Prefix(prefix) => {
                let platform = prefix.iter().filter(|word| word.to_string_lossy().starts_with("--platform="));
                // With sockets of the host, as Amber has it; releases of 2022 refuse their own stack on newer hosts.
                let network = ["--network=host".into()];
                (prefix.first().into_iter().chain(platform).chain(&network).cloned().collect(), &[] as &[&str])
            }
            Kind::Bundle { runtime, flags, creation, .. } => {
                let flags = flags.iter().map(OsString::from);
                (std::iter::once(runtime.clone().into()).chain(flags).collect(), *creation)
            }
        };
        Some(Runtime { words, creation })
    }

    /// Whether it tells how often it left guest code.
    pub(crate) fn counts_exits(&self) -> bool {
        matches!(self.kind, Kind::Amber { .. })
    }

    /// How often a sandbox that runs a command leaves guest code.
    pub(crate) fn exits(&self, args: &[OsString]) -> Result<Exits> {
        let Kind::Amber { program, platform } = &self.kind else { bail!("nothing counts exits") };
        let metrics = NamedTempFile::new().context("making a temporary file")?;
        run::output(amber_do(program, platform, &["--metrics".as_ref(), metrics.path().as_ref()], args))?;
        Exits::parse(&fs::read_to_string(metrics.path())?)
    }

    /// Nanoseconds from the start of a command to its end, as its caller sees it.
    pub(crate) fn start(&self, args: &[OsString]) -> Result<f64> {
        let command = self.command(args)?;
        let start = Instant::now();
        run::output(command)?;
        Ok(start.elapsed().as_nanos() as f64)
    }

    /// What a sandbox costs in which nothing happens.
    pub(crate) fn idle(&self, micro: &OsString) -> Result<Idle> {
        const MILLISECONDS: &str = "4000";
        let mut child = run::Running::start(self.command(&[micro.clone(), "idle".into(), MILLISECONDS.into()])?)?;
        let idle = memory::observe(child.id());
        child.finish(run::LIMIT)?;
        idle
    }
}

fn amber_do(program: &Path, platform: &str, flags: &[&OsStr], args: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.arg("do").arg(format!("--platform={platform}")).args(flags).arg("--").args(args);
    command
}

/// The platforms that a build of Amber has.
fn platforms(amber: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(amber);
    command.arg("features");
    let features: Value = serde_json::from_str(&run::output(command)?).context("amber features")?;
    let platforms = features.pointer("/annotations/org.amber.platforms").and_then(Value::as_str);
    Ok(platforms.context("amber features names no platforms")?.split(' ').map(str::to_owned).collect())
}

/// Builds the `amber` that users install and finds it.
fn build_amber() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new(cargo).args(["static", "--quiet"]).current_dir(workspace).status().context("cargo")?;
    ensure!(status.success(), "building amber failed");
    let own = env::current_exe().context("finding the build directory")?;
    let target = own.parent().and_then(Path::parent).context("finding the build directory")?;
    Ok(target.join("x86_64-unknown-linux-gnu/dist/amber"))
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}
