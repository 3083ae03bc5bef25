//! The start and the end of a sandbox with regard to tasks.

use std::sync::Arc;

use amber_abi::Signal;
use amber_abi::task::WaitStatus;
use parking_lot::{Condvar, Mutex};

use crate::kernel::Kernel;
use crate::signal::OutgoingSignal;
use crate::task::{ProcessTable, ThreadGroup};

/// The number of running tasks, and the status of the first process.
#[derive(Default)]
pub(crate) struct SandboxExit {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    status: Option<WaitStatus>,
    /// Number of stops of the first process.
    stops: u64,
}

impl SandboxExit {
    /// Called when a task starts.
    pub(crate) fn task_started(&self) {
        self.state.lock().running += 1;
    }

    /// Called when a task's host thread has released everything of the guest.
    pub(crate) fn task_ended(&self) {
        let mut state = self.state.lock();
        state.running = state.running.saturating_sub(1);
        if state.running == 0 {
            self.changed.notify_all();
        }
    }

    /// Called when the first process has ended.
    pub(super) fn set_status(&self, status: WaitStatus) {
        self.state.lock().status = Some(status);
    }

    /// Whether the first process has ended.
    pub(super) fn first_ended(&self) -> bool {
        self.state.lock().status.is_some()
    }

    /// Called when the first process stops; it has no parent in the sandbox to notify.
    pub(crate) fn first_stopped(&self) {
        self.state.lock().stops += 1;
        self.changed.notify_all();
    }

    /// Waits until the first process and every other task have ended.
    pub(crate) fn wait(&self) -> WaitStatus {
        let mut state = self.state.lock();
        loop {
            if let (0, Some(status)) = (state.running, state.status) {
                return status;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Whether the first process and every other task have ended.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.running == 0 && state.status.is_some()
    }

    /// Waits until the first process has stopped more than `seen` times and returns the number of stops; `None` at the
    /// end.
    pub(crate) fn wait_for_stop(&self, seen: u64) -> Option<u64> {
        let mut state = self.state.lock();
        loop {
            if state.running == 0 && state.status.is_some() {
                return None;
            }
            if state.stops > seen {
                return Some(state.stops);
            }
            self.changed.wait(&mut state);
        }
    }
}

impl Kernel {
    /// The first process, if it is alive.
    pub(crate) fn init(&self) -> Option<Arc<ThreadGroup>> {
        let table = self.processes.lock();
        table.process(ProcessTable::INIT).filter(|p| p.zombie.is_none()).map(|p| p.group.clone())
    }

    /// Sends a signal from outside the sandbox to the first process.
    pub(crate) fn signal_from_outside(&self, signal: Signal) {
        if let Some(init) = self.init() {
            // The kernel's own signals never fail for lack of queue space.
            let _ = init.send(OutgoingSignal::kernel(signal).forced());
        }
    }

    /// Kills every process.
    pub(crate) fn kill_all(&self) {
        kill_all(&self.processes.lock());
    }
}

/// Kills every process of the table.
pub(super) fn kill_all(table: &ProcessTable) {
    for process in table.processes() {
        process.group.state().begin_end(WaitStatus::Signaled(Signal::SIGKILL, false));
    }
}
