//! The network namespace of a sandbox.

use std::fs::File;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

/// Goes into the network namespace that the bundle names, or into a new one.
///
/// # Errors
/// There is no such namespace, or the host does not permit it.
pub fn enter(spec: &Spec) -> Result<()> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
    let Some(wanted) = namespaces.iter().find(|it| it.typ() == LinuxNamespaceType::Network) else { return Ok(()) };
    match wanted.path() {
        Some(path) => {
            let shown = || format!("network namespace {}", path.display());
            setns(File::open(path).with_context(shown)?, CloneFlags::CLONE_NEWNET).with_context(shown)
        }
        None => unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace"),
    }
}
