//! Who a task acts as: see credentials(7) and capabilities(7).

use amber_abi::capability::{Capability, CapabilitySet};

/// User and group numbers and capabilities of a task. Immutable: a change makes a new one.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields carry the names of credentials(7) and capabilities(7)")]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    pub permitted: CapabilitySet,
    pub effective: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub bounding: CapabilitySet,
    pub ambient: CapabilitySet,
    pub securebits: u32,
    pub no_new_privs: bool,
}

impl Credentials {
    /// Root with every capability.
    pub fn root() -> Self {
        Credentials {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Vec::new(),
            permitted: CapabilitySet::ALL,
            effective: CapabilitySet::ALL,
            inheritable: CapabilitySet::EMPTY,
            bounding: CapabilitySet::ALL,
            ambient: CapabilitySet::EMPTY,
            securebits: 0,
            no_new_privs: false,
        }
    }

    /// Whether the effective set holds a capability.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective.contains(capability)
    }

    /// Whether `gid` is the file-system group or one of the supplementary groups.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
