//! The guest's processes as seen from outside.

use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use amber_abi::Signal;
use amber_abi::poll::PollEvents;
use amber_abi::task::WaitStatus;

use crate::config::ExitStatus;
use crate::fs::proc::command_line;
use crate::kernel::Kernel;
use crate::signal::OutgoingSignal;
use crate::task::{ControllingTerminal, Task, ThreadGroup};
use crate::tty::Console;
use crate::wait::{Parker, Waiter};

/// A process started from outside in addition to the first one.
pub struct Process {
    group: Arc<ThreadGroup>,
    console: Option<Arc<Console>>,
}

impl Process {
    /// Makes the handle of the process of `task`, which has `console` as its terminal.
    pub(crate) fn new(task: &Arc<Task>, console: Option<Arc<Console>>) -> Process {
        Process { group: task.group().clone(), console }
    }

    /// Its process ID in the guest.
    pub fn pid(&self) -> i32 {
        self.group.pid()
    }

    /// The master of its terminal, if it has one.
    pub fn console(&self) -> Option<&Arc<Console>> {
        self.console.as_ref()
    }

    /// Sends it a signal as from outside.
    pub fn signal(&self, signal: Signal) {
        // The kernel's own signals never fail for lack of queue space.
        let _ = self.group.send(OutgoingSignal::kernel(signal).forced());
    }

    /// Waits for its end.
    pub fn wait(&self) -> ExitStatus {
        loop {
            if let Some(status) = self.wait_until(None) {
                return status;
            }
        }
    }

    /// Waits for its end or the deadline; `None` at the deadline.
    pub fn wait_until(&self, deadline: Option<Instant>) -> Option<ExitStatus> {
        let parker = Arc::new(Parker::default());
        let waiter: Arc<dyn Waiter> = parker.clone();
        let waiter: Weak<dyn Waiter> = Arc::downgrade(&waiter);
        let _registration = self.group.ended().register(waiter, PollEvents::all(), 0);
        while self.group.task_count() > 0 {
            if !parker.park(deadline) {
                return None;
            }
        }
        if let Some(console) = &self.console {
            console.finish();
        }
        Some(exit_status(self.group.state().final_status()))
    }
}

/// A process as `ps` shows it.
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    /// Its process ID in the guest.
    pub pid: i32,
    /// The parent's process ID; 0 for a process started from outside.
    pub ppid: i32,
    /// The effective user ID.
    pub uid: u32,
    /// Number of threads.
    pub threads: usize,
    /// The device number of its controlling terminal, 0 without one.
    pub terminal: u32,
    /// The start time.
    pub started: SystemTime,
    /// Used CPU time in nanoseconds.
    pub cpu: u64,
    /// The state, as a letter of proc(5).
    pub state: char,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Its name, as in `/proc/PID/comm`.
    pub name: String,
    /// Its arguments; empty for a zombie.
    pub arguments: Vec<String>,
}

/// All processes, by process ID.
pub(crate) fn all(kernel: &Kernel) -> Vec<ProcessInfo> {
    type Terminal = Arc<dyn ControllingTerminal>;
    let found: Vec<_> = {
        let table = kernel.processes.lock();
        let row = |p: &crate::task::Process| {
            let leader = table.task(p.group.pid())?.clone();
            Some((p.group.clone(), leader, p.parent, p.terminal.clone(), p.zombie.is_some()))
        };
        table.processes().filter_map(row).collect()
    };
    let describe =
        |(group, leader, ppid, terminal, zombie): (Arc<ThreadGroup>, Arc<Task>, i32, Option<Terminal>, bool)| {
            // The leader may have exited before other threads.
            let memory = group.tasks().iter().find_map(|task| task.memory());
            let line = memory.as_ref().map(|mm| command_line(mm)).unwrap_or_default();
            let line = line.strip_suffix(b"\0").unwrap_or(&line);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let used = group.usage();
            ProcessInfo {
                pid: group.pid(),
                ppid,
                uid: leader.credentials().euid,
                threads: group.task_count().max(1),
                terminal: terminal.map_or(0, |terminal| terminal.device_number()),
                started: leader.started(),
                cpu: used.user.saturating_add(used.system),
                state: if zombie { 'Z' } else { leader.activity().letter() },
                resident: memory.map_or(0, |mm| mm.totals().rss),
                name: text(&leader.name()),
                arguments: if line.is_empty() { Vec::new() } else { line.split(|&b| b == 0).map(text).collect() },
            }
        };
    found.into_iter().map(describe).collect()
}

/// Converts a wait status.
pub(crate) fn exit_status(status: WaitStatus) -> ExitStatus {
    match status {
        WaitStatus::Exited(code) => ExitStatus::Exited(code),
        WaitStatus::Signaled(signal, _) => ExitStatus::Signaled(signal.raw()),
        // Ended processes have no other status.
        _ => ExitStatus::Exited(0),
    }
}
