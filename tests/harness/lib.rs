//! Runs guest programs natively, where each must pass, and then under `amber` on every platform.
//!
//! Linux is the oracle: a program that fails natively asserts something Linux does not do, and is wrong itself.
#![forbid(unsafe_code)]

pub mod amber;
pub mod bad_input;
pub mod compile;
pub mod guest;
pub mod guest_tests;
pub mod host_network;
pub mod interactive;
pub mod known;
pub mod native;
pub mod real;
pub mod run;
pub mod setup;
pub mod streams;
pub mod terminal;

use std::process::ExitCode;

/// What a test program ends with; why it could not test is said.
pub fn exit_code(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}
