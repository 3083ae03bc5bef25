//! Who may look into another task: the access check of ptrace(2).

use amber_abi::Errno;
use amber_abi::capability::{Capability, CapabilitySet};

use crate::task::{Credentials, Task};

impl Task {
    /// Whether `inspector`, acting as `who`, may read this task's memory and the like through a file
    /// (`PTRACE_MODE_READ_FSCREDS`).
    ///
    /// # Errors
    /// `EACCES` if not.
    pub fn check_inspection(&self, who: &Credentials, inspector: &Task) -> Result<(), Errno> {
        let allowed = self.may_be_inspected((who.fsuid, who.fsgid), who.effective, who, inspector);
        if allowed { Ok(()) } else { Err(Errno::EACCES.here()) }
    }

    /// Whether `inspector` may do that by a call of its own (`PTRACE_MODE_ATTACH_REALCREDS`).
    pub fn may_be_attached_by(&self, inspector: &Task) -> bool {
        let who = inspector.credentials();
        self.may_be_inspected((who.uid, who.gid), who.permitted, &who, inspector)
    }

    fn may_be_inspected(
        &self,
        (uid, gid): (u32, u32),
        capabilities: CapabilitySet,
        who: &Credentials,
        inspector: &Task,
    ) -> bool {
        if self.group().pid() == inspector.group().pid() || who.has(Capability::CAP_SYS_PTRACE) {
            return true;
        }
        let target = self.credentials();
        let same_user = [target.uid, target.euid, target.suid].iter().all(|&other| other == uid);
        let same_group = [target.gid, target.egid, target.sgid].iter().all(|&other| other == gid);
        same_user && same_group && capabilities.is_superset(target.permitted) && self.group().dumpable() == 1
    }
}
