//! `amber resume`: resumes a paused container.

use anyhow::{Result, bail};

use crate::oci::state::Status;
use crate::oci::{Runtime, pause};

/// Resumes all processes of a container.
///
/// # Errors
/// The container is not paused.
pub(super) fn command(runtime: &Runtime, id: &str) -> Result<()> {
    let locked = runtime.store.open(id)?.lock()?;
    match locked.state()?.current() {
        Status::Paused => pause::set(&locked, false),
        _ => bail!("container not paused"),
    }
}
