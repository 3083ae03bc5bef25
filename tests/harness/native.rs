//! Runs programs on the host's own kernel, in namespaces of their own (see `native.c`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{compile, run};

/// The launcher, compiled.
#[derive(Debug, Clone)]
pub struct Native {
    launcher: PathBuf,
}

impl Native {
    /// Compiles the launcher into `directory`.
    pub fn prepare(source: &Path, directory: &Path) -> Result<Native> {
        let launcher = compile::program(source, &directory.join("native"), &["-static", "-O1", "-Wall", "-Werror"])?;
        Ok(Native { launcher })
    }

    /// Where the launcher is.
    pub fn program(&self) -> &Path {
        &self.launcher
    }

    /// Why programs cannot be run natively here, if they cannot.
    pub fn obstacle(&self) -> Option<&'static str> {
        let id = Command::new("id").arg("-u").output().ok()?;
        (id.stdout.trim_ascii() != b"0")
            .then_some("native runs need root, for namespaces and for the tests of permissions")
    }

    /// A command that will run `program` natively, with these flags of the launcher.
    pub fn command(&self, flags: &[String], program: &Path) -> Command {
        let mut command = Command::new(&self.launcher);
        run::plain_environment(&mut command);
        command.args(flags).arg("--").arg(program);
        command
    }
}
