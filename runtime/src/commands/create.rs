//! `amber create`: a container that waits for its start.

use anyhow::Result;

use crate::cli::CreateArgs;
use crate::oci::Runtime;
use crate::oci::create::create;

/// Makes a container.
///
/// # Errors
/// What cannot be done, after which nothing is left.
pub fn command(runtime: &Runtime, args: &CreateArgs) -> Result<()> {
    create(runtime, args, false).map(drop)
}
