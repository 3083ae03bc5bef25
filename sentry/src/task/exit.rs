//! The end of tasks and processes.

use std::collections::BTreeSet;
use std::sync::Arc;

use amber_abi::siginfo::{CLD_DUMPED, CLD_EXITED, CLD_KILLED, SI_USER};
use amber_abi::task::WaitStatus;
use amber_abi::time::USER_HZ;
use amber_abi::{SigInfo, Signal};
use amber_platform::Context;

use crate::signal::{OutgoingSignal, Wakes, may_signal, notify_parent_of_stop};
use crate::task::{Activity, ProcessTable, Task, TaskContext, ThreadGroup, sandbox_exit, session};
use crate::vfs::FdTable;

/// Nanoseconds in a tick of `si_utime`.
const TICK: u64 = 1_000_000_000 / USER_HZ;

/// Ends the task of this context. Releases its memory, descriptors and place in the table; with its last task, the
/// process becomes a zombie. Returns the platform's context, recycled.
pub(super) fn end(mut ctx: TaskContext, status: WaitStatus) -> Box<dyn Context> {
    let task = ctx.task().clone();
    let last = leave_signals(&ctx, status);
    leave_memory(&mut ctx);
    release_vfork(&mut ctx);
    release_files(&task);
    if last {
        note_peak(&ctx);
        task.kernel().ipc.semaphores.process_ended(task.group().pid());
    }
    ctx.leave_space();
    drop(task.set_memory(None));
    let (worker, memory) = (ctx.thread.worker.take(), ctx.mm().clone());
    let mut platform = ctx.into_platform();
    let attached_to = platform.recycle(&**memory.space()).then(|| memory.id());
    // A recycled context holds no memory; this may be the last reference to it.
    drop(memory);
    if let Some(worker) = worker {
        // Before the end is reported, which may start the next task at once.
        task.kernel().threads.offer(&worker, attached_to);
    }
    task.stats().begin(Activity::Zombie);
    leave_table(&task);
    task.group().ended().notify_all();
    platform
}

/// Saves the peak of resident memory for getrusage(2) before a process leaves its memory. An exact count would make
/// each fork slower, so a process that has executed nothing is assumed to have used all it could.
pub(super) fn note_peak(ctx: &TaskContext) {
    let group = ctx.group();
    let peak = if group.has_executed() { ctx.mm().totals().hwm } else { ctx.mm().most_resident() };
    group.add_usage(|usage| usage.ended.peak_resident = usage.ended.peak_resident.max(peak));
}

/// Completes what must be done in the task's memory before it is detached: robust futexes, and the word that
/// pthread_join(3) waits for.
pub(super) fn leave_memory(ctx: &mut TaskContext) {
    let clear = std::mem::take(&mut ctx.thread.clear_child_tid);
    crate::futex::release(ctx, ctx.has_ended());
    // The task and this context hold one reference each.
    if Arc::strong_count(ctx.mm()) > 2 && clear != 0 {
        // As on Linux, a bad address is ignored here.
        let _ = ctx.write_object(clear, &0u32);
        crate::futex::wake_cleared_tid(ctx, clear);
    }
}

/// Releases the task's descriptors, root and working directory.
fn release_files(task: &Task) {
    let kernel = task.kernel();
    let files = task.set_files(Arc::new(FdTable::new(&kernel.vfs, &kernel.mm.frames)));
    let alone = Arc::into_inner(files).is_some();
    // The end of the sandbox does not wait for a collection.
    if task.group().pid() != ProcessTable::INIT {
        kernel.network.unix.descriptors_released(alone, || kernel.end.first_ended());
    }
    drop(task.set_fs(kernel.nowhere.clone()));
}

/// Releases the parent of a vfork.
pub(super) fn release_vfork(ctx: &mut TaskContext) {
    if let Some(gate) = ctx.thread.vfork.take() {
        gate.open();
    }
}

