//! `amber run`: `create`, `start` and `delete` in one command.

use std::os::fd::OwnedFd;

use amber_host::signals::SignalWatch;
use anyhow::{Context, Result};

use super::{delete, start};
use crate::cli::RunArgs;
use crate::launch::{ENDING, FORWARDED};
use crate::oci::Runtime;
use crate::oci::create::{Created, create, end_child};
use crate::supervisor::supervise;

/// Runs a container and waits for its end, unless `--detach` is given.
///
/// # Errors
/// Those of `create`, `start` and `delete`.
pub(super) fn command(runtime: &Runtime, args: &RunArgs) -> Result<u8> {
    let id = &args.create.id;
    let Created { pid, stops } = create(runtime, &args.create, !args.detach)?;
    // Watched before the start, so that no signal is missed.
    let signals = if args.detach { None } else { Some(SignalWatch::new(&FORWARDED).context("watching signals")?) };
    let ending = SignalWatch::new(&ENDING).context("watching signals")?;
    let started = start::command(runtime, id, Some(&ending));
    let status = match (started, signals) {
        (Err(error), _) => {
            // The error of `start` takes precedence over one of the removal.
            end_child(pid);
            let _ = delete::command(runtime, id, true);
            return Err(error);
        }
        (Ok(()), None) => return Ok(0),
        (Ok(()), Some(signals)) => supervise(pid, signals, Some(OwnedFd::from(stops).into()))?,
    };
    if !args.keep {
        delete::command(runtime, id, true)?;
    }
    Ok(status)
}
