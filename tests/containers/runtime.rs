//! The OCI runtime under test.

use std::env;
use std::path::PathBuf;

use amber_tests::setup::Setup;
use anyhow::{Context, Result};

/// Names the runtime to test.
const VARIABLE: &str = "AMBER_TEST_RUNTIME";

/// A runtime that engines are told to use.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// What engines know it by, and the first part of the names of its tests.
    pub name: String,
    /// Its program; empty until it is prepared, for the one that is built.
    pub program: PathBuf,
}

impl Runtime {
    /// The one the environment names, or the `amber` of this workspace.
    pub fn chosen() -> Result<Runtime> {
        let Some(word) = env::var_os(VARIABLE) else {
            return Ok(Runtime { name: "amber".to_owned(), program: PathBuf::new() });
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let program = env::split_paths(&path).map(|directory| directory.join(&word)).find(|program| program.is_file());
        let program = program.with_context(|| format!("{VARIABLE} names no program"))?.canonicalize()?;
        let name = program.file_name().context("a runtime has a name")?.to_string_lossy().into_owned();
        Ok(Runtime { name, program })
    }

    /// Builds it if it is the one of this workspace.
    pub fn prepare(self, setup: &Setup) -> Result<Runtime> {
        if self.program.as_os_str().is_empty() {
            return Ok(Runtime { program: setup.amber()?.program().canonicalize()?, ..self });
        }
        Ok(self)
    }

    /// The name of the test that runs the scenario with this runtime.
    pub fn test(&self, scenario: &str) -> String {
        format!("{}::containers::{scenario}", self.name)
    }
}
