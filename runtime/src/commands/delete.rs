//! `amber delete`.

use anyhow::{Result, bail};

use crate::oci::Runtime;
use crate::oci::removal::{clear_away, end};
use crate::oci::state::Status;
use crate::oci::store::{Container, Locked};

/// Removes a container that has ended or was never started. With `force`, a running container is killed first, and a
/// missing one is not an error.
///
/// # Errors
/// The container is running, or a part of it cannot be removed.
pub(super) fn command(runtime: &Runtime, id: &str, force: bool) -> Result<()> {
    let container = match runtime.store.open(id) {
        Err(error) if force && error.to_string() == "container does not exist" => return Ok(()),
        container => container?,
    };
    let locked = match lock(container, id, force) {
        Err(error) if force && error.to_string() == "container does not exist" => return Ok(()),
        locked => locked?,
    };
    if locked.is_abandoned() {
        clear_away(locked)?;
        return if force { Ok(()) } else { bail!("container does not exist") };
    }
    let state = locked.state()?;
    match state.current() {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => bail!("cannot delete container {id} that is not stopped: {}", status.name()),
    }
    clear_away(locked)
}

/// Takes the container's lock. Fails if a `create` holds it. With `force`, kills the sandbox, so that a `create`, or a
/// `start` with slow hooks, fails and releases the lock.
fn lock(container: Container, id: &str, force: bool) -> Result<Locked> {
    if let Ok(state) = container.state()
        && container.is_locked()?
    {
        if force {
            end(&state)?;
        } else if state.status == Status::Creating {
            bail!("cannot delete container {id} that is not stopped: creating");
        }
    }
    container.lock()
}
