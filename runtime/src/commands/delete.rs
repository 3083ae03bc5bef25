//! `amber delete`.

use anyhow::{Result, bail};

use crate::oci::Runtime;
use crate::oci::removal::{clear_away, end};
use crate::oci::state::Status;
use crate::oci::store::{Container, Locked};

/// Removes a container that has ended or was not started; with `force` any, and one that is not there is no error.
///
/// # Errors
/// It still runs, or something of it does not go away.
pub fn command(runtime: &Runtime, id: &str, force: bool) -> Result<()> {
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

/// Waits for the lock. A `create` at work is not waited for; with `force` nobody is: the sandbox is killed, so that a
/// `create`, or a `start` whose hooks take long, fails.
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
