//! `amber start`.

use amber_host::channel::Channel;
use anyhow::{Context, Result, bail};

use crate::oci::Runtime;
use crate::oci::control::{Reply, Request, order, receive};
use crate::oci::hooks::{self, Time};
use crate::oci::state::Status;

/// Lets a created container run.
///
/// # Errors
/// It is in no state for that.
pub fn command(runtime: &Runtime, id: &str) -> Result<()> {
    let locked = runtime.store.open(id)?.lock()?;
    let mut state = locked.state()?;
    match state.current() {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Running => bail!("cannot start an already running container"),
        status => bail!("cannot start a container in the {} state", status.name()),
    }
    let channel = Channel::new(locked.connect().context("connecting to the sandbox")?);
    if let Err(error) = order(&channel, &Request::Start) {
        // A sandbox whose hooks failed ends, and the connection with it.
        let _ = receive::<Reply>(&channel);
        return Err(error);
    }
    state.status = Status::Running;
    locked.save(&state)?;
    // Hooks may use other commands.
    drop(locked);
    if let Err(error) = hooks::run(&state, Status::Running, Time::Started) {
        crate::oci::removal::end(&state)?;
        return Err(error);
    }
    Ok(())
}
