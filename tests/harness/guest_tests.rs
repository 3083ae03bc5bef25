//! The tests made from guest programs: each natively, and on every platform.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use libtest_mimic::{Completion, Failed, Trial};

use crate::compile;
use crate::guest::{self, Guest};
use crate::run::{self, Outcome, TIME_LIMIT};
use crate::setup::Setup;

/// What a guest program says for "this cannot be tested here".
const SKIPPED: i32 = 77;

/// One test for each guest program and mode.
pub fn trials(setup: &Arc<Setup>, platforms: &[&str]) -> Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for guest in guest::find(&setup.sources.join("guests"))? {
        let guest = Arc::new(guest);
        for mode in std::iter::once("native").chain(platforms.iter().copied()) {
            trials.push(trial(&guest, mode, setup));
        }
    }
    Ok(trials)
}

/// Compiles every guest program, for tests run where there is no compiler.
pub fn compile_all(setup: &Setup) -> Result<()> {
    for guest in guest::find(&setup.sources.join("guests"))? {
        compile::guest(&guest, &setup.built.join("guests"))?;
    }
    Ok(())
}

fn trial(guest: &Arc<Guest>, mode: &str, setup: &Arc<Setup>) -> Trial {
    let name = format!("{mode}::{}", guest.path());
    let (guest, mode, setup, key) = (Arc::clone(guest), mode.to_owned(), Arc::clone(setup), name.clone());
    Trial::ignorable_test(name, move || match run_guest(&guest, &mode, &setup) {
        Ok(Ok(outcome)) => judge(&guest, &outcome, &setup, &key),
        Ok(Err(obstacle)) => Ok(Completion::ignored_with(obstacle)),
        Err(error) => Err(format!("{error:#}").into()),
    })
}

/// Runs the program; the inner error says why it cannot run here.
fn run_guest(guest: &Guest, mode: &str, setup: &Setup) -> Result<Result<Outcome, &'static str>> {
    let program = compile::guest(guest, &setup.built.join("guests"))?;
    let mut command = if mode == "native" {
        let native = setup.native()?;
        if let Some(obstacle) = native.obstacle() {
            return Ok(Err(obstacle));
        }
        native.command(&[], &program)
    } else {
        let mut command = setup.amber()?.run(mode, &guest.amber);
        command.arg(&program);
        command
    };
    command.args(&guest.args);
    let directory = tempfile::tempdir().context("a directory to run in")?;
    run::run(command, directory.path(), TIME_LIMIT).map(Ok)
}

/// Compares an outcome with what the program promises and with the list of known failures.
pub fn judge(guest: &Guest, outcome: &Outcome, setup: &Setup, name: &str) -> Result<Completion, Failed> {
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    let code = outcome.code();
    if code == Some(SKIPPED) {
        let skipped: Vec<&str> = stderr.lines().filter_map(|line| line.strip_prefix("SKIP ")).collect();
        return Ok(Completion::ignored_with(skipped.join("; ")));
    }
    let mut failed: BTreeSet<String> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("FAIL ")?.split_whitespace().next().map(str::to_owned))
        .collect();
    let printed = guest.stdout.as_ref().is_none_or(|line| stdout == format!("{line}\n"));
    // A program that did not get to its end has failed as a whole, whatever parts of it passed before.
    let ended = if failed.is_empty() { code == Some(guest.status) } else { code == Some(1) };
    if !ended || !printed {
        failed.insert(String::new());
    }
    let wanted = if guest.status == 0 { String::new() } else { format!(" (expected exit code {})", guest.status) };
    setup.judge(name, &failed, format_args!("{}{wanted}", outcome.describe()))
}
