//! `cargo test -p amber-tests`: every guest program natively and on every platform.
//!
//! `AMBER_TEST_PLATFORMS` chooses the platforms (words, `ptrace` unless told), `AMBER` another program to test.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use amber_tests::amber::Amber;
use amber_tests::compile;
use amber_tests::guest::{self, Guest};
use amber_tests::known::KnownFailures;
use amber_tests::native::Native;
use amber_tests::run::{self, Outcome, TIME_LIMIT};
use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");
const BUILT: &str = env!("CARGO_TARGET_TMPDIR");

/// What a guest program says for "this cannot be tested here".
const SKIPPED: i32 = 77;

/// What the tests share; each part is made when the first test needs it, and says why it cannot be.
struct Setup {
    native: LazyLock<Result<Native, String>>,
    amber: LazyLock<Result<Amber, String>>,
    known: KnownFailures,
}

fn main() -> ExitCode {
    match try_main() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(2);
    let sources = Path::new(SOURCES);
    let setup = Arc::new(Setup {
        native: LazyLock::new(|| {
            Native::prepare(&Path::new(SOURCES).join("harness/native.c"), Path::new(BUILT))
                .map_err(|error| format!("{error:#}"))
        }),
        amber: LazyLock::new(|| Amber::prepare().map_err(|error| format!("{error:#}"))),
        known: KnownFailures::read(&sources.join("expected-failures.txt"))?,
    });
    let platforms = env::var("AMBER_TEST_PLATFORMS").unwrap_or_else(|_| "ptrace".to_owned());
    let mut trials = Vec::new();
    for guest in guest::find(&sources.join("guests"))? {
        for mode in std::iter::once("native").chain(platforms.split_whitespace()) {
            trials.push(guest_trial(&guest, mode, &setup));
        }
    }
    let names: Vec<String> = trials.iter().map(|trial| trial.name().to_owned()).collect();
    let modes: Vec<&str> = std::iter::once("native").chain(platforms.split_whitespace()).collect();
    let mut unknown = setup.known.unknown(&names).filter(|name| modes.iter().any(|mode| name.starts_with(mode)));
    if let Some(name) = unknown.next() {
        anyhow::bail!("expected-failures.txt lists {name}, which is no test");
    }
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

/// The test that `guest` passes in `mode`: "native", or the name of a platform.
fn guest_trial(guest: &Guest, mode: &str, setup: &Arc<Setup>) -> Trial {
    let name = format!("{mode}::{}", guest.path());
    let (guest, mode, setup, key) = (guest.clone(), mode.to_owned(), Arc::clone(setup), name.clone());
    Trial::ignorable_test(name, move || match run_guest(&guest, &mode, &setup) {
        Ok(Ok(outcome)) => judge(&guest, &outcome, &setup.known, &key),
        Ok(Err(obstacle)) => Ok(Completion::ignored_with(obstacle)),
        Err(error) => Err(format!("{error:#}").into()),
    })
}

/// Runs the program; the inner error says why it cannot run here.
fn run_guest(guest: &Guest, mode: &str, setup: &Setup) -> Result<Result<Outcome, &'static str>> {
    let program: PathBuf = compile::guest(guest, &Path::new(BUILT).join("guests"))?;
    let mut command = if mode == "native" {
        let native = setup.native.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        if let Some(obstacle) = native.obstacle() {
            return Ok(Err(obstacle));
        }
        native.command(None, &program)
    } else {
        let amber = setup.amber.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut command = amber.run(mode, &guest.amber);
        command.arg(&program);
        command
    };
    command.args(&guest.args);
    let directory = tempfile::tempdir().context("a directory to run in")?;
    run::run(command, directory.path(), TIME_LIMIT).map(Ok)
}

/// Compares an outcome with what the program promises and with the list of known failures.
fn judge(guest: &Guest, outcome: &Outcome, known: &KnownFailures, name: &str) -> Result<Completion, Failed> {
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    let skipped: Vec<&str> = stderr.lines().filter_map(|line| line.strip_prefix("SKIP ")).collect();
    let mut failed: BTreeSet<&str> =
        stderr.lines().filter_map(|line| line.strip_prefix("FAIL ")?.split_whitespace().next()).collect();
    let code = outcome.code();
    if code == Some(SKIPPED) {
        return Ok(Completion::ignored_with(skipped.join("; ")));
    }
    let printed = guest.stdout.as_ref().is_none_or(|line| stdout == format!("{line}\n"));
    if (code != Some(guest.status) || !printed) && failed.is_empty() {
        failed.insert("");
    }
    let expected = known.of(name);
    if failed.iter().copied().eq(expected.keys().map(String::as_str)) {
        if failed.is_empty() {
            return Ok(Completion::Completed);
        }
        let reasons: BTreeSet<&str> = expected.values().map(String::as_str).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        return Ok(Completion::ignored_with(format!("known failure: {}", reasons.join("; "))));
    }
    let passing: Vec<&str> = expected.keys().map(String::as_str).filter(|part| !failed.contains(part)).collect();
    if failed.iter().all(|part| expected.contains_key(*part)) {
        let parts = passing.join(", ");
        return Err(format!("passes now, take it out of expected-failures.txt: {name} {parts}").into());
    }
    let wanted = if guest.status == 0 { String::new() } else { format!(" (expected exit code {})", guest.status) };
    Err(format!("{}{wanted}", outcome.describe()).into())
}
