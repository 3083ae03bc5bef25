//! Real programs in the Debian tree: the same scripts give the same output and status natively and in Amber.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Completion, Failed, Trial};

use crate::run::{self, Outcome};
use crate::setup::Setup;

/// How long one script may take; compilers under a debug build of Amber need a while.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// What a script says for "this cannot be done here".
const SKIPPED: i32 = 77;

/// A script, and what it did natively once that is known.
struct Script {
    path: PathBuf,
    native: OnceLock<Result<Outcome, String>>,
}

impl Script {
    fn stem(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The words that run it inside the tree.
    fn words(&self) -> [String; 2] {
        let interpreter = if self.path.extension() == Some("py".as_ref()) { "/usr/bin/python3" } else { "/bin/bash" };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        [interpreter.to_owned(), format!("/real/{name}")]
    }

    fn native(&self, setup: &Setup) -> Result<&Outcome> {
        let outcome = self.native.get_or_init(|| self.run_native(setup).map_err(|error| format!("{error:#}")));
        outcome.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn run_native(&self, setup: &Setup) -> Result<Outcome> {
        let [interpreter, script] = self.words();
        let flags = native_flags(setup.tree()?, &setup.sources);
        let mut command = setup.native()?.command(&flags, Path::new(&interpreter));
        command.arg(script);
        run::run(command, tempfile::tempdir().context("a directory to run in")?.path(), TIME_LIMIT)
    }

    fn run_amber(&self, setup: &Setup, platform: &str) -> Result<Outcome> {
        let mut command = setup.amber()?.run(platform, &amber_flags(setup.tree()?, &setup.sources));
        command.args(self.words());
        run::run(command, tempfile::tempdir().context("a directory to run in")?.path(), TIME_LIMIT)
    }
}

/// The flags that show the native launcher the tree, and the scripts in it.
pub fn native_flags(tree: &Path, sources: &Path) -> Vec<String> {
    let volume = format!("{}:/real", sources.join("real").display());
    vec!["-r".to_owned(), tree.display().to_string(), "-v".to_owned(), volume]
}

/// The same for `amber do`.
pub fn amber_flags(tree: &Path, sources: &Path) -> Vec<String> {
    let volume = format!("{}:/real:ro", sources.join("real").display());
    let flags = ["--rootfs", &tree.display().to_string(), "--cwd", "/tmp", "--volume", &volume];
    flags.map(str::to_owned).to_vec()
}

/// One test for each script and mode.
pub fn trials(setup: &Arc<Setup>, platforms: &[&str]) -> Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for entry in fs::read_dir(setup.sources.join("real"))? {
        let script = Arc::new(Script { path: entry?.path(), native: OnceLock::new() });
        for mode in std::iter::once("native").chain(platforms.iter().copied()) {
            let name = format!("{mode}::real::{}", script.stem());
            let (script, mode, setup, key) = (Arc::clone(&script), mode.to_owned(), Arc::clone(setup), name.clone());
            trials.push(Trial::ignorable_test(name, move || compare(&script, &mode, &setup, &key)));
        }
    }
    trials.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(trials)
}

fn compare(script: &Script, mode: &str, setup: &Setup, name: &str) -> Result<Completion, Failed> {
    let fail = |error: anyhow::Error| Failed::from(format!("{error:#}"));
    if let Some(obstacle) = setup.native().map_err(fail)?.obstacle() {
        return Ok(Completion::ignored_with(obstacle));
    }
    let native = script.native(setup).map_err(fail)?;
    match native.code() {
        Some(0) => {}
        Some(SKIPPED) => return Ok(Completion::ignored_with("cannot be done natively here")),
        _ if mode == "native" => return Err(native.describe().into()),
        _ => return Err("does not work natively".into()),
    }
    if mode == "native" {
        return Ok(Completion::Completed);
    }
    let amber = script.run_amber(setup, mode).map_err(fail)?;
    let mut failed = BTreeSet::new();
    if amber.code() != native.code() || amber.stdout != native.stdout {
        failed.insert(String::new());
    }
    let expected = String::from_utf8_lossy(&native.stdout);
    setup.judge(name, &failed, format_args!("{}--- expected\n{expected}", amber.describe()))
}
