//! The table of processes: numbers, parents and children, process groups, sessions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use amber_abi::Errno;
use amber_abi::task::WaitStatus;

use crate::task::{ControllingTerminal, Task, ThreadGroup};

/// After the first round, numbers below this are left to the processes that have been there from the start.
const RESERVED_PIDS: i32 = 300;

/// A process's place among the others.
pub struct Process {
    /// The process itself.
    pub group: Arc<ThreadGroup>,
    /// PID of the parent; 0 for the first process.
    pub parent: i32,
    /// The parent's thread that made it, or that took it over.
    pub parent_thread: i32,
    /// PIDs of the children, oldest first.
    pub children: Vec<i32>,
    /// The process group.
    pub pgid: i32,
    /// The session.
    pub sid: i32,
    /// The controlling terminal.
    pub terminal: Option<Arc<dyn ControllingTerminal>>,
    /// The number of the signal its parent gets at its end; none or an invalid one is not sent.
    pub exit_signal: i32,
    /// How it ended, until it is waited for.
    pub zombie: Option<WaitStatus>,
}

/// A session, made by setsid(2).
#[derive(Default)]
pub struct Session {
    /// The process group that was in the foreground of the terminal when that was hung up; it is told when the leader ends.
    pub old_foreground: Option<i32>,
}

/// All processes of the sandbox, under the lock [`Kernel::processes`](crate::kernel::Kernel::processes).
#[derive(Default)]
pub struct ProcessTable {
    tasks: HashMap<i32, Arc<Task>>,
    processes: BTreeMap<i32, Process>,
    sessions: BTreeMap<i32, Session>,
    last: i32,
    wrapped: bool,
    watched_from_outside: bool,
}

impl ProcessTable {
    /// PID of the first process.
    pub const INIT: i32 = 1;

    /// The number given out last (`/proc/loadavg`).
    pub fn last_pid(&self) -> i32 {
        self.last
    }

    /// Whether a task, a process, a process group or a session has the number.
    pub fn is_taken(&self, number: i32) -> bool {
        self.tasks.contains_key(&number)
            || self.processes.contains_key(&number)
            || self.sessions.contains_key(&number)
            || self.processes.values().any(|p| p.pgid == number)
    }

    /// The next number to give out is the one after this (`kernel.ns_last_pid`).
    pub fn set_last_pid(&mut self, last: i32) {
        self.wrapped = true;
        self.last = last;
    }

