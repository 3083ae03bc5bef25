//! The effects of a change of credentials on a task.

use crate::credentials::Credentials;
use crate::task::TaskContext;
use crate::users::Counted;

impl TaskContext {
    /// Replaces the task's credentials, with all effects of the change.
    pub(crate) fn commit_credentials(&self, new: Credentials) {
        let old = self.credentials();
        if old.hides_as(&new) {
            self.group().set_dumpable(self.kernel().tunables.suid_dumpable.get() as i32);
            self.set_parent_death_signal(0);
        }
        if old.uid != new.uid {
            self.set_charge(self.kernel().users.get(new.uid).charge(Counted::Tasks));
        }
        self.set_credentials(new);
    }
}
