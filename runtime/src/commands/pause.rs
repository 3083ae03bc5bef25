//! `amber pause`: suspends a container.

use anyhow::{Result, bail};

use crate::oci::state::Status;
use crate::oci::{Runtime, pause};

/// Suspends all processes of a container.
///
/// # Errors
/// The container is not running.
pub(super) fn command(runtime: &Runtime, id: &str) -> Result<()> {
    let locked = runtime.store.open(id)?.lock()?;
    match locked.state()?.current() {
        Status::Running | Status::Created => pause::set(&locked, true),
        _ => bail!("container not running"),
    }
}
