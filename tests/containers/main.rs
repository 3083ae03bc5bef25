//! `cargo test -p amber-tests --test containers`: Docker, containerd and Podman with Amber as their runtime.
//!
//! The engines are those of this machine, started for the tests alone, in namespaces of their own. `AMBER_TEST_RUNTIME`
//! names another runtime, by a name or a path: with `runc` it is seen that a scenario is right. `amber-kvm` is the `amber` of
//! this workspace with KVM as its platform.
#![forbid(unsafe_code)]

mod at_terminal;
mod engine;
mod images;
mod leftovers;
mod runtime;
mod scenario;
mod space;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use amber_tests::exit_code;
use amber_tests::setup::Setup;
use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Trial};

use crate::engine::Engine;
use crate::runtime::Runtime;
use crate::space::Space;

fn main() -> ExitCode {
    exit_code(try_main())
}

/// Starts the engines and runs the tests that the arguments choose.
fn try_main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(2);
    let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let setup = Setup::new(sources.clone(), PathBuf::from(env!("CARGO_TARGET_TMPDIR")))?;
    let scripts = scenario::all(&sources.join("containers/scenarios"))?;
    let runtime = Runtime::chosen()?;
    let names: Vec<String> = scripts
        .iter()
        .map(|script| script.name.clone())
        .chain(at_terminal::names())
        .map(|name| runtime.test(&name))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(name) = setup.known.unknown(&names).find(|name| name.starts_with(&runtime.test(""))) {
        bail!("expected-failures.txt lists {name}, which is no test");
    }
    let wanted = |trial: &Trial| wanted(&args, trial.name());
    let listed: Vec<Trial> = names.iter().map(|name| Trial::test(*name, || Ok(()))).collect();
    if args.list || !listed.iter().any(wanted) {
        return Ok(libtest_mimic::run(&args, listed).exit_code());
    }
    if let Some(obstacle) = space::obstacle().or_else(|| runtime.obstacle()) {
        return Ok(skip(&args, listed, &obstacle));
    }
    if !space::is_own() {
        return space::enter(runtime, &setup);
    }
    let space = Arc::new(Space::inside(&setup, runtime)?);
    let engine = Engine::start(&space)?;
    if let Some(reason) = engine.unfit()? {
        return Ok(skip(&args, listed, &format!("runc runs none here: {reason}")));
    }
    leftovers::clear(&space)?;
    let mounted = leftovers::mounts(&space)?;
    let mut trials = scenario::trials(&setup, &space, scripts);
    trials.extend(at_terminal::trials(&setup, &space));
    let conclusion = libtest_mimic::run(&args, trials);
    let left = leftovers::find(&space, &mounted)?;
    drop(engine);
    if !left.is_empty() {
        bail!("left behind:\n{}", left.join("\n"));
    }
    Ok(conclusion.exit_code())
}

/// Says loudly that no test is run, and why, and has each counted as ignored.
fn skip(args: &Arguments, listed: Vec<Trial>, reason: &str) -> ExitCode {
    eprintln!("SKIPPED: every test with containers, since {reason}");
    let ignored = listed.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    libtest_mimic::run(args, ignored).exit_code()
}

/// Whether the command line asks for the test `name`.
fn wanted(args: &Arguments, name: &str) -> bool {
    let matches = |pattern: &String| if args.exact { name == pattern } else { name.contains(pattern.as_str()) };
    args.filter.as_ref().is_none_or(matches) && !args.skip.iter().any(matches) && !args.ignored
}