/// Takes no signals from now on; a stop that waits only for this task is then complete. Returns true for exactly one
/// member of a group, the last, however many end at once.
fn leave_signals(ctx: &TaskContext, status: WaitStatus) -> bool {
    let (notice, last) = {
        let mut state = ctx.group().state();
        state.change_member(ctx.task(), |signals| signals.ended = true);
        if ctx.is_leader() {
            state.leader_status = status;
        }
        let left = state.pending.set();
        crate::signal::retarget_pending(&mut state, ctx.task(), left);
        let notice = if state.ending.is_none() { state.complete_stop() } else { None };
        (notice, !state.has_living_members())
    };
    if let Some(notice) = notice {
        notify_parent_of_stop(ctx.kernel(), ctx.group(), notice);
    }
    last
}

/// Leaves the group and, with the last member, turns the process into a zombie.
fn leave_table(task: &Arc<Task>) {
    let kernel = task.kernel().clone();
    let group = task.group().clone();
    let mut wakes = Wakes::default();
    {
        let mut table = kernel.processes.lock();
        group.add_usage(|usage| usage.ended = usage.ended.plus(task.usage()));
        kernel.cgroup.add_exited_usage(task.usage());
        let (last, executing) = {
            let mut state = group.state();
            state.remove_member(task);
            (state.tasks.is_empty(), state.executing.clone())
        };
        if !task.is_leader() {
            table.remove_task(task.tid());
        }
        if let Some(executing) = executing {
            executing.parker().unpark();
        }
        hand_children_over(&mut table, task, last, &mut wakes);
        if last {
            let status = group.state().final_status();
            end_process(&mut table, &group, status, &mut wakes);
            if group.pid() == ProcessTable::INIT {
                // No process outlives the first one.
                sandbox_exit::kill_all(&table);
                kernel.end.set_status(status);
            }
        }
    }
    wakes.run();
    kernel.end.task_ended();
}

/// Moves the children of an ending thread to another member of its group or, for the last member, to a reaper.
fn hand_children_over(table: &mut ProcessTable, task: &Arc<Task>, last: bool, wakes: &mut Wakes) {
    let pid = task.group().pid();
    let Some(process) = table.process(pid) else { return };
    let own = (process.pgid, process.sid);
    let children: Vec<i32> =
        if last { process.children.iter().collect() } else { table.children_of_thread(task.tid()).collect() };
    if children.is_empty() {
        return;
    }
    let reaper = if last { table.reaper_of(pid) } else { pid };
    if last && reaper == pid {
        return;
    }
    let thread = table.process(reaper).and_then(|p| p.group.tasks().first().map(|t| t.tid())).unwrap_or(reaper);
    let mut groups = BTreeSet::new();
    for child in children {
        // Only groups that this process kept from being orphaned can have become orphaned.
        groups.extend(table.process(child).map(|c| (c.pgid, c.sid)).filter(|c| c.0 != own.0 && c.1 == own.1));
        send_parent_death_signal(table, task, child, wakes);
        table.adopt(child, reaper, thread);
        if !last {
            continue;
        }
        // The new parent has chosen no exit signal.
        table.set_exit_signal(child, Signal::SIGCHLD.raw());
        if table.process(child).is_some_and(|c| c.zombie.is_some()) {
            // The new parent may ignore its children.
            announce(table, child, wakes);
        }
    }
    if last {
        groups.into_iter().for_each(|(pgid, _)| session::hang_up_if_orphaned(table, pgid, wakes));
    }
}

fn send_parent_death_signal(table: &ProcessTable, parent: &Arc<Task>, child: i32, wakes: &mut Wakes) {
    let Some(process) = table.process(child) else { return };
    let sender = parent.credentials();
    for task in process.group.tasks() {
        let signal = Signal::from_raw(task.parent_death_signal());
        if let Some(signal) = signal.filter(|_| process.parent_thread == parent.tid()) {
            // The signal is sent by the parent, with its present rights.
            if !may_signal(&sender, &task.credentials()) {
                continue;
            }
            let info = SigInfo::kill(signal, SI_USER, parent.group().pid(), sender.uid);
            // A full queue cannot be reported here.
            let _ = process.group.send_later(OutgoingSignal::new(signal, info), wakes);
        }
    }
}

