//! Making tasks: clone(2) in all its forms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amber_abi::capability::Capability;
use amber_abi::task::{CloneFlags, Resource};
use amber_abi::{Errno, Signal};
use amber_platform::{FpuState, PlatformError, Registers, ThreadReservation};

use crate::error::{Restart, SysResult};
use crate::mm::MemoryManager;
use crate::task::pidfd::PidFd;
use crate::task::{Children, NewTask, Process, ProcessTable, Task, TaskContext, ThreadGroup, ThreadState, thread_pool};
use crate::users::{Counted, UserCharge};
use crate::wait::WaitQueue;

/// The arguments of clone3(2); fork(2), vfork(2) and clone(2) are special cases.
#[derive(Clone, Debug, Default)]
pub(crate) struct CloneRequest {
    /// What is shared, and which IDs are stored.
    pub flags: CloneFlags,
    /// The number of the signal sent to the parent when the child ends; 0 for none.
    pub exit_signal: i32,
    /// The child's stack pointer; 0 to keep the parent's.
    pub stack: u64,
    /// The child's FS base under `CLONE_SETTLS`.
    pub tls: u64,
    /// Where `CLONE_PARENT_SETTID` writes.
    pub parent_tid: u64,
    /// Where `CLONE_CHILD_SETTID` and `CLONE_CHILD_CLEARTID` write.
    pub child_tid: u64,
    /// Where `CLONE_PIDFD` writes.
    pub pidfd: u64,
    /// The requested thread ID of the child.
    pub set_tid: Option<i32>,
}

/// The parent of a vfork waits here until the child no longer needs its memory.
#[derive(Default)]
pub(crate) struct VforkGate {
    open: AtomicBool,
    queue: WaitQueue,
}

impl VforkGate {
    /// Releases the parent.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.queue.notify_all();
    }
}

impl CloneRequest {
    /// Refuses invalid combinations of flags, and those that the caller has no right to.
    fn check(&self, ctx: &TaskContext) -> Result<(), Errno> {
        let flags = self.flags;
        let has = |flag| flags.contains(flag);
        let contradiction = (has(CloneFlags::CLONE_FS)
            && flags.intersects(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER))
            || (has(CloneFlags::CLONE_THREAD) && !has(CloneFlags::CLONE_SIGHAND))
            || (has(CloneFlags::CLONE_SIGHAND) && !has(CloneFlags::CLONE_VM))
            || (has(CloneFlags::CLONE_SIGHAND) && has(CloneFlags::CLONE_CLEAR_SIGHAND))
            || (has(CloneFlags::CLONE_THREAD)
                && flags.intersects(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWTIME))
            || (has(CloneFlags::CLONE_PIDFD) && has(CloneFlags::CLONE_DETACHED))
            || (has(CloneFlags::CLONE_PARENT) && ctx.group().pid() == ProcessTable::INIT)
            || (flags.contains(CloneFlags::CLONE_PIDFD | CloneFlags::CLONE_PARENT_SETTID)
                && self.pidfd == self.parent_tid)
            || has(CloneFlags::CLONE_NEWUSER);
        if contradiction {
            return Err(Errno::EINVAL.here());
        }
        if has(CloneFlags::CLONE_INTO_CGROUP) {
            // There are no further control groups, so no descriptor refers to one.
            return Err(Errno::EBADF.here());
        }
        check_namespaces(ctx, flags)?;
        if has(CloneFlags::CLONE_SETTLS) && self.tls >= ctx.kernel().platform.address_limit() {
            return Err(Errno::EPERM.here());
        }
        let may_number = || {
            let credentials = ctx.credentials();
            credentials.has(Capability::CAP_CHECKPOINT_RESTORE) || credentials.has(Capability::CAP_SYS_ADMIN)
        };
        if self.set_tid.is_some() && !may_number() {
            return Err(Errno::EPERM.here());
        }
        Ok(())
    }
}

