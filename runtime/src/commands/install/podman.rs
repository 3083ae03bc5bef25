//! Amber's own file in Podman's configuration directory.

use anyhow::Result;

/// The text of the file.
///
/// # Errors
/// Never fails; the type is that of [`Target::add`](super::Target).
pub(super) fn add(_text: Option<&str>, program: &str) -> Result<String> {
    Ok(format!("# Written by amber install.\n[engine.runtimes]\namber = [{program:?}]\n"))
}

/// Nothing remains of the file.
///
/// # Errors
/// Never fails; the type is that of [`Target::remove`](super::Target).
pub(super) fn remove(_text: &str) -> Result<Option<String>> {
    Ok(None)
}
