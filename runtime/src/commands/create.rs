//! `amber create`: creates a container without starting it.

use anyhow::Result;

use crate::cli::CreateArgs;
use crate::oci::Runtime;
use crate::oci::create::create;

/// Creates a container.
///
/// # Errors
/// The container cannot be created; nothing of it remains.
pub(super) fn command(runtime: &Runtime, args: &CreateArgs) -> Result<()> {
    create(runtime, args, false).map(drop)
}