/// Only mounts have namespaces, and only a privileged caller may make one. Other kinds are refused as by a Linux built
/// without them.
pub(crate) fn check_namespaces(ctx: &TaskContext, flags: CloneFlags) -> Result<(), Errno> {
    if !flags.intersects(CloneFlags::NAMESPACES) {
        return Ok(());
    }
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        return Err(Errno::EINVAL.here());
    }
    if !ctx.credentials().has(Capability::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM.here());
    }
    let offered = flags.intersection(CloneFlags::NAMESPACES) == CloneFlags::CLONE_NEWNS;
    if offered { Ok(()) } else { Err(Errno::EINVAL.here()) }
}

impl TaskContext {
    /// Whether a user has more tasks than the caller's RLIMIT_NPROC allows; root is exempt.
    fn is_over_process_limit(&self, uid: u32) -> bool {
        let limit = self.group().limits().soft(Resource::RLIMIT_NPROC);
        uid != 0 && self.kernel().users.get(uid).count(Counted::Tasks) > limit
    }

    /// Records, just before the caller becomes this user, whether the user is over the limit. The change itself never
    /// fails: programs that ignore the error would continue as root.
    pub(crate) fn note_process_limit(&mut self, uid: u32) {
        self.thread.over_process_limit = self.is_over_process_limit(uid);
    }

    /// Checks the recorded limit before a program is executed.
    ///
    /// # Errors
    /// `EAGAIN` if a change of user exceeded the limit and the user is still over it.
    pub(crate) fn check_process_limit(&mut self) -> Result<(), Errno> {
        self.thread.over_process_limit &= self.is_over_process_limit(self.credentials().uid);
        if self.thread.over_process_limit { Err(Errno::EAGAIN.here()) } else { Ok(()) }
    }
}

/// Counts one more task for the caller's user, if its RLIMIT_NPROC and `kernel.threads-max` allow.
fn charge_user(ctx: &TaskContext) -> Result<UserCharge, Errno> {
    let most = ctx.kernel().tunables.threads_max.count();
    let present = ctx.kernel().processes.lock().task_count();
    if present as u64 >= most || !ctx.kernel().cgroup.admits_task(present) {
        return Err(Errno::EAGAIN.here());
    }
    let credentials = ctx.credentials();
    let user = ctx.kernel().users.get(credentials.uid);
    let free = credentials.uid == 0
        || credentials.has(Capability::CAP_SYS_RESOURCE)
        || credentials.has(Capability::CAP_SYS_ADMIN);
    let limit = if free { u64::MAX } else { ctx.group().limits().soft(Resource::RLIMIT_NPROC) };
    user.try_charge(Counted::Tasks, limit).ok_or_else(|| Errno::EAGAIN.here())
}

