//! `amber state`: prints the state of a container.

use anyhow::{Context, Result};

use crate::oci::Runtime;

/// Prints the state of a container as JSON.
///
/// # Errors
/// There is no such container.
pub(super) fn command(runtime: &Runtime, id: &str) -> Result<u8> {
    let (_, state) = runtime.store.load(id)?;
    let shown = serde_json::to_string_pretty(&state.shown(state.current(), "")).context("the state")?;
    crate::print(&shown)
}
