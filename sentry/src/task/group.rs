//! Thread groups: what the guest calls processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use amber_abi::Signal;
use amber_abi::task::WaitStatus;

use crate::signal::{PendingSignals, SignalActions};
use crate::sync::{Mutex, MutexGuard, Rank, ReadGuard, RwLock, WriteGuard};
use crate::task::task::TaskSignals;
use crate::task::{Limits, Task, Usage};
use crate::time::GroupTimers;
use crate::wait::WaitQueue;

/// A guest process: tasks that share signal handlers and a PID.
///
/// Its place among the processes (parent, group, session) is kept in the
/// [`ProcessTable`](crate::task::ProcessTable) under one lock.
pub(crate) struct ThreadGroup {
    pid: i32,
    state: Mutex<GroupState>,
    limits: Mutex<Arc<Limits>>,
    usage: Mutex<GroupUsage>,
    programs: AtomicU64,
    subreaper: AtomicBool,
    oom_score_adj: AtomicI32,
    dumpable: AtomicI32,
    /// Write-locked while memory and credentials are replaced by those of another program.
    program: RwLock<()>,
    cpu_watched: AtomicBool,
    children_changed: WaitQueue,
    signal_queued: WaitQueue,
    ended: WaitQueue,
    timers: GroupTimers,
}

/// Resource usage of ended tasks and waited-for children.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GroupUsage {
    /// Of the ended tasks of the group.
    pub ended: Usage,
    /// Of the waited-for children, with their own children.
    pub children: Usage,
}

/// The state of a group that signals can change, under one lock.
pub(crate) struct GroupState {
    /// The members that have not ended, oldest first.
    pub(crate) tasks: Vec<Arc<Task>>,
    /// Number of members that are neither stopped nor about to end.
    running: usize,
    /// Number of members that have not ended.
    alive: usize,
    /// Signals sent to the process.
    pub(crate) pending: PendingSignals,
    /// The action for each signal.
    pub(crate) actions: Arc<SignalActions>,
    /// Set if the whole group ends: its status.
    pub(crate) ending: Option<WaitStatus>,
    /// The member that executes a program and waits for the others to end.
    pub(crate) executing: Option<Arc<Task>>,
    /// A stop of the group, in progress or complete.
    pub(crate) stop: Option<GroupStop>,
    /// A stop that wait(2) has not reported yet, by this signal.
    pub(crate) stop_report: Option<Signal>,
    /// Whether wait(2) has yet to report that the group was continued.
    pub(crate) continue_report: bool,
    /// The change that SIGCHLD has yet to report to the parent.
    pub(crate) parent_notice: Option<StopNotice>,
    /// Number of SIGCONTs: a stop that was decided before one is dropped.
    pub(crate) continues: u64,
    /// Signals without a handler are ignored: for the first process of a container.
    pub(crate) protected: bool,
    /// The status of the leader, which is that of the process unless the group ends as a whole.
    pub(crate) leader_status: WaitStatus,
}

/// A stop of all members.
pub(crate) struct GroupStop {
    /// The signal that caused it.
    pub signal: Signal,
    /// Whether every member has stopped.
    pub complete: bool,
}

/// A change of a child that SIGCHLD reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopNotice {
    /// It stopped, by this signal.
    Stopped(Signal),
    /// It was continued.
    Continued,
}

impl ThreadGroup {
    /// Makes a group without members.
    pub(crate) fn new(pid: i32, actions: Arc<SignalActions>, limits: Arc<Limits>) -> Arc<Self> {
        let state = GroupState {
            tasks: Vec::new(),
            running: 0,
            alive: 0,
            pending: PendingSignals::default(),
            actions,
            ending: None,
            executing: None,
            stop: None,
            stop_report: None,
            continue_report: false,
            parent_notice: None,
            continues: 0,
            protected: false,
            leader_status: WaitStatus::Exited(0),
        };
        Arc::new(ThreadGroup {
            pid,
            state: Mutex::new(Rank::Signals, state),
            limits: Mutex::new(Rank::Task, limits),
            usage: Mutex::new(Rank::Task, GroupUsage::default()),
            programs: AtomicU64::new(0),
            subreaper: AtomicBool::new(false),
            oom_score_adj: AtomicI32::new(0),
            dumpable: AtomicI32::new(1),
            program: RwLock::new(Rank::Program, ()),
            cpu_watched: AtomicBool::new(false),
            children_changed: WaitQueue::new(),
            signal_queued: WaitQueue::new(),
            ended: WaitQueue::new(),
            timers: GroupTimers::default(),
        })
    }

