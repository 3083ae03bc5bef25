//! `amber pause` and `amber resume`: by the host's freezer, or by the sentry where there is none.

use amber_host::channel::Channel;
use anyhow::{Context, Result, bail};

use super::Runtime;
use super::control::{Request, order};
use super::state::Status;

/// Suspends all processes of a container.
///
/// # Errors
/// It does not run.
pub fn pause(runtime: &Runtime, id: &str) -> Result<()> {
    let locked = runtime.store.open(id)?.lock()?;
    let mut state = locked.state()?;
    match state.current() {
        Status::Running | Status::Created => {}
        _ => bail!("container not running"),
    }
    let frozen = match &state.cgroup {
        Some(place) => place.freeze(true)?,
        None => false,
    };
    if !frozen {
        let channel = Channel::new(locked.connect().context("connecting to the sandbox")?);
        order(&channel, &Request::Pause)?;
    }
    state.status = Status::Paused;
    locked.save(&state)
}

/// Resumes all processes of a container.
///
/// # Errors
/// It is not paused.
pub fn resume(runtime: &Runtime, id: &str) -> Result<()> {
    let locked = runtime.store.open(id)?.lock()?;
    let mut state = locked.state()?;
    if state.current() != Status::Paused {
        bail!("container not paused");
    }
    let thawed = match &state.cgroup {
        Some(place) => place.freeze(false)?,
        None => false,
    };
    if !thawed {
        let channel = Channel::new(locked.connect().context("connecting to the sandbox")?);
        order(&channel, &Request::Resume)?;
    }
    state.status = Status::Running;
    locked.save(&state)
}
