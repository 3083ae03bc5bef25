//! The capabilities that a sandbox keeps: those that serving host files needs.

use nix::unistd::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::{Needs, identity};

/// To read files of any owner, as root does.
const READING: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;
/// To create files of any owner, as root does; no device nodes.
const WRITING: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);
/// To pin stubs to the CPUs of their tracers, whose effective user differs.
const PLACING: CapabilitySet = CapabilitySet::SYS_NICE;
/// To serve ports below 1024 and raw sockets.
const NETWORK: CapabilitySet = CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW);
/// To forward signals to a sandbox with another user.
const OUTSIDE: CapabilitySet = CapabilitySet::KILL;

/// Drops, from the bounding set, what neither a sandbox nor its supervisor needs. Called before other processes and
/// threads exist: once is cheaper than in each of them.
///
/// # Errors
/// Errors of the host.
pub(crate) fn bound_to_serving() -> rustix::io::Result<()> {
    bound(READING | WRITING | PLACING | NETWORK | OUTSIDE)
}

/// The capabilities that a sandbox needs. An ordinary user has none of them, also not in a user namespace of one user.
pub(super) fn needed(needs: &Needs) -> CapabilitySet {
    if !geteuid().is_root() {
        return CapabilitySet::empty();
    }
    let mut needed = CapabilitySet::empty();
    needed.set(READING, !needs.trees.is_empty());
    needed.set(WRITING, needs.changes);
    needed.set(NETWORK, needs.network);
    needed.set(PLACING, identity::is_taken());
    needed
}

/// Drops all capabilities that the process outside the sandbox does not need to forward signals.
///
/// # Errors
/// Errors of the host.
pub(crate) fn keep_signals_only() -> rustix::io::Result<()> {
    keep(OUTSIDE)
}

/// Whether this thread has one of these capabilities.
pub(super) fn has(set: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|held| held.effective.contains(set))
}

/// Reduces the bounding set to `kept`. Does nothing without `CAP_SETPCAP`.
///
/// # Errors
/// Errors of the host.
pub(super) fn bound(kept: CapabilitySet) -> rustix::io::Result<()> {
    if has(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(kept).iter() {
            if capability_is_in_bounding_set(capability).unwrap_or(false) {
                remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    Ok(())
}

/// Drops all capabilities except `kept`, for this thread and those that it starts.
///
/// # Errors
/// Errors of the host.
pub(super) fn keep(kept: CapabilitySet) -> rustix::io::Result<()> {
    // Nothing is executed from here on in any case.
    bound(kept)?;
    clear_ambient_capability_set()?;
    let permitted = capabilities(None)?.permitted & kept;
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() })
}
