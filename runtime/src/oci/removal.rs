//! The end of a container by force, and the removal of what is left of it.

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
pub fn end(state: &State) -> Result<()> {
    if !state.is_alive() {
        return Ok(());
    }
    let Ok(handle) = ProcessHandle::open(state.pid) else { return Ok(()) };
    // Between the look and the handle it may have become another.
    if !state.is_alive() {
        return Ok(());
    }
    match handle.signal(nix::libc::SIGKILL) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(()),
        result => result.context("killing the sandbox")?,
    }
    if let Some(group) = &state.cgroup {
        // Who is frozen does not end.
        let _ = group.place.freeze(false);
    }
    ensure!(handle.wait(Duration::from_secs(10))?, "container init still running");
    Ok(())
}

/// Ends and removes all there is of a container, its name last.
///
/// # Errors
/// Something does not go away.
pub fn clear_away(locked: Locked) -> Result<()> {
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
