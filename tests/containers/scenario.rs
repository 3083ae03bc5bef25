//! The scenarios that are scripts: what a person would type, and what must come of it.
//!
//! Each is run by bash in a directory of its own, with the functions of `check.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amber_tests::run;
use amber_tests::setup::Setup;
use anyhow::{Context, Result};
use libtest_mimic::{Completion, Failed, Trial};

use crate::space::Space;

/// How long a scenario may take.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// A script.
pub(crate) struct Script {
    /// Its name, without the ending.
    pub name: String,
    path: PathBuf,
}

/// All scripts of the directory, by name.
pub(crate) fn all(directory: &Path) -> Result<Vec<Script>> {
    let mut scripts = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_stem().context("a script has a name")?.to_string_lossy().into_owned();
        scripts.push(Script { name, path });
    }
    scripts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(scripts)
}

/// A test for each script.
pub(crate) fn trials(setup: &Arc<Setup>, space: &Arc<Space>, scripts: Vec<Script>) -> Vec<Trial> {
    scripts
        .into_iter()
        .map(|script| {
            let name = space.runtime.test(&script.name);
            let (setup, space, test) = (Arc::clone(setup), Arc::clone(space), name.clone());
            Trial::ignorable_test(name, move || judge(&script, &test, &setup, &space))
        })
        .collect()
}

fn judge(script: &Script, test: &str, setup: &Setup, space: &Space) -> Result<Completion, Failed> {
    let outcome = run_one(script, space).map_err(|error| Failed::from(format!("{error:#}")))?;
    let failed = if outcome.code() == Some(0) { None } else { Some(String::new()) };
    setup.judge(test, &failed.into_iter().collect(), outcome.describe())
}

fn run_one(script: &Script, space: &Space) -> Result<run::Outcome> {
    let scratch = tempfile::tempdir_in(&space.directory)?;
    let mut command = space.command("bash");
    command.arg("-x").arg(&script.path).env("TMPDIR", scratch.path()).env("NAME", script.name.replace('_', "-"));
    run::run(command, scratch.path(), TIME_LIMIT)
}
