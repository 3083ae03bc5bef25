//! Ending a container by force, and removing what remains of it.

use std::time::Duration;

use amber_host::process::ProcessHandle;
use anyhow::{Context, Result, ensure};

use super::hooks::{self, Time};
use super::proxy;
use super::state::{State, Status};
use super::store::Locked;

/// Kills a sandbox by means of the host only, and waits for its end.
///
/// # Errors
/// It does not end.
pub(crate) fn end(state: &State) -> Result<()> {
    if !state.is_alive() {
        return Ok(());
    }
    let Ok(handle) = ProcessHandle::open(state.pid) else { return Ok(()) };
    // The process ID may have been reused before the handle was opened.
    if !state.is_alive() {
        return Ok(());
    }
    match handle.signal(nix::libc::SIGKILL) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(()),
        result => result.context("killing the sandbox")?,
    }
    if let Some(group) = &state.cgroup {
        // A frozen process does not end.
        let _ = group.place.freeze(false);
    }
    ensure!(handle.wait(Duration::from_secs(10))?, "container init still running");
    Ok(())
}

/// Ends a container and removes all of it, its name last.
///
/// # Errors
/// A part cannot be removed.
pub(crate) fn clear_away(locked: Locked) -> Result<()> {
    let Ok(state) = locked.state() else { return locked.remove() };
    if state.is_alive()
        && let Ok(registry) = locked.proxies()
    {
        proxy::end_all(&registry);
    }
    end(&state)?;
    if let Some(group) = &state.cgroup {
        group.remove()?;
    }
    hooks::run(&state, Status::Stopped, Time::Stopped, None)?;
    locked.remove()
}