/// Makes a child or a thread and returns its thread ID.
///
/// # Errors
/// As clone(2). A pending signal interrupts the creation of a process.
pub(crate) fn clone_task(ctx: &mut TaskContext, request: &CloneRequest) -> SysResult {
    request.check(ctx)?;
    let flags = request.flags;
    let thread = flags.contains(CloneFlags::CLONE_THREAD);
    if ctx.is_killed() || (!thread && ctx.is_interrupted()) {
        return Err(Restart::Always.into());
    }
    let charge = charge_user(ctx)?;
    ctx.thread.over_process_limit = false;
    let fpu_state = ctx.platform.fpu_state().map_err(host_is_short)?;
    let memory = ctx.mm().clone();
    let mut reservation = None;
    let mut worker = None;
    let memory = if flags.contains(CloneFlags::CLONE_VM) {
        worker = ctx.kernel().threads.reserve_in(memory.id());
        if worker.is_none() {
            reservation = Some(ctx.platform.prepare_thread(&**memory.space()).map_err(host_is_short)?);
        }
        memory
    } else {
        // The stack, and the thread's local data with its ID.
        let soon = [if request.stack == 0 { ctx.registers.rsp } else { request.stack }, ctx.registers.fs_base];
        memory.fork(&mut *ctx.platform, &soon)?
    };
    let most = ctx.kernel().tunables.pid_max.get() as i32;
    let number = {
        let mut table = ctx.kernel().processes.lock();
        match request.set_tid {
            Some(number) => table.take_this_number(number, most)?,
            None => table.take_number(most)?,
        }
    };
    let task = make_task(ctx, request, number, memory.clone(), charge)?;
    let pidfd = if flags.contains(CloneFlags::CLONE_PIDFD) {
        let limit = ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
        let reserved = ctx.files().reserve(0, limit)?;
        ctx.write_object(request.pidfd, &reserved.fd())?;
        Some(reserved)
    } else {
        None
    };
    enter(ctx, request, &task)?;
    if let Some(reserved) = pidfd {
        reserved.install(PidFd::describe(task.clone(), thread, false), true);
    }
    if flags.contains(CloneFlags::CLONE_PARENT_SETTID) {
        // As on Linux, a bad address is no error here: the child exists already.
        let _ = ctx.write_object(request.parent_tid, &number);
    }
    let gate = flags.contains(CloneFlags::CLONE_VFORK).then(Arc::<VforkGate>::default);
    let start = Start {
        task,
        memory,
        reservation,
        registers: child_registers(ctx, request),
        fpu_state: Some(fpu_state),
        thread: child_state(ctx, request, gate.clone()),
        set_tid: flags.contains(CloneFlags::CLONE_CHILD_SETTID).then_some(request.child_tid),
    };
    thread_pool::start(start, worker)?;
    if let Some(gate) = gate {
        // If killed while waiting, the task ends when this call returns.
        let _ = ctx.wait_killable(&gate.queue, || gate.open.load(Ordering::SeqCst).then_some(()));
    }
    Ok(number as u64)
}

/// The error for a host without room for more address spaces or threads.
fn host_is_short(fault: PlatformError) -> Errno {
    log::warn!("a task could not be made: {fault}");
    Errno::EAGAIN.here()
}

/// The initial state of a new task's host thread.
pub(crate) struct Start {
    /// The task.
    pub task: Arc<Task>,
    /// Its memory.
    pub memory: Arc<MemoryManager>,
    /// The reservation in its address space; `None` if the context needs none.
    pub reservation: Option<ThreadReservation>,
    /// The general-purpose registers it starts with.
    pub registers: Registers,
    /// The FPU state of the parent; `None` for the initial state.
    pub fpu_state: Option<FpuState>,
    /// The state that only the task itself uses.
    pub thread: ThreadState,
    /// The address where the task stores its own thread ID.
    pub set_tid: Option<u64>,
}

fn make_task(
    ctx: &TaskContext,
    request: &CloneRequest,
    number: i32,
    memory: Arc<MemoryManager>,
    charge: UserCharge,
) -> Result<Arc<Task>, Errno> {
    let flags = request.flags;
    let group = if flags.contains(CloneFlags::CLONE_THREAD) {
        ctx.group().clone()
    } else {
        let old = ctx.group().actions();
        let actions = if flags.contains(CloneFlags::CLONE_SIGHAND) {
            old
        } else if flags.contains(CloneFlags::CLONE_CLEAR_SIGHAND) {
            Arc::new(old.for_new_program())
        } else {
            Arc::new(old.duplicate())
        };
        let group = ThreadGroup::new(number, actions, ctx.group().limits());
        group.set_oom_score_adj(ctx.group().oom_score_adj());
        group.set_dumpable(ctx.group().dumpable());
        group
    };
    let files = if flags.contains(CloneFlags::CLONE_FILES) { ctx.files() } else { Arc::new(ctx.files().duplicate()?) };
    let fs = if flags.contains(CloneFlags::CLONE_NEWNS) {
        ctx.fs().duplicate_with_mounts()?
    } else if flags.contains(CloneFlags::CLONE_FS) {
        ctx.fs()
    } else {
        ctx.fs().duplicate()
    };
    Ok(Task::new(NewTask {
        kernel: ctx.kernel().clone(),
        group,
        tid: number,
        memory,
        files,
        fs,
        credentials: ctx.credentials(),
        name: ctx.name(),
        blocked: ctx.blocked_signals(),
        schedule: ctx.schedule().for_child(),
        charge,
        settings: ctx.settings().for_child(),
    }))
}

