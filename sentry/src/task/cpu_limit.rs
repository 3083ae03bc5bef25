//! Enforces RLIMIT_CPU.

use std::sync::{Arc, Weak};
use std::time::Duration;

use amber_abi::Signal;
use amber_abi::task::{RLIM_INFINITY, Resource, WaitStatus};

use crate::signal::OutgoingSignal;
use crate::task::ThreadGroup;

/// Interval at which the used CPU time is compared with the limit.
const PERIOD: Duration = Duration::from_millis(50);

impl ThreadGroup {
    /// Starts to enforce the process's RLIMIT_CPU, if it has one and it is not being enforced yet.
    pub(crate) fn watch_cpu_limit(self: &Arc<Self>) {
        if self.limits().soft(Resource::RLIMIT_CPU) == RLIM_INFINITY || self.begin_cpu_watch() {
            return;
        }
        let group = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("cpu-limit".into()).stack_size(128 << 10);
        if let Err(error) = thread.spawn(move || watch(&group)) {
            log::warn!("nothing watches over RLIMIT_CPU of process {}: {error}", self.pid());
        }
    }
}

/// Sends SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one.
fn watch(group: &Weak<ThreadGroup>) {
    let mut warned_at = 0;
    loop {
        std::thread::park_timeout(PERIOD);
        let Some(group) = group.upgrade().filter(|g| g.task_count() > 0) else { return };
        let usage = group.usage();
        let seconds = usage.user.saturating_add(usage.system) / 1_000_000_000;
        let limit = group.limits().get(Resource::RLIMIT_CPU);
        if limit.rlim_max != RLIM_INFINITY && seconds >= limit.rlim_max {
            group.state().begin_end(WaitStatus::Signaled(Signal::SIGKILL, false));
            return;
        }
        // A limit of zero counts as one second, as on Linux.
        if limit.rlim_cur != RLIM_INFINITY && seconds >= limit.rlim_cur.max(1) && seconds > warned_at {
            warned_at = seconds;
            // The kernel's own signals never fail for lack of queue space.
            let _ = group.send(OutgoingSignal::kernel(Signal::SIGXCPU));
        }
    }
}
