//! `amber state`: what one container is and does.

use anyhow::{Context, Result};

use crate::oci::Runtime;

/// Prints the state of one container.
///
/// # Errors
/// There is none of that name.
pub fn command(runtime: &Runtime, id: &str) -> Result<u8> {
    let (_, state) = runtime.store.load(id)?;
    let shown = serde_json::to_string_pretty(&state.shown(state.current(), "")).context("the state")?;
    crate::print(&shown)
}
