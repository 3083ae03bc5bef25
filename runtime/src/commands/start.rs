//! `amber start`.

use std::os::fd::AsFd;

use amber_host::channel::Channel;
use amber_host::signals::SignalWatch;
use anyhow::{Context, Result, bail};

use crate::oci::Runtime;
use crate::oci::control::{Reply, Request, order, receive};
use crate::oci::hooks::{self, Time};
use crate::oci::state::Status;

/// Lets a created container run. Hooks are waited for until one of these signals comes; without them, signals to this
/// process have their usual effect.
///
/// # Errors
/// It is in no state for that, a hook failed, or such a signal came.
pub fn command(runtime: &Runtime, id: &str, signals: Option<&SignalWatch>) -> Result<()> {
    let locked = runtime.store.open(id)?.lock()?;
    let mut state = locked.state()?;
    match state.current() {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Running => bail!("cannot start an already running container"),
        status => bail!("cannot start a container in the {} state", status.name()),
    }
    let mut channel = Channel::new(locked.connect().context("connecting to the sandbox")?);
    channel.interrupt_by(signals.map(AsFd::as_fd)).context("duplicating a descriptor")?;
    if let Err(error) = order(&channel, &Request::Start) {
        // A sandbox whose hooks failed ends, and the connection with it.
        let _ = receive::<Reply>(&channel);
        return Err(error);
    }
    state.status = Status::Running;
    locked.save(&state)?;
    // Hooks may use other commands.
    drop(locked);
    if let Err(error) = hooks::run(&state, Status::Running, Time::Started, signals) {
        crate::oci::removal::end(&state)?;
        return Err(error);
    }
    Ok(())
}
