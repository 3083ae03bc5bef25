//! `amber delete`.

use anyhow::{Result, bail};

use super::create::end;
use super::hooks::{self, Time};
use super::state::Status;
use super::store::{Container, Locked};
use super::{Runtime, proxy};

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
    hooks::run(&state, Status::Stopped, Time::Stopped)?;
    locked.remove()
}
