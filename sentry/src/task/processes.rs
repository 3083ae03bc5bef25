//! The table of processes: IDs, parents and children, process groups, sessions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use amber_abi::Errno;
use amber_abi::task::WaitStatus;

use crate::task::{ControllingTerminal, Task, ThreadGroup};

mod index;
#[cfg(test)]
mod tests;

pub(crate) use index::Children;
use index::{Groups, ThreadsChildren};

/// After the first wrap, IDs below this are not assigned, so that they stay with the earliest processes.
const RESERVED_PIDS: i32 = 300;

/// The relations of a process.
pub(crate) struct Process {
    /// The process itself.
    pub group: Arc<ThreadGroup>,
    /// PID of the parent; 0 for the first process.
    pub parent: i32,
    /// The parent's thread that made or adopted it.
    pub parent_thread: i32,
    /// The children.
    pub children: Children,
    /// The process group.
    pub pgid: i32,
    /// The session.
    pub sid: i32,
    /// The controlling terminal.
    pub terminal: Option<Arc<dyn ControllingTerminal>>,
    /// Number of the signal for its parent at its end. Zero or an invalid number sends none.
    pub exit_signal: i32,
    /// The parent's [program](ThreadGroup::programs) that chose the signal; a later one gets SIGCHLD.
    pub parent_program: u64,
    /// Its status, from its end until it is waited for.
    pub zombie: Option<WaitStatus>,
}

/// A session, made by setsid(2).
#[derive(Default)]
pub(crate) struct Session {
    /// PIDs of the processes in it.
    members: BTreeSet<i32>,
    /// The foreground process group at the time when the terminal was hung up. It is hung up, too, when the leader
    /// ends.
    pub old_foreground: Option<i32>,
}

/// All processes of the sandbox, under the lock [`Kernel::processes`](crate::kernel::Kernel::processes).
#[derive(Default)]
pub(crate) struct ProcessTable {
    tasks: HashMap<i32, Arc<Task>>,
    processes: BTreeMap<i32, Process>,
    groups: Groups,
    sessions: BTreeMap<i32, Session>,
    by_thread: ThreadsChildren,
    /// Whether a process ever became a subreaper.
    has_subreapers: bool,
    last: i32,
    wrapped: bool,
    watched_from_outside: bool,
}

impl ProcessTable {
    /// PID of the first process.
    pub(crate) const INIT: i32 = 1;

    /// The ID that was assigned last (`/proc/loadavg`).
    pub(crate) fn last_pid(&self) -> i32 {
        self.last
    }

    /// Whether a task, process, process group or session has the ID.
    pub(crate) fn is_taken(&self, number: i32) -> bool {
        self.tasks.contains_key(&number)
            || self.processes.contains_key(&number)
            || self.sessions.contains_key(&number)
            || self.groups.exists(number)
    }

    /// Sets the last assigned ID; the search for the next begins above it (`kernel.ns_last_pid`).
    pub(crate) fn set_last_pid(&mut self, last: i32) {
        self.wrapped = true;
        self.last = last;
    }