    /// A number below `most` that no task, group or session has.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    pub fn take_number(&mut self, most: i32) -> Result<i32, Errno> {
        for _ in 0..most {
            self.last = self.last.saturating_add(1);
            if self.last >= most {
                self.last = RESERVED_PIDS;
                self.wrapped = true;
            }
            // Before the first wrap every number above the last is free: there is nothing to look through.
            if !self.wrapped || !self.is_taken(self.last) {
                return Ok(self.last);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Takes a certain number (clone3's `set_tid`).
    ///
    /// # Errors
    /// `EINVAL` if it is not below `most`, `EEXIST` if it is taken.
    pub fn take_this_number(&mut self, number: i32, most: i32) -> Result<i32, Errno> {
        if !(1..most).contains(&number) {
            return Err(Errno::EINVAL);
        }
        if self.is_taken(number) {
            return Err(Errno::EEXIST);
        }
        // A number ahead of the counter must be met as taken when the counter gets there.
        self.wrapped |= number > self.last;
        Ok(number)
    }

    /// Enters a task under its number.
    pub fn add_task(&mut self, task: Arc<Task>) {
        self.tasks.insert(task.tid(), task);
    }

    /// Takes a task out that is gone for good.
    pub fn remove_task(&mut self, tid: i32) {
        if let Some(task) = self.tasks.remove(&tid) {
            task.release_charge();
        }
    }

    /// Gives a task the number of another, which is taken out.
    pub fn renumber_task(&mut self, task: &Arc<Task>, number: i32) {
        self.remove_task(number);
        self.tasks.remove(&task.tid());
        task.set_tid(number);
        self.add_task(task.clone());
    }

    /// Enters a process, below its parent.
    pub fn add_process(&mut self, process: Process) {
        let pid = process.group.pid();
        if let Some(parent) = self.processes.get_mut(&process.parent) {
            parent.children.push(pid);
        }
        if process.sid == pid {
            self.sessions.entry(pid).or_default();
        }
        self.processes.insert(pid, process);
    }

    /// Takes an ended process out of the table.
    pub fn remove_process(&mut self, pid: i32) -> Option<Process> {
        let process = self.processes.remove(&pid)?;
        self.remove_task(pid);
        if let Some(parent) = self.processes.get_mut(&process.parent) {
            parent.children.retain(|&child| child != pid);
        }
        self.forget_session_if_empty(process.sid);
        Some(process)
    }

    fn forget_session_if_empty(&mut self, sid: i32) {
        if !self.processes.values().any(|p| p.sid == sid) {
            self.sessions.remove(&sid);
        }
    }

    /// The task with this number, also a leader that ended while others of its group live or that nobody waited for.
    pub fn task(&self, tid: i32) -> Option<&Arc<Task>> {
        self.tasks.get(&tid)
    }

    /// All tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// The process with this number.
    pub fn process(&self, pid: i32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// The process with this number, for change.
    pub fn process_mut(&mut self, pid: i32) -> Option<&mut Process> {
        self.processes.get_mut(&pid)
    }

    /// All processes by PID.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// The parent of a process.
    pub fn parent(&self, pid: i32) -> Option<&Process> {
        self.processes.get(&self.processes.get(&pid)?.parent)
    }

    /// The members of a process group.
    pub fn members(&self, pgid: i32) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(move |p| p.pgid == pgid)
    }

    /// The session with this number, for change.
    pub fn session_mut(&mut self, sid: i32) -> Option<&mut Session> {
        self.sessions.get_mut(&sid)
    }

    /// No process of the session has a controlling terminal any more.
    pub fn clear_terminals(&mut self, sid: i32) {
        self.processes.values_mut().filter(|p| p.sid == sid).for_each(|p| p.terminal = None);
    }

    /// Makes the process leader of a new session and a new process group.
    pub fn start_session(&mut self, pid: i32) {
        if let Some(process) = self.processes.get_mut(&pid) {
            let old = std::mem::replace(&mut process.sid, pid);
            process.pgid = pid;
            process.terminal = None;
            self.sessions.insert(pid, Session::default());
            self.forget_session_if_empty(old);
        }
    }

    /// Whether a process group has a member in the session.
    pub fn group_is_in_session(&self, pgid: i32, sid: i32) -> bool {
        self.members(pgid).any(|p| p.sid == sid)
    }

    /// From now on somebody outside continues the first process when it is stopped, as a shell does with its jobs.
    pub fn watch_from_outside(&mut self) {
        self.watched_from_outside = true;
    }

    /// Whether no member of the group has a parent in another group of the same session; then nobody could continue its
    /// members, and they do not stop for the terminal. `except` is left out of account: a process about to end.
    pub fn is_orphaned(&self, pgid: i32, except: Option<i32>) -> bool {
        !self.members(pgid).any(|p| {
            let counts = Some(p.group.pid()) != except && p.zombie.is_none();
            if p.group.pid() == Self::INIT && self.watched_from_outside {
                return counts;
            }
            counts && self.parent(p.group.pid()).is_some_and(|parent| parent.pgid != pgid && parent.sid == p.sid)
        })
    }

    /// Whether some member of the group is stopped.
    pub fn has_stopped_member(&self, pgid: i32) -> bool {
        self.members(pgid).any(|p| p.group.state().stop.as_ref().is_some_and(|s| s.complete))
    }

    /// Hands a child over to another parent.
    pub fn adopt(&mut self, child: i32, parent: i32, parent_thread: i32) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        let old = std::mem::replace(&mut process.parent, parent);
        process.parent_thread = parent_thread;
        if old != parent {
            if let Some(old) = self.processes.get_mut(&old) {
                old.children.retain(|&c| c != child);
            }
            if let Some(parent) = self.processes.get_mut(&parent) {
                parent.children.push(child);
            }
        }
    }

    /// The thread of `parent` that had number `old` has number `new` now.
    pub fn renumber_parent_thread(&mut self, parent: i32, old: i32, new: i32) {
        for process in self.processes.values_mut().filter(|p| p.parent == parent && p.parent_thread == old) {
            process.parent_thread = new;
        }
    }

    /// Who takes over the children of an ending process: the nearest ancestor that asked for it, else the first process.
    pub fn reaper_of(&self, pid: i32) -> i32 {
        let mut at = pid;
        while let Some(parent) = self.parent(at) {
            at = parent.group.pid();
            if parent.group.is_subreaper() && parent.zombie.is_none() && parent.group.task_count() > 0 {
                return at;
            }
        }
        Self::INIT
    }
}
