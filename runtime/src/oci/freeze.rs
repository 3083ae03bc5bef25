//! `amber pause` and `amber resume`: by the host's freezer, or by the sentry where there is none.

use amber_host::channel::Channel;
use anyhow::{Context, Result, bail};

use super::Runtime;
use super::control::{Request, order};
use super::state::Status;
use super::store::Locked;

/// Suspends all processes of a container.
///
/// # Errors
/// It does not run.
pub fn pause(runtime: &Runtime, id: &str) -> Result<()> {
    let locked = runtime.store.open(id)?.lock()?;
    match locked.state()?.current() {
        Status::Running | Status::Created => set(&locked, true),
        _ => bail!("container not running"),
    }
}

/// Resumes all processes of a container.
///
/// # Errors
/// It is not paused.
pub fn resume(runtime: &Runtime, id: &str) -> Result<()> {
    let locked = runtime.store.open(id)?.lock()?;
    match locked.state()?.current() {
        Status::Paused => set(&locked, false),
        _ => bail!("container not paused"),
    }
}

fn set(locked: &Locked, paused: bool) -> Result<()> {
    let mut state = locked.state()?;
    let by_host = match &state.cgroup {
        Some(group) => group.place.freeze(paused)?,
        None => false,
    };
    if !by_host {
        let channel = Channel::new(locked.connect().context("connecting to the sandbox")?);
        order(&channel, if paused { &Request::Pause } else { &Request::Resume })?;
    }
    state.paused = paused;
    locked.save(&state)
}
