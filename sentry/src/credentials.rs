//! The credentials of a task: see credentials(7) and capabilities(7).

use amber_abi::capability::{Capability, CapabilitySet, SecureBits};

/// User and group IDs and capabilities of a task. Immutable: a change makes a new object.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// Real user ID.
    pub uid: u32,
    /// Effective user ID.
    pub euid: u32,
    /// Saved set-user-ID.
    pub suid: u32,
    /// File system user ID.
    pub fsuid: u32,
    /// Real group ID.
    pub gid: u32,
    /// Effective group ID.
    pub egid: u32,
    /// Saved set-group-ID.
    pub sgid: u32,
    /// File system group ID.
    pub fsgid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Permitted capabilities.
    pub permitted: CapabilitySet,
    /// Effective capabilities.
    pub effective: CapabilitySet,
    /// Inheritable capabilities.
    pub inheritable: CapabilitySet,
    /// The bounding set.
    pub bounding: CapabilitySet,
    /// Ambient capabilities.
    pub ambient: CapabilitySet,
    /// The `SECBIT_` flags.
    pub securebits: u32,
}

impl Credentials {
    /// Those of root with all capabilities.
    pub(crate) fn root() -> Self {
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
        }
    }

    /// Whether the effective set contains a capability.
    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.effective.contains(capability)
    }

    /// Whether `gid` is the file-system group or one of the supplementary groups.
    pub(crate) fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}

impl Credentials {
    fn secure(&self, bit: SecureBits) -> bool {
        SecureBits::from_bits_retain(self.securebits).contains(bit)
    }

    /// Adjusts the capabilities to a change of real, effective and saved user ID (capabilities(7)).
    pub(crate) fn follow_user_change(&mut self, old: &Credentials) {
        if self.secure(SecureBits::SECBIT_NO_SETUID_FIXUP) {
            return;
        }
        let was_root = [old.uid, old.euid, old.suid].contains(&0);
        let is_root = [self.uid, self.euid, self.suid].contains(&0);
        if was_root && !is_root {
            if !self.secure(SecureBits::SECBIT_KEEP_CAPS) {
                (self.permitted, self.effective) = (CapabilitySet::EMPTY, CapabilitySet::EMPTY);
            }
            self.ambient = CapabilitySet::EMPTY;
        }
        if old.euid == 0 && self.euid != 0 {
            self.effective = CapabilitySet::EMPTY;
        } else if old.euid != 0 && self.euid == 0 {
            self.effective = self.permitted;
        }
    }

    /// Adjusts the capabilities to a change of the file system user ID.
    pub(crate) fn follow_file_system_user_change(&mut self, old: &Credentials) {
        if self.secure(SecureBits::SECBIT_NO_SETUID_FIXUP) {
            return;
        }
        if old.fsuid == 0 && self.fsuid != 0 {
            self.effective = self.effective.difference(CapabilitySet::FILE_SYSTEM);
        } else if old.fsuid != 0 && self.fsuid == 0 {
            let regained = self.permitted.intersection(CapabilitySet::FILE_SYSTEM);
            self.effective = self.effective.union(regained);
        }
    }

    /// Whether a change from these credentials to `new` makes a task undumpable (prctl(2) `PR_SET_DUMPABLE`).
    pub(crate) fn hides_as(&self, new: &Credentials) -> bool {
        (self.euid, self.egid, self.fsuid, self.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid)
            || !self.permitted.is_superset(new.permitted)
    }
}
