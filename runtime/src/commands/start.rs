//! `amber start`.

use std::os::fd::AsFd;

use amber_host::channel::Channel;
use amber_host::signals::SignalWatch;
use anyhow::{Context, Result, bail};

use crate::oci::Runtime;
use crate::oci::control::{Reply, Request, order, receive};
use crate::oci::hooks::{self, Time};
use crate::oci::state::Status;

/// Starts a created container. While hooks run, one of `signals` interrupts the wait; without `signals`, signals to
/// this process have their usual effect.
///
/// # Errors
/// The container is in another state, a hook failed, or a signal interrupted the wait.
pub(super) fn command(runtime: &Runtime, id: &str, signals: Option<&SignalWatch>) -> Result<()> {
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
        // If a hook fails, the sandbox ends and closes the connection.
        let _ = receive::<Reply>(&channel);
        return Err(error);
    }
    state.status = Status::Running;
    locked.save(&state)?;
    // Hooks may call other commands, which need the lock.
    drop(locked);
    if let Err(error) = hooks::run(&state, Status::Running, Time::Started, signals) {
        crate::oci::removal::end(&state)?;
        return Err(error);
    }
    Ok(())
}
