//! Who may look into another task: the access check of ptrace(2).

use amber_abi::Errno;
use amber_abi::capability::Capability;

use crate::task::{Credentials, Task};

impl Task {
    /// Whether `inspector`, acting as `who`, may read this task's memory and the like (`PTRACE_MODE_READ_FSCREDS`).
    ///
    /// # Errors
    /// `EACCES` if not.
    pub fn check_inspection(&self, who: &Credentials, inspector: &Task) -> Result<(), Errno> {
        if self.group().pid() == inspector.group().pid() || who.has(Capability::CAP_SYS_PTRACE) {
            return Ok(());
        }
        let target = self.credentials();
        let same_user = [target.uid, target.euid, target.suid].iter().all(|&uid| uid == who.fsuid);
        let same_group = [target.gid, target.egid, target.sgid].iter().all(|&gid| gid == who.fsgid);
        let weaker = target.permitted.difference(who.effective).is_empty();
        if same_user && same_group && weaker && self.group().dumpable() == 1 { Ok(()) } else { Err(Errno::EACCES) }
    }
}
