//! Tasks, the guest's threads.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use amber_abi::SignalSet;
use amber_platform::Interrupter;

use crate::credentials::Credentials;
use crate::interruption::Killable;
use crate::kernel::Kernel;
use crate::mm::MemoryManager;
use crate::signal::PendingSignals;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::{Activity, GroupState, Schedule, Seccomp, Settings, TaskStats, ThreadGroup, Usage};
use crate::users::UserCharge;
use crate::vfs::{FdTable, FsContext};
use crate::wait::Parker;

/// A guest thread.
pub(crate) struct Task {
    kernel: Arc<Kernel>,
    /// Changed by execve(2): a thread that is not the leader gets the leader's ID.
    tid: AtomicI32,
    group: Arc<ThreadGroup>,
    memory: Mutex<Option<Arc<MemoryManager>>>,
    files: Mutex<Arc<FdTable>>,
    fs: Mutex<Arc<FsContext>>,
    credentials: Mutex<Arc<Credentials>>,
    /// Whether constant results set in the platform may be outdated.
    identity_changed: AtomicBool,
    name: Mutex<Vec<u8>>,
    signals: Mutex<TaskSignals>,
    schedule: Mutex<Schedule>,
    /// `None` once the task has ended and was waited for.
    charge: Mutex<Option<UserCharge>>,
    parker: Arc<Parker>,
    interrupter: OnceLock<Arc<dyn Interrupter>>,
    /// Whether work is pending on the way back to the guest: a signal, a stop, the end.
    work_pending: AtomicBool,
    /// Whether the task was killed; interrupts also uninterruptible waits.
    killed: AtomicBool,
    stats: TaskStats,
    started: SystemTime,
    robust_list: AtomicU64,
    futexes_released: AtomicBool,
    seccomp: Seccomp,
    parent_death_signal: AtomicI32,
    settings: Mutex<Settings>,
}

/// A task's own signal state, changed under the group's lock.
#[derive(Default)]
pub(crate) struct TaskSignals {
    /// Signals sent to this task.
    pub(crate) pending: PendingSignals,
    /// Blocked signals.
    pub(crate) blocked: SignalSet,
    /// Blocked signals that the task's call waits for (sigtimedwait): neither ignored nor deadly meanwhile.
    pub(crate) waited_for: SignalSet,
    /// Whether the task takes part in a stop of the group.
    pub(crate) stopped: bool,
    /// Whether the task takes no signals any more.
    pub(crate) ended: bool,
}

/// The initial state of a task.
pub(crate) struct NewTask {
    /// The kernel.
    pub kernel: Arc<Kernel>,
    /// The process it belongs to.
    pub group: Arc<ThreadGroup>,
    /// The thread ID.
    pub tid: i32,
    /// Its memory.
    pub memory: Arc<MemoryManager>,
    /// Its descriptors.
    pub files: Arc<FdTable>,
    /// Its root and working directory.
    pub fs: Arc<FsContext>,
    /// The credentials.
    pub credentials: Arc<Credentials>,
    /// Its name as in `/proc/PID/comm`, at most 15 bytes.
    pub name: Vec<u8>,
    /// The blocked signals.
    pub blocked: SignalSet,
    /// The scheduling parameters.
    pub schedule: Schedule,
    /// The charge to its user.
    pub charge: UserCharge,
    /// The settings of prctl(2) and personality(2).
    pub settings: Settings,
}

impl Task {
    /// Makes a task. A host thread is started later.
    pub(crate) fn new(new: NewTask) -> Arc<Self> {
        let signals = TaskSignals { blocked: new.blocked, ..TaskSignals::default() };
        Arc::new(Task {
            kernel: new.kernel,
            tid: AtomicI32::new(new.tid),
            group: new.group,
            memory: Mutex::new(Rank::Task, Some(new.memory)),
            files: Mutex::new(Rank::Task, new.files),
            fs: Mutex::new(Rank::Task, new.fs),
            credentials: Mutex::new(Rank::Task, new.credentials),
            identity_changed: AtomicBool::new(true),
            name: Mutex::new(Rank::Task, new.name),
            signals: Mutex::new(Rank::Task, signals),
            schedule: Mutex::new(Rank::Task, new.schedule),
            charge: Mutex::new(Rank::Task, Some(new.charge)),
            parker: Arc::new(Parker::default()),
            interrupter: OnceLock::new(),
            work_pending: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            stats: TaskStats::default(),
            started: SystemTime::now(),
            robust_list: AtomicU64::new(0),
            futexes_released: AtomicBool::new(false),
            seccomp: Seccomp::default(),
            parent_death_signal: AtomicI32::new(0),
            settings: Mutex::new(Rank::Task, new.settings),
        })
    }

