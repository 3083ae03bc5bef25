//! The `amber` program under test, as a user has it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

/// An `amber` program and what it is started with.
#[derive(Debug, Clone)]
pub struct Amber {
    program: PathBuf,
}

impl Amber {
    /// Takes the program `AMBER` names, or builds the one of this workspace, in the profile the tests are built in.
    pub fn prepare() -> Result<Amber> {
        if let Some(program) = env::var_os("AMBER") {
            return Ok(Amber { program: PathBuf::from(program).canonicalize().context("AMBER names no program")? });
        }
        // The test is target/PROFILE/deps/conformance-HASH.
        let test = env::current_exe()?;
        let directory = test.parent().and_then(Path::parent).context("the test is in no target directory")?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--package", "amber", "--bin", "amber", "--manifest-path"]);
        cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        cargo.arg("--target-dir").arg(directory.parent().context("the test is in no target directory")?);
        match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") => {}
            Some(profile) => {
                cargo.args(["--profile", profile]);
            }
            None => bail!("the test is in no target directory"),
        }
        if !cargo.status().context("cannot run cargo")?.success() {
            bail!("amber does not build");
        }
        Ok(Amber { program: directory.join("amber") })
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The platforms it has.
    pub fn platforms(&self) -> Result<Vec<String>> {
        let output = self.command().arg("features").output().context("amber features")?;
        let features: Value = serde_json::from_slice(&output.stdout).context("amber features")?;
        let platforms = features.pointer("/annotations/org.amber.platforms").and_then(Value::as_str);
        Ok(platforms.context("amber features names no platforms")?.split(' ').map(str::to_owned).collect())
    }

    /// A command `amber WORDS…`, in the environment all tests use.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        run::plain_environment(&mut command);
        command
    }

    /// A command `amber --platform P do FLAGS -- `, to which the program and its arguments are to be added.
    pub fn run(&self, platform: &str, flags: &[String]) -> Command {
        let mut command = self.command();
        command.args(["--platform", platform, "do"]).args(flags).arg("--");
        command
    }
}