fn end_process(table: &mut ProcessTable, group: &Arc<ThreadGroup>, status: WaitStatus, wakes: &mut Wakes) {
    let pid = group.pid();
    table.set_zombie(pid, status);
    group.timers().clear();
    let Some(process) = table.process(pid) else { return };
    // Its own group may have become orphaned by the loss of this member.
    if table.is_anchor(process) {
        session::hang_up_if_orphaned(table, process.pgid, wakes);
    }
    session::leader_ended(table, pid, wakes);
    if pid != ProcessTable::INIT {
        announce(table, pid, wakes);
    }
}

/// Notifies the parent of a zombie; if the parent ignores its children, reaps the zombie.
fn announce(table: &mut ProcessTable, pid: i32, wakes: &mut Wakes) {
    let Some((process, status)) = table.process(pid).and_then(|p| Some((p, p.zombie?))) else { return };
    let Some(parent) = table.parent(pid).map(|p| p.group.clone()) else {
        // A process started from outside is observed through its group.
        table.remove_process(pid);
        return;
    };
    let signal = if process.parent_program == parent.programs() {
        super::clone::exit_signal(process.exit_signal)
    } else {
        Some(Signal::SIGCHLD)
    };
    let actions = parent.actions();
    let discarded = signal == Some(Signal::SIGCHLD) && actions.discards_children();
    let silent =
        signal == Some(Signal::SIGCHLD) && actions.get(Signal::SIGCHLD).sa_handler == amber_abi::signal::SIG_IGN;
    if let Some(signal) = signal.filter(|_| !silent) {
        let uid = table.task(pid).map_or(0, |t| t.credentials().uid);
        let usage = process.group.usage();
        let (code, value) = child_status(status);
        let ticks = |nanos: u64| (nanos / TICK) as i64;
        let info = SigInfo::child(signal, code, pid, uid, value, ticks(usage.user), ticks(usage.system));
        // The kernel's own signals never fail for lack of queue space.
        let _ = parent.send_later(OutgoingSignal::new(signal, info), wakes);
    }
    if discarded {
        table.remove_process(pid);
    }
    wakes.child_changed(&parent);
}

/// `si_code` and `si_status` of SIGCHLD for a child that ended with this status.
pub(super) fn child_status(status: WaitStatus) -> (i32, i32) {
    match status {
        WaitStatus::Signaled(signal, false) => (CLD_KILLED, signal.raw()),
        WaitStatus::Signaled(signal, true) => (CLD_DUMPED, signal.raw()),
        WaitStatus::Exited(code) => (CLD_EXITED, i32::from(code)),
        WaitStatus::Stopped(_) | WaitStatus::Continued => (CLD_EXITED, 0),
    }
}

impl TaskContext {
    /// exit(2): ends this task alone, on its way back to the guest.
    pub(crate) fn end_task(&mut self, code: u8) {
        self.thread.ending = Some(WaitStatus::Exited(code));
    }

    /// exit_group(2): ends all tasks of the process.
    pub(crate) fn end_group(&mut self, code: u8) {
        self.group().state().begin_end(WaitStatus::Exited(code));
    }
}

/// Ends a task whose host thread never ran, as if the task had been killed.
pub(super) fn abandon(task: &Arc<Task>) {
    {
        let mut state = task.group().state();
        state.change_member(task, |signals| signals.ended = true);
        if task.is_leader() {
            state.leader_status = WaitStatus::Signaled(Signal::SIGKILL, false);
        }
    }
    release_files(task);
    drop(task.set_memory(None));
    task.stats().begin(Activity::Zombie);
    leave_table(task);
    task.group().ended().notify_all();
}