    /// The process ID.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The state that signals can change.
    pub(crate) fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock()
    }

    /// The members that have not ended, oldest first.
    pub(crate) fn tasks(&self) -> Vec<Arc<Task>> {
        self.state().tasks.clone()
    }

    /// Number of members that have not ended.
    pub(crate) fn task_count(&self) -> usize {
        self.state().tasks.len()
    }

    /// The action for each signal.
    pub(crate) fn actions(&self) -> Arc<SignalActions> {
        self.state().actions.clone()
    }

    /// Its resource limits.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.lock().clone()
    }

    /// Changes the resource limits.
    pub(crate) fn change_limits<T>(&self, change: impl FnOnce(&mut Limits) -> T) -> T {
        change(Arc::make_mut(&mut self.limits.lock()))
    }

    /// Resource usage of ended members and children.
    pub(crate) fn past_usage(&self) -> GroupUsage {
        *self.usage.lock()
    }

    /// Adds the usage of an ended member or child.
    pub(crate) fn add_usage(&self, add: impl FnOnce(&mut GroupUsage)) {
        add(&mut self.usage.lock());
    }

    /// Resource usage of all members, past and present.
    pub(crate) fn usage(&self) -> Usage {
        let tasks = self.tasks();
        tasks.iter().fold(self.past_usage().ended, |sum, task| sum.plus(task.usage()))
    }

    /// Whether a program was executed since the fork; the parent can then not change the process group.
    pub(crate) fn has_executed(&self) -> bool {
        self.programs() > 0
    }

    /// Number of programs executed, which identifies the current one (Linux's `self_exec_id`).
    pub(crate) fn programs(&self) -> u64 {
        self.programs.load(Ordering::Relaxed)
    }

    /// Begins another program. Signals that the old one arranged for have been sent by now or are dropped. The caller
    /// holds the process table's lock, so that this includes the signals of its children.
    pub(crate) fn begin_program(&self) {
        let _state = self.state();
        self.programs.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether orphaned descendants become its children (`PR_SET_CHILD_SUBREAPER`).
    pub(crate) fn is_subreaper(&self) -> bool {
        self.subreaper.load(Ordering::Relaxed)
    }

    /// Sets `PR_SET_CHILD_SUBREAPER`, for the process table.
    pub(super) fn set_subreaper(&self, value: bool) {
        self.subreaper.store(value, Ordering::Relaxed);
    }

    /// `/proc/PID/oom_score_adj`.
    pub(crate) fn oom_score_adj(&self) -> i32 {
        self.oom_score_adj.load(Ordering::Relaxed)
    }

    /// Sets `/proc/PID/oom_score_adj`; the caller checks range and permission.
    pub(crate) fn set_oom_score_adj(&self, value: i32) {
        self.oom_score_adj.store(value, Ordering::Relaxed);
    }

    /// `PR_GET_DUMPABLE`: 1 if processes of its user may inspect the process, 0 or 2 if only root may.
    pub(crate) fn dumpable(&self) -> i32 {
        self.dumpable.load(Ordering::Relaxed)
    }

    /// Keeps the group in its present program, over a check of rights and the access that follows.
    pub(crate) fn keep_program(&self) -> ReadGuard<'_, ()> {
        self.program.read()
    }

    /// Held while memory and credentials are replaced by those of another program.
    pub(crate) fn change_program(&self) -> WriteGuard<'_, ()> {
        self.program.write()
    }

    /// Sets the value of [`dumpable`](Self::dumpable).
    pub(crate) fn set_dumpable(&self, value: i32) {
        self.dumpable.store(value, Ordering::Relaxed);
    }

    /// Marks RLIMIT_CPU as being enforced; returns whether it was already.
    pub(super) fn begin_cpu_watch(&self) -> bool {
        self.cpu_watched.swap(true, Ordering::Relaxed)
    }

    /// Notified when a child ends, stops or continues.
    pub(crate) fn children_changed(&self) -> &WaitQueue {
        &self.children_changed
    }

    /// Notified when a signal is queued for the process or one of its tasks (for signalfd).
    pub(crate) fn signal_queued(&self) -> &WaitQueue {
        &self.signal_queued
    }

    /// Notified when a member ends, and when the process becomes a zombie (for pidfd).
    pub(crate) fn ended(&self) -> &WaitQueue {
        &self.ended
    }

    /// Its timers.
    pub(crate) fn timers(&self) -> &GroupTimers {
        &self.timers
    }

    /// Makes the group ignore signals without a handler.
    pub(crate) fn protect(&self) {
        self.state().protected = true;
    }
}

impl GroupState {
    /// Adds a running member.
    pub(crate) fn add_member(&mut self, task: Arc<Task>) {
        self.tasks.push(task);
        self.running += 1;
        self.alive += 1;
    }

    /// Removes a member that has [ended](TaskSignals::ended).
    pub(crate) fn remove_member(&mut self, task: &Arc<Task>) {
        if let Some(at) = self.tasks.iter().position(|t| Arc::ptr_eq(t, task)) {
            self.tasks.remove(at);
        }
    }

    /// Changes whether a member is stopped or has ended.
    pub(crate) fn change_member(&mut self, task: &Task, change: impl FnOnce(&mut TaskSignals)) {
        let mut signals = task.signals();
        let rests = |signals: &TaskSignals| signals.stopped || signals.ended;
        self.running += usize::from(rests(&signals));
        self.alive += usize::from(signals.ended);
        change(&mut signals);
        self.running -= usize::from(rests(&signals));
        self.alive -= usize::from(signals.ended);
    }

    /// Whether a member has not begun to end.
    pub(crate) fn has_living_members(&self) -> bool {
        self.alive > 0
    }

    /// Whether every member has stopped or ended.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.running == 0 && !self.tasks.is_empty()
    }

    /// Starts the end of all members with this status, unless one has begun already.
    pub(crate) fn begin_end(&mut self, status: WaitStatus) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(status);
        self.stop = None;
        self.parent_notice = None;
        for task in &self.tasks {
            task.kill();
        }
    }

    /// The status that wait(2) reports for a process whose members have all ended.
    pub(crate) fn final_status(&self) -> WaitStatus {
        self.ending.unwrap_or(self.leader_status)
    }
}
