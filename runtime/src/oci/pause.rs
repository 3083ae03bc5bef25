//! Suspending the processes of a container, by the host's freezer or, without one, by the sentry.

use amber_host::channel::Channel;
use anyhow::{Context, Result};

use super::control::{Request, order};
use super::store::Locked;

/// Suspends all processes of a container, or resumes them.
///
/// # Errors
/// The host's freezer or the sandbox refuses.
pub(crate) fn set(locked: &Locked, paused: bool) -> Result<()> {
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
