//! The `amber` program as a library, for `main` and for tests and fuzz targets of single parts.
#![forbid(unsafe_code)]
// No input of a guest or of the caller panics the runtime.
#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::todo,
    clippy::unimplemented
)]

mod accounts;
mod bundle;
mod caller;
mod cli;
mod commands;
mod confine;
mod console;
mod launch;
mod logging;
mod metrics;
mod mountinfo;
mod mounts;
mod oci;
mod platforms;
mod printable;
mod proc_view;
mod rate;
mod resources;
#[cfg(test)]
mod sandbox_tests;
mod seccomp;
mod supervisor;

use std::env;
use std::io::{self, Write};
use std::panic;
use std::process::{self, ExitCode};

use amber_host::terminal;
use amber_sentry::config::BootError;
use anyhow::{Context, Result};

use crate::cli::{Cli, PartialCli};
use crate::oci::FailureKind;

/// Exit status when Amber itself fails. Docker uses the same; programs rarely do.
const FAILED: u8 = 125;
/// Exit status of a command of runc's with wrong arguments, as with runc.
const MISUSED: u8 = 1;
/// Exit status when the program was found but cannot be executed, as with shells.
const NOT_EXECUTABLE: u8 = 126;
/// Exit status when the program was not found, as with shells.
const NOT_FOUND: u8 = 127;

/// Runs the command line and returns the exit status.
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(report_panic));
    if let Some(result) = oci::role() {
        return ExitCode::from(result.unwrap_or_else(|error| {
            terminal::restore_terminal();
            logging::complain_plainly(&format!("{error:#}"));
            FAILED
        }));
    }
    let cli = match cli::parse(env::args_os()) {
        Ok(cli) => cli,
        // Help or the version was requested.
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return ExitCode::from(refuse(&one_line(&error.to_string()))),
    };
    let global = cli.global.clone();
    let failed = cli.command.failed();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            terminal::restore_terminal();
            logging::report(&global, &format!("{error:#}"));
            ExitCode::from(if failed == FAILED { status_of(&error) } else { failed })
        }
    }
}

/// The exit status that a shell's user expects for an error.
fn status_of(error: &anyhow::Error) -> u8 {
    let failure = error.downcast_ref::<oci::Failure>().map(|failure| failure.kind);
    match (error.downcast_ref(), failure) {
        (Some(BootError::NotFound { .. }), _) | (_, Some(FailureKind::NotFound)) => NOT_FOUND,
        (Some(BootError::NotExecutable { .. }), _) | (_, Some(FailureKind::NotExecutable)) => NOT_EXECUTABLE,
        _ => FAILED,
    }
}

/// Starts logging and runs the command.
fn run(cli: Cli) -> Result<u8> {
    logging::start(&cli.global)?;
    commands::command(cli.command, &cli.global)
}

/// Reports an error in the command line; for commands of runc's, in the same way as all their errors.
fn refuse(complaint: &str) -> u8 {
    let PartialCli { oci, log, format } = cli::salvage(env::args_os());
    let Some(command) = oci else {
        logging::complain_plainly(&format!("{complaint}; see amber --help"));
        return FAILED;
    };
    logging::report_early(log.as_deref(), format, &format!("{complaint}; see amber {command} --help"));
    MISUSED
}

/// The message of an argument error, without the usage after it.
fn one_line(complaint: &str) -> String {
    let lines = complaint.lines().take_while(|line| !line.is_empty()).map(str::trim);
    lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
}

/// Prints a text, each line made [printable]. A closed pipe is not an error, since readers such as `head` stop early.
///
/// # Errors
/// Standard output cannot be written.
///
/// [printable]: printable::printable
pub fn print(text: &str) -> Result<u8> {
    match io::stdout().write_all(printable::printable_lines(text).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(0),
    }
}

/// Prints one line for the operator instead of a backtrace: a panic is a defect of Amber, never of the input. The whole
/// sandbox ends, since its other threads might wait for the panicked one for ever.
fn report_panic(info: &panic::PanicHookInfo<'_>) {
    terminal::restore_terminal();
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    logging::complain_plainly(&format!(
        "internal error{place}: {message}; this is a defect of Amber, please report it"
    ));
    process::exit(FAILED.into());
}

/// The parsers of what guests and callers write, for the fuzz targets in `fuzz/`.
pub mod fuzzing {
    pub use crate::accounts::{name_of, resolve};
    pub use crate::bundle::Bundle;
    pub use crate::oci::control::{Reply, Request, receive};
    pub use crate::proc_view::serve;
}
