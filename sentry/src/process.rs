//! Processes of the guest as the outside sees them.

use std::sync::{Arc, Weak};

use amber_abi::Signal;
use amber_abi::poll::PollEvents;
use amber_abi::task::WaitStatus;

use crate::boot::ExitStatus;
use crate::signal::Sending;
use crate::task::{Task, ThreadGroup};
use crate::tty::Console;
use crate::wait::{Parker, Waiter};

/// A process that was started from outside beside the first one.
pub struct Process {
    group: Arc<ThreadGroup>,
    console: Option<Arc<Console>>,
}

impl Process {
    pub(crate) fn new(task: &Arc<Task>, console: Option<Arc<Console>>) -> Process {
        Process { group: task.group().clone(), console }
    }

    /// Its number in the guest.
    pub fn pid(&self) -> i32 {
        self.group.pid()
    }

    /// The master of its terminal, if it got one.
    pub fn console(&self) -> Option<&Arc<Console>> {
        self.console.as_ref()
    }

    /// Sends it a signal, as from outside.
    pub fn signal(&self, signal: Signal) {
        // A signal of the kernel's own is never refused for want of queue space.
        let _ = self.group.send(Sending::kernel(signal).forced());
    }

    /// Waits for its end.
    pub fn wait(&self) -> ExitStatus {
        let parker = Arc::new(Parker::default());
        let waiter: Arc<dyn Waiter> = parker.clone();
        let waiter: Weak<dyn Waiter> = Arc::downgrade(&waiter);
        let _registration = self.group.ended().register(waiter, PollEvents::all(), 0);
        while self.group.task_count() > 0 {
            parker.park(None);
        }
        if let Some(console) = &self.console {
            console.finish();
        }
        exit_status(self.group.state().final_status())
    }
}

/// What the outside hears of an end.
pub(crate) fn exit_status(status: WaitStatus) -> ExitStatus {
    match status {
        WaitStatus::Exited(code) => ExitStatus::Exited(code),
        WaitStatus::Signaled(signal, _) => ExitStatus::Signaled(signal.raw()),
        // Only ends are noted; nothing else can come.
        _ => ExitStatus::Exited(0),
    }
}