    /// The kernel.
    pub(crate) fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// The thread ID.
    pub(crate) fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// Changes the thread ID, see execve(2).
    pub(crate) fn set_tid(&self, tid: i32) {
        self.tid.store(tid, Ordering::Relaxed);
        self.identity_changed.store(true, Ordering::Release);
    }

    /// Whether it is the leader of its group, so that its thread ID is the PID.
    pub(crate) fn is_leader(&self) -> bool {
        self.tid() == self.group.pid()
    }

    /// The process that it belongs to.
    pub(crate) fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// Its memory; none after its end. The task itself uses [`TaskContext::mm`](crate::task::TaskContext::mm).
    pub(crate) fn memory(&self) -> Option<Arc<MemoryManager>> {
        self.memory.lock().clone()
    }

    /// Replaces its memory. Called only by [`TaskContext`](crate::task::TaskContext), which keeps a copy.
    pub(super) fn set_memory(&self, memory: Option<Arc<MemoryManager>>) -> Option<Arc<MemoryManager>> {
        std::mem::replace(&mut self.memory.lock(), memory)
    }

    /// Its root, working directory and file mode creation mask.
    pub(crate) fn fs(&self) -> Arc<FsContext> {
        self.fs.lock().clone()
    }

    /// Replaces its root and working directory (unshare(2)), and returns the old ones.
    pub(crate) fn set_fs(&self, fs: Arc<FsContext>) -> Arc<FsContext> {
        std::mem::replace(&mut self.fs.lock(), fs)
    }

    /// Its descriptor table.
    pub(crate) fn files(&self) -> Arc<FdTable> {
        self.files.lock().clone()
    }

    /// Replaces its descriptor table.
    pub(crate) fn set_files(&self, files: Arc<FdTable>) -> Arc<FdTable> {
        std::mem::replace(&mut self.files.lock(), files)
    }

    /// Its credentials.
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// Replaces its credentials. Called only by the task itself in [`TaskContext::commit_credentials`], so that no
    /// change is lost.
    ///
    /// [`TaskContext::commit_credentials`]: crate::task::TaskContext::commit_credentials
    pub(super) fn set_credentials(&self, new: Credentials) {
        *self.credentials.lock() = Arc::new(new);
        self.identity_changed.store(true, Ordering::Release);
    }

    /// Whether its IDs or credentials have changed since the last call.
    pub(crate) fn take_identity_change(&self) -> bool {
        self.identity_changed.load(Ordering::Relaxed) && self.identity_changed.swap(false, Ordering::AcqRel)
    }

    /// Charges the task to another user.
    pub(crate) fn set_charge(&self, charge: UserCharge) {
        let old = self.charge.lock().replace(charge);
        drop(old);
    }

    /// Ends the charge to its user.
    pub(crate) fn release_charge(&self) {
        let old = self.charge.lock().take();
        drop(old);
    }

    /// Its name in `/proc/PID/comm`.
    pub(crate) fn name(&self) -> Vec<u8> {
        self.name.lock().clone()
    }

    /// Sets its name, up to the first zero byte and at most 15 bytes.
    pub(crate) fn set_name(&self, name: &[u8]) {
        let text = name.split(|&b| b == 0).next().unwrap_or_default();
        *self.name.lock() = text.iter().take(15).copied().collect();
    }

