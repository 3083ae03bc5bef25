//! Access checks for inspecting another task, as those of ptrace(2).
//!
//! See docs/internals/exec-and-credentials.md.

use amber_abi::Errno;
use amber_abi::capability::{Capability, CapabilitySet};

use crate::credentials::Credentials;
use crate::task::Task;

impl Task {
    /// Checks whether `inspector`, with these credentials, may read this task's memory and the like through a file
    /// (`PTRACE_MODE_READ_FSCREDS`).
    ///
    /// # Errors
    /// `EACCES` if not.
    pub(crate) fn check_inspection(&self, credentials: &Credentials, inspector: &Task) -> Result<(), Errno> {
        self.inspect(credentials, inspector, || ())
    }

    /// Checks the same, and returns the result of `take`. The task executes no other program between the check and the
    /// end of `take`, which must be short.
    ///
    /// # Errors
    /// `EACCES` if `inspector` may not.
    pub(crate) fn inspect<T>(
        &self,
        credentials: &Credentials,
        inspector: &Task,
        take: impl FnOnce() -> T,
    ) -> Result<T, Errno> {
        let _same = self.group().keep_program();
        let allowed = self.may_be_inspected(
            (credentials.fsuid, credentials.fsgid),
            credentials.effective,
            credentials,
            inspector,
        );
        if allowed { Ok(take()) } else { Err(Errno::EACCES.here()) }
    }

    /// The same for a system call of `inspector` (`PTRACE_MODE_ATTACH_REALCREDS`).
    ///
    /// # Errors
    /// `EPERM` if it may not.
    pub(crate) fn attach<T>(&self, inspector: &Task, take: impl FnOnce() -> T) -> Result<T, Errno> {
        let _same = self.group().keep_program();
        let credentials = inspector.credentials();
        let allowed =
            self.may_be_inspected((credentials.uid, credentials.gid), credentials.permitted, &credentials, inspector);
        if allowed { Ok(take()) } else { Err(Errno::EPERM.here()) }
    }

    fn may_be_inspected(
        &self,
        (uid, gid): (u32, u32),
        capabilities: CapabilitySet,
        credentials: &Credentials,
        inspector: &Task,
    ) -> bool {
        if self.group().pid() == inspector.group().pid() || credentials.has(Capability::CAP_SYS_PTRACE) {
            return true;
        }
        let target = self.credentials();
        let same_user = [target.uid, target.euid, target.suid].iter().all(|&other| other == uid);
        let same_group = [target.gid, target.egid, target.sgid].iter().all(|&other| other == gid);
        same_user && same_group && capabilities.is_superset(target.permitted) && self.group().dumpable() == 1
    }
}
