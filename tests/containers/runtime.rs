//! The OCI runtime under test.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use amber_tests::setup::Setup;
use anyhow::{Context, Result};

/// Names the runtime to test.
const VARIABLE: &str = "AMBER_TEST_RUNTIME";
/// The `amber` of this workspace.
const OWN: &str = "amber";
/// The same, with KVM as its platform whatever `auto` would take.
const OWN_ON_KVM: &str = "amber-kvm";

/// A runtime that engines are told to use.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    /// What engines know it by, and the first part of the names of its tests.
    pub name: String,
    /// Its program; empty until it is prepared, for the one that is built.
    pub program: PathBuf,
}

impl Runtime {
    /// The one the environment names, or the `amber` of this workspace.
    pub(crate) fn chosen() -> Result<Runtime> {
        let word = env::var_os(VARIABLE).unwrap_or_else(|| OWN.into());
        if let Some(name) = word.to_str().filter(|word| [OWN, OWN_ON_KVM].contains(word)) {
            return Ok(Runtime { name: name.to_owned(), program: PathBuf::new() });
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let program = env::split_paths(&path).map(|directory| directory.join(&word)).find(|program| program.is_file());
        let program = program.with_context(|| format!("{VARIABLE} names no program"))?.canonicalize()?;
        let name = program.file_name().context("a runtime has a name")?.to_string_lossy().into_owned();
        Ok(Runtime { name, program })
    }

    /// Why it can run nothing on this machine.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let device = File::options().read(true).write(true).open("/dev/kvm");
        device.err().filter(|_| self.name == OWN_ON_KVM).map(|error| format!("/dev/kvm cannot be opened: {error}"))
    }

    /// Builds it if it is the one of this workspace. What has to be made is kept in `directory`.
    pub(crate) fn prepare(self, setup: &Setup, directory: &Path) -> Result<Runtime> {
        if !self.program.as_os_str().is_empty() {
            return Ok(self);
        }
        let amber = setup.amber()?.program().canonicalize()?;
        if self.name == OWN {
            return Ok(Runtime { program: amber, ..self });
        }
        // Not every engine can give a runtime flags; all can start a script.
        let (program, beside) = (directory.join(&self.name), directory.join("amber-itself"));
        fs::write(&program, "#!/bin/sh\nexec \"${0%/*}/amber-itself\" --platform kvm \"$@\"\n")?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let _ = fs::remove_file(&beside);
        symlink(amber, beside)?;
        Ok(Runtime { program, ..self })
    }

    /// The name of the test that runs the scenario with this runtime.
    pub(crate) fn test(&self, scenario: &str) -> String {
        format!("{}::containers::{scenario}", self.name)
    }
}
