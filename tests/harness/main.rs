//! `cargo test -p amber-tests`: every guest program and every real program, natively and on every platform.
//!
//! `AMBER_TEST_PLATFORMS` chooses the platforms (words; unless told, all that this machine has), `AMBER` another program
//! to test, `AMBER_ROOTFS` another place for the Debian tree. With `AMBER_TEST_COMPILE` the guest programs are compiled
//! and nothing is run.
#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use amber_tests::setup::Setup;
use amber_tests::{bad_input, exit_code, guest_tests, host_network, interactive, real, streams};
use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    exit_code(try_main())
}

/// Finds the tests and runs those that the arguments choose.
fn try_main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(2);
    let setup = Setup::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from(env!("CARGO_TARGET_TMPDIR")))?;
    if env::var_os("AMBER_TEST_COMPILE").is_some() {
        guest_tests::compile_all(&setup)?;
        return Ok(ExitCode::SUCCESS);
    }
    let platforms = match env::var("AMBER_TEST_PLATFORMS") {
        Ok(chosen) => chosen.split_whitespace().map(str::to_owned).collect(),
        Err(_) => available(setup.amber()?.platforms()?),
    };
    let platforms: Vec<&str> = platforms.iter().map(String::as_str).collect();
    let mut trials = guest_tests::trials(&setup, &platforms)?;
    trials.extend(real::trials(&setup, &platforms)?);
    trials.extend(interactive::trials(&setup, &platforms));
    trials.extend(host_network::trials(&setup, &platforms)?);
    trials.extend(bad_input::trials(&setup, &platforms));
    trials.extend(streams::trials(&setup, &platforms));
    let names: Vec<&str> = trials.iter().map(Trial::name).collect();
    let listed = setup.known.unknown(&names).find(|name| platforms.iter().any(|mode| name.starts_with(mode)));
    if let Some(name) = listed {
        bail!("expected-failures.txt lists {name}, which is no test");
    }
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

/// Those platforms that this machine can have. What is missing is said loudly.
fn available(mut all: Vec<String>) -> Vec<String> {
    all.retain(|platform| match missing(platform) {
        None => true,
        Some(reason) => {
            eprintln!("SKIPPED: every test on the {platform} platform, since {reason}");
            false
        }
    });
    all
}

/// What a platform needs that this machine does not have.
fn missing(platform: &str) -> Option<String> {
    let error = match platform {
        "kvm" => File::options().read(true).write(true).open("/dev/kvm").err()?,
        _ => return None,
    };
    Some(format!("/dev/kvm cannot be opened: {error}"))
}
