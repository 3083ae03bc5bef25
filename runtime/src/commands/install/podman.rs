//! A file of its own among Podman's.

use anyhow::Result;

/// The whole file.
///
/// # Errors
/// None.
pub fn add(_text: Option<&str>, program: &str) -> Result<String> {
    Ok(format!("# Written by amber install.\n[engine.runtimes]\namber = [{program:?}]\n"))
}

/// Nothing is left of it.
///
/// # Errors
/// None.
pub fn remove(_text: &str) -> Result<Option<String>> {
    Ok(None)
}