    /// Takes an ID below `most` that no task, group or session has.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    pub(crate) fn take_number(&mut self, most: i32) -> Result<i32, Errno> {
        for _ in 0..most {
            self.last = self.last.saturating_add(1);
            if self.last >= most {
                self.last = RESERVED_PIDS;
                self.wrapped = true;
            }
            // Before the first wrap all IDs above the last are free, and no search is needed.
            if !self.wrapped || !self.is_taken(self.last) {
                return Ok(self.last);
            }
        }
        Err(Errno::EAGAIN.here())
    }

    /// Takes a given ID (clone3's `set_tid`).
    ///
    /// # Errors
    /// `EINVAL` if it is not below `most`, `EEXIST` if it is taken.
    pub(crate) fn take_this_number(&mut self, number: i32, most: i32) -> Result<i32, Errno> {
        if !(1..most).contains(&number) {
            return Err(Errno::EINVAL.here());
        }
        if self.is_taken(number) {
            return Err(Errno::EEXIST.here());
        }
        // An ID above the counter must be found taken when the counter reaches it.
        self.wrapped |= number > self.last;
        Ok(number)
    }

    /// Adds a task.
    pub(crate) fn add_task(&mut self, task: Arc<Task>) {
        self.tasks.insert(task.tid(), task);
    }

    /// Removes a task.
    pub(crate) fn remove_task(&mut self, tid: i32) {
        if let Some(task) = self.tasks.remove(&tid) {
            task.release_charge();
        }
    }

    /// Gives a task the ID of another, which is removed.
    pub(crate) fn renumber_task(&mut self, task: &Arc<Task>, number: i32) {
        self.remove_task(number);
        self.tasks.remove(&task.tid());
        task.set_tid(number);
        self.add_task(task.clone());
    }

    /// Adds a process below its parent.
    pub(crate) fn add_process(&mut self, process: Process) {
        let pid = process.group.pid();
        self.groups.join(process.pgid, pid);
        self.sessions.entry(process.sid).or_default().members.insert(pid);
        let (parent, thread) = (process.parent, process.parent_thread);
        self.processes.insert(pid, process);
        self.enter_family(pid, parent, thread);
    }

    /// Removes an ended process.
    pub(crate) fn remove_process(&mut self, pid: i32) -> Option<Process> {
        self.leave_family(pid);
        let process = self.processes.remove(&pid)?;
        self.remove_task(pid);
        self.groups.leave(process.pgid, pid);
        self.leave_session(process.sid, pid);
        Some(process)
    }

    /// Makes the process the youngest child of a parent's thread.
    fn enter_family(&mut self, pid: i32, parent: i32, thread: i32) {
        let Some(child) = self.processes.get_mut(&pid) else { return };
        (child.parent, child.parent_thread) = (parent, thread);
        let ended = child.zombie.is_some();
        self.by_thread.insert(thread, pid);
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.children.insert(pid);
            if ended {
                parent.children.note_end(pid);
            }
        }
    }

    fn leave_family(&mut self, pid: i32) {
        let Some(child) = self.processes.get(&pid) else { return };
        let parent = child.parent;
        self.by_thread.remove(child.parent_thread, pid);
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.children.remove(pid);
        }
    }

    fn leave_session(&mut self, sid: i32, pid: i32) {
        if let Some(session) = self.sessions.get_mut(&sid) {
            session.members.remove(&pid);
            if session.members.is_empty() {
                self.sessions.remove(&sid);
            }
        }
    }

    /// Makes a process a zombie until it is waited for.
    pub(crate) fn set_zombie(&mut self, pid: i32, status: WaitStatus) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.zombie = Some(status);
        let parent = process.parent;
        self.groups.note_end(process.pgid, pid);
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.children.note_end(pid);
        }
    }

    /// Sets the signal for the parent at the end of the process.
    pub(crate) fn set_exit_signal(&mut self, pid: i32, signal: i32) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.exit_signal = signal;
        }
    }

    /// Replaces the controlling terminal of a process and returns the old one.
    pub(crate) fn set_terminal(
        &mut self,
        pid: i32,
        terminal: Option<Arc<dyn ControllingTerminal>>,
    ) -> Option<Arc<dyn ControllingTerminal>> {
        std::mem::replace(&mut self.processes.get_mut(&pid)?.terminal, terminal)
    }

    /// Moves a process to another process group.
    pub(crate) fn set_group(&mut self, pid: i32, pgid: i32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let old = std::mem::replace(&mut process.pgid, pgid);
        self.groups.leave(old, pid);
        self.groups.join(pgid, pid);
        if process.zombie.is_some() {
            self.groups.note_end(pgid, pid);
        }
    }

    /// The task with this ID. Includes leaders that ended before other members, or that were not waited for.
    pub(crate) fn task(&self, tid: i32) -> Option<&Arc<Task>> {
        self.tasks.get(&tid)
    }

    /// All tasks.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// Number of tasks.
    pub(crate) fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// The process with this ID.
    pub(crate) fn process(&self, pid: i32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// All processes by PID.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// Number of processes.
    pub(crate) fn process_count(&self) -> usize {
        self.processes.len()
    }

    /// The parent of a process.
    pub(crate) fn parent(&self, pid: i32) -> Option<&Process> {
        self.processes.get(&self.processes.get(&pid)?.parent)
    }

    /// The members of a process group.
    pub(crate) fn members(&self, pgid: i32) -> impl Iterator<Item = &Process> {
        self.groups.members(pgid).filter_map(|pid| self.processes.get(pid))
    }

    /// The members of a process group that have not ended.
    fn living_members(&self, pgid: i32) -> impl Iterator<Item = &Process> {
        self.groups.living(pgid).filter_map(|pid| self.processes.get(pid))
    }

    /// The session with this ID, for changes.
    pub(crate) fn session_mut(&mut self, sid: i32) -> Option<&mut Session> {
        self.sessions.get_mut(&sid)
    }

    /// Removes the controlling terminal from all processes of the session.
    pub(crate) fn clear_terminals(&mut self, sid: i32) {
        let members = self.sessions.get(&sid).into_iter().flat_map(|session| &session.members);
        for pid in members {
            if let Some(process) = self.processes.get_mut(pid) {
                process.terminal = None;
            }
        }
    }

    /// Makes the process the leader of a new session and a new process group.
    pub(crate) fn start_session(&mut self, pid: i32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let old = std::mem::replace(&mut process.sid, pid);
        process.terminal = None;
        self.set_group(pid, pid);
        self.leave_session(old, pid);
        self.sessions.insert(pid, Session { members: BTreeSet::from([pid]), old_foreground: None });
    }

    /// Whether a process group has a member in the session.
    pub(crate) fn group_is_in_session(&self, pgid: i32, sid: i32) -> bool {
        self.members(pgid).any(|p| p.sid == sid)
    }

    /// Notes that a process outside continues the first process when it stops, as a shell does with jobs.
    pub(crate) fn watch_from_outside(&mut self) {
        self.watched_from_outside = true;
    }

    /// Whether the process keeps its group from being orphaned: its parent is in another group of the same session and
    /// could continue it.
    pub(crate) fn is_anchor(&self, process: &Process) -> bool {
        (process.group.pid() == Self::INIT && self.watched_from_outside)
            || self
                .processes
                .get(&process.parent)
                .is_some_and(|parent| parent.pgid != process.pgid && parent.sid == process.sid)
    }

    /// Whether no living member of the group has a parent in another group of the same session. Then no process could
    /// continue the members, and they do not stop for the terminal.
    pub(crate) fn is_orphaned(&self, pgid: i32) -> bool {
        !self.living_members(pgid).any(|p| self.is_anchor(p))
    }

    /// Whether some member of the group is stopped.
    pub(crate) fn has_stopped_member(&self, pgid: i32) -> bool {
        self.living_members(pgid).any(|p| p.group.state().stop.as_ref().is_some_and(|s| s.complete))
    }

    /// The children of a thread, oldest first.
    pub(crate) fn children_of_thread(&self, tid: i32) -> impl Iterator<Item = i32> {
        self.by_thread.of(tid)
    }

    /// Moves a child to another parent, or another thread of its parent.
    pub(crate) fn adopt(&mut self, child: i32, parent: i32, parent_thread: i32) {
        self.leave_family(child);
        self.enter_family(child, parent, parent_thread);
    }

    /// Renames a parent's thread from the ID `old` to `new`.
    pub(crate) fn renumber_parent_thread(&mut self, old: i32, new: i32) {
        for child in self.by_thread.renumber(old, new) {
            if let Some(process) = self.processes.get_mut(&child) {
                process.parent_thread = new;
            }
        }
    }

    /// Sets whether the process adopts its orphaned descendants (`PR_SET_CHILD_SUBREAPER`).
    pub(crate) fn set_subreaper(&mut self, group: &ThreadGroup, value: bool) {
        group.set_subreaper(value);
        self.has_subreapers |= value;
    }

    /// The process that adopts the children of an ending one: the nearest subreaper among its ancestors, else the first
    /// process.
    pub(crate) fn reaper_of(&self, pid: i32) -> i32 {
        let mut at = if self.has_subreapers { pid } else { Self::INIT };
        while let Some(parent) = self.parent(at) {
            at = parent.group.pid();
            if parent.group.is_subreaper() && parent.zombie.is_none() && parent.group.task_count() > 0 {
                return at;
            }
        }
        Self::INIT
    }
}