    /// Its signal state. Changed only with the group's lock held.
    pub(crate) fn signals(&self) -> MutexGuard<'_, TaskSignals> {
        self.signals.lock()
    }

    /// The blocked signals.
    pub(crate) fn blocked_signals(&self) -> SignalSet {
        self.signals().blocked
    }

    /// The scheduling parameters.
    pub(crate) fn schedule(&self) -> Schedule {
        self.schedule.lock().clone()
    }

    /// Changes the scheduling parameters.
    pub(crate) fn change_schedule<T>(&self, change: impl FnOnce(&mut Schedule) -> T) -> T {
        change(&mut self.schedule.lock())
    }

    /// The sleep of its host thread.
    pub(crate) fn parker(&self) -> &Arc<Parker> {
        &self.parker
    }

    /// Its resource usage, for updates.
    pub(crate) fn stats(&self) -> &TaskStats {
        &self.stats
    }

    /// Its present activity, as in `/proc/PID/stat`.
    pub(crate) fn activity(&self) -> Activity {
        self.stats.activity()
    }

    /// Its resource usage.
    pub(crate) fn usage(&self) -> Usage {
        self.stats.read()
    }

    /// Its start time.
    pub(crate) fn started(&self) -> SystemTime {
        self.started
    }

    /// Its system call filters.
    pub(crate) fn seccomp(&self) -> &Seccomp {
        &self.seccomp
    }

    /// The guest address of its robust futex list, or 0.
    pub(crate) fn robust_list(&self) -> u64 {
        self.robust_list.load(Ordering::Relaxed)
    }

    /// Sets the address of its robust futex list.
    pub(crate) fn set_robust_list(&self, address: u64) {
        self.robust_list.store(address, Ordering::Relaxed);
    }

    /// Whether the ending task has released its futexes, so that later waiters are not handed any.
    pub(crate) fn has_released_futexes(&self) -> bool {
        self.futexes_released.load(Ordering::Relaxed)
    }

    /// Marks its futexes as released.
    pub(crate) fn set_futexes_released(&self) {
        self.futexes_released.store(true, Ordering::Relaxed);
    }

    /// The number of the signal that it gets when its parent thread ends, or 0 (`PR_SET_PDEATHSIG`).
    pub(crate) fn parent_death_signal(&self) -> i32 {
        self.parent_death_signal.load(Ordering::Relaxed)
    }

    /// Sets the signal that it gets when its parent thread ends.
    pub(crate) fn set_parent_death_signal(&self, signal: i32) {
        self.parent_death_signal.store(signal, Ordering::Relaxed);
    }

    /// The settings of prctl(2) and personality(2).
    pub(crate) fn settings(&self) -> Settings {
        *self.settings.lock()
    }

    /// Changes the settings of prctl(2) and personality(2).
    pub(crate) fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings.lock());
    }

    /// Whether waits are interrupted: an unblocked signal, a stop or a kill is pending.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.work_pending.load(Ordering::SeqCst)
    }

    /// Whether it was killed.
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.signals().ended
    }

    /// Makes the task handle pending work, whether it is in guest code, a wait or a handler. The caller holds the
    /// group's lock, so that a concurrent [`update_work_pending`](Self::update_work_pending) cannot clear it.
    pub(crate) fn set_work_pending(&self) {
        self.work_pending.store(true, Ordering::SeqCst);
        self.parker.unpark();
        self.interrupt();
    }

    /// Interrupts guest code; if none runs, prevents its next run.
    pub(crate) fn interrupt(&self) {
        if let Some(interrupter) = self.interrupter.get() {
            interrupter.interrupt();
        }
    }

    /// Kills the task.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.set_work_pending();
    }

    /// Sets how guest code is interrupted. The caller checks for pending work afterwards.
    pub(crate) fn set_interrupter(&self, interrupter: Arc<dyn Interrupter>) {
        // Called once by the host thread of the task.
        let _ = self.interrupter.set(interrupter);
    }

    /// Computes whether work is pending. Called by the task itself, since no other may clear the flag.
    pub(crate) fn update_work_pending(&self, state: &GroupState) {
        let waiting = {
            let signals = self.signals();
            let pending = state.pending.set().union(signals.pending.set());
            !pending.difference(signals.blocked).is_empty()
        };
        let needed = waiting || state.stop.is_some() || state.parent_notice.is_some() || self.is_killed();
        self.work_pending.store(needed, Ordering::SeqCst);
    }
}

impl Killable for Task {
    fn is_killed(&self) -> bool {
        Task::is_killed(self)
    }
}