/// Enters the new task in the table, unless the caller's group is ending or executing a program.
fn enter(ctx: &TaskContext, request: &CloneRequest, task: &Arc<Task>) -> Result<(), crate::error::SysError> {
    let mut table = ctx.kernel().processes.lock();
    let own = ctx.group();
    if ctx.is_killed() {
        return Err(Restart::Always.into());
    }
    // The limit was checked before, but others may have been faster.
    if !ctx.kernel().cgroup.admits_task(table.task_count()) {
        return Err(Errno::EAGAIN.here().into());
    }
    if request.flags.contains(CloneFlags::CLONE_FS) && task.fs().is_in_exec() {
        return Err(Errno::EAGAIN.here().into());
    }
    if request.flags.contains(CloneFlags::CLONE_THREAD) {
        let mut state = own.state();
        if state.ending.is_some() || state.executing.is_some() {
            return Err(Restart::Always.into());
        }
        // Not earlier: a filter may have been set for all threads meanwhile.
        task.seccomp().follow(ctx.seccomp());
        state.add_member(task.clone());
        // A stop in progress waits for the new member too.
        task.update_work_pending(&state);
    } else {
        let (pgid, sid, above, exit_signal, above_program) = table
            .process(own.pid())
            .map_or((0, 0, 0, 0, 0), |p| (p.pgid, p.sid, p.parent, p.exit_signal, p.parent_program));
        let terminal = table.process(own.pid()).and_then(|p| p.terminal.clone());
        let sibling = request.flags.contains(CloneFlags::CLONE_PARENT);
        let (parent, parent_thread) = match table.process(above) {
            Some(_) if sibling => (above, table.process(own.pid()).map_or(0, |p| p.parent_thread)),
            _ => (own.pid(), ctx.tid()),
        };
        {
            // A filter that another thread sets for all applies to the new one either fully or not yet.
            let _state = own.state();
            task.seccomp().follow(ctx.seccomp());
        }
        task.group().state().add_member(task.clone());
        table.add_process(Process {
            group: task.group().clone(),
            parent,
            parent_thread,
            children: Children::default(),
            pgid,
            sid,
            terminal,
            exit_signal: if sibling { exit_signal } else { request.exit_signal },
            parent_program: if sibling { above_program } else { own.programs() },
            zombie: None,
        });
    }
    table.add_task(task.clone());
    Ok(())
}

fn child_registers(ctx: &TaskContext, request: &CloneRequest) -> Registers {
    let mut registers = ctx.registers;
    registers.rax = 0;
    registers.orig_rax = u64::MAX;
    if request.stack != 0 {
        registers.rsp = request.stack;
    }
    if request.flags.contains(CloneFlags::CLONE_SETTLS) {
        registers.fs_base = request.tls;
    }
    registers
}

fn child_state(ctx: &TaskContext, request: &CloneRequest, vfork: Option<Arc<VforkGate>>) -> ThreadState {
    let flags = request.flags;
    // A thread on its own stack in shared memory must not use the parent's alternate one.
    let keeps_stack = !flags.contains(CloneFlags::CLONE_VM) || flags.contains(CloneFlags::CLONE_VFORK);
    ThreadState {
        clear_child_tid: if flags.contains(CloneFlags::CLONE_CHILD_CLEARTID) { request.child_tid } else { 0 },
        alt_stack: if keeps_stack { ctx.thread.alt_stack } else { Default::default() },
        vfork,
        ..ThreadState::default()
    }
}

/// The signal a parent gets, if the number is one.
pub(super) fn exit_signal(number: i32) -> Option<Signal> {
    Signal::from_raw(number)
}
