//! The capabilities that serving host files needs, and no others.

use nix::unistd::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::{Needs, identity};

/// To see what belongs to others, as root does.
const READING: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;
/// To make files of any owner, as root does; no device nodes.
const WRITING: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);
/// To keep stubs on the processors of their tracers, where they have another effective user.
const PLACING: CapabilitySet = CapabilitySet::SYS_NICE;
/// To serve the ports below 1024, and raw sockets.
const NETWORK: CapabilitySet = CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW);
/// To give signals on to a sandbox with another user.
const OUTSIDE: CapabilitySet = CapabilitySet::KILL;

/// Gives up, before other processes and threads inherit it, what executing a program may give but no sandbox needs, nor who
/// waits for it: once is cheaper than in each of them.
///
/// # Errors
/// The host's.
pub fn bound_to_serving() -> rustix::io::Result<()> {
    bound(READING | WRITING | PLACING | NETWORK | OUTSIDE)
}

/// What a sandbox needs. An ordinary user has none of it, also not in a user namespace of his own, where there is no one
/// else.
pub fn needed(needs: &Needs) -> CapabilitySet {
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

/// Gives up what a process does not need that stays outside and gives signals on to a sandbox.
///
/// # Errors
/// The host's.
pub fn keep_signals_only() -> rustix::io::Result<()> {
    keep(OUTSIDE)
}

/// Whether this thread has one of these capabilities.
pub fn has(set: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|held| held.effective.contains(set))
}

/// Gives up what executing a program may give, but these. Who lacks the capability for that cannot.
///
/// # Errors
/// The host's.
pub fn bound(kept: CapabilitySet) -> rustix::io::Result<()> {
    if has(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(kept).iter() {
            if capability_is_in_bounding_set(capability).unwrap_or(false) {
                remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    Ok(())
}

/// Gives everything else up, for this thread and those it will start.
///
/// # Errors
/// The host's.
pub fn keep(kept: CapabilitySet) -> rustix::io::Result<()> {
    // Nothing is executed any more anyway.
    bound(kept)?;
    clear_ambient_capability_set()?;
    let permitted = capabilities(None)?.permitted & kept;
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() })
}
