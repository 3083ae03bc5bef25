//! The `amber` program.
#![forbid(unsafe_code)]

mod accounts;
mod bundle;
mod caller;
mod cli;
mod console;
mod logging;
mod mounts;
mod quick;
mod spec;

use std::panic;
use std::process::ExitCode;

use clap::Parser;

use crate::caller::Caller;
use crate::cli::{Cli, Command};

/// The exit status when Amber itself fails, as Docker has it: no program confuses it with its own.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    panic::set_hook(Box::new(report_panic));
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            amber_host::terminal::restore_terminal();
            eprintln!("amber: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    logging::start(&cli.global)?;
    let caller = Caller::take_over()?;
    let spec = match cli.command {
        Command::Do(args) => quick::sandbox(args, &caller)?,
        Command::Run(args) => bundle::sandbox(&args.bundle, &args.id)?,
        Command::Syscalls(_) => anyhow::bail!("the system call table is not there yet"),
    };
    log::debug!("{spec:?}");
    anyhow::bail!("the sentry is not there yet")
}

/// One line for the operator instead of a trace: a panic is a defect of Amber, never of the input.
fn report_panic(info: &panic::PanicHookInfo<'_>) {
    amber_host::terminal::restore_terminal();
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    eprintln!("amber: internal error{place}: {message}; this is a defect of Amber, please report it");
}
