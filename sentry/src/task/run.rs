//! The main loop of a task on its host thread: run guest code, handle the trap, repeat.

use std::sync::Arc;

use amber_abi::siginfo::SEGV_PKUERR;
use amber_abi::task::WaitStatus;
use amber_abi::{Errno, SigInfo, Signal};
use amber_platform::{Access, Context, PlatformError, Trap};

use crate::error::SysError;
use crate::mm::Fault;
use crate::signal::{Outcome, deliver_pending, force_fault};
use crate::slices::at_most;
use crate::syscalls;
use crate::task::clone::Start;
use crate::task::context::LastFault;
use crate::task::current::{finish_current, set_current};
use crate::task::thread_pool::Worker;
use crate::task::{TaskContext, exit, instruction};

/// The number of SIGSEGV, as platforms report it.
const SIGSEGV: i32 = Signal::SIGSEGV.raw();
/// The vector of a page fault.
const PAGE_FAULT: u64 = 14;
/// Bits of a page fault's error code: the page was present, a store, from user mode, forbidden by a protection key.
const PRESENT: u64 = 1;
const STORE: u64 = 2;
const USER: u64 = 4;
const PROTECTION_KEY: u64 = 32;

/// Runs a task from beginning to end, in a recycled context if there is one. Returns the context, recycled.
pub(super) fn run_task(
    start: Start,
    context: Option<Box<dyn Context>>,
    worker: &Arc<Worker>,
) -> Option<Box<dyn Context>> {
    let Start { task, memory, reservation, registers, fpu_state, thread, set_tid } = start;
    let kernel = task.kernel().clone();
    let platform = context.map_or_else(|| kernel.platform.new_context(), Ok).and_then(|mut platform| {
        match &fpu_state {
            Some(state) => platform.set_fpu_state(state)?,
            None => platform.reset_fpu_state()?,
        }
        Ok(platform)
    });
    let platform = match platform {
        Ok(platform) => platform,
        Err(fault) => {
            log::error!("task {} cannot run: {fault}", task.tid());
            if let Some(gate) = thread.vfork {
                gate.open();
            }
            exit::abandon(&task);
            return None;
        }
    };
    if task.is_leader() {
        task.group().watch_cpu_limit();
    }
    task.set_interrupter(platform.interrupter());
    task.update_work_pending(&task.group().state());
    let mut ctx = TaskContext::new(task, memory, registers, platform, thread);
    ctx.thread.reservation = reservation;
    ctx.thread.worker = Some(worker.clone());
    if let Some(address) = set_tid {
        // As on Linux, a bad address is ignored here.
        let _ = ctx.write_object(address, &ctx.tid());
    }
    Some(serve(ctx))
}

/// Runs a task whose context is ready, until the task ends. Returns the context, recycled.
pub(crate) fn serve(mut ctx: TaskContext) -> Box<dyn Context> {
    set_current(ctx.task());
    let status = loop {
        if let Some(status) = ctx.thread.ending.take() {
            break status;
        }
        if (ctx.is_interrupted() || ctx.thread.restart.is_some() || ctx.thread.saved_mask.is_some())
            && let Outcome::End(status) = deliver_pending(&mut ctx)
        {
            break status;
        }
        ctx.kernel().cgroup.pause.wait_while_frozen(&ctx);
        match ctx.run_guest() {
            Ok(trap) => {
                ctx.thread.reservation = None;
                handle(&mut ctx, trap);
                ctx.kernel().vfs.page_caches.reclaim_if_over();
                ctx.kernel().cgroup.enforce_limits(&ctx);
            }
            Err(fault) => break kill_on_platform_error(&ctx, &fault),
        }
    };
    finish_current();
    exit::end(ctx, status)
}

/// Kills the process of a task after the platform failed under it.
fn kill_on_platform_error(ctx: &TaskContext, fault: &PlatformError) -> WaitStatus {
    log::error!("process {} is killed: {fault}", ctx.group().pid());
    let status = WaitStatus::Signaled(Signal::SIGKILL, false);
    ctx.group().state().begin_end(status);
    status
}

fn handle(ctx: &mut TaskContext, trap: Trap) {
    match trap {
        Trap::Syscall => serve_call(ctx),
        // The i386 interface is not offered: as on a Linux without it, the call does not exist.
        Trap::Syscall32 => ctx.registers.rax = Errno::ENOSYS.to_register(),
        Trap::PageFault { address, access } => fault(ctx, address, access),
        Trap::Exception { signal: SIGSEGV, code: SEGV_PKUERR, address } => forbidden_by_key(ctx, address),
        Trap::Exception { signal, code, address } => {
            if let Some(signal) = Signal::from_raw(signal) {
                ctx.thread.last_fault = LastFault { vector: vector_of(signal), error: 0, ..ctx.thread.last_fault };
                force_fault(ctx, signal, SigInfo::fault(signal, code, address));
            }
        }
        Trap::Interrupted => {}
    }
}

fn serve_call(ctx: &mut TaskContext) {
    let number = ctx.registers.orig_rax;
    if !syscalls::task::seccomp::admits(ctx, number) {
        return;
    }
    match syscalls::dispatch(ctx, number) {
        Ok(value) => {
            ctx.registers.rax = value;
            end_temporary_mask(ctx);
        }
        // The signal that interrupted the call is delivered under the mask that the call set.
        Err(SysError::Errno(Errno::EINTR)) => ctx.registers.rax = Errno::EINTR.to_register(),
        Err(SysError::Errno(errno)) => {
            ctx.registers.rax = errno.to_register();
            end_temporary_mask(ctx);
        }
        Err(SysError::Restart(restart)) => {
            ctx.registers.rax = Errno::EINTR.to_register();
            ctx.thread.restart = Some(restart);
        }
    }
}

/// Restores the mask that the call replaced, if the call was not interrupted.
fn end_temporary_mask(ctx: &mut TaskContext) {
    if let Some(mask) = ctx.thread.saved_mask.take() {
        ctx.set_blocked_signals(mask);
    }
}

fn fault(ctx: &mut TaskContext, address: u64, access: Access) {
    let Err(fault) = ctx.mm().fault(address, access) else {
        ctx.stats().count_fault(false);
        return;
    };
    let (signal, code) = fault.signal();
    let Some(signal) = Signal::from_raw(signal) else { return };
    // To the CPU, a page without read permission is not present.
    let present = PRESENT * u64::from(fault == Fault::Denied && ctx.mm().read_partial(address, &mut [0]) == 1);
    let access = if access == Access::Read && was_store(ctx, address) { Access::Write } else { access };
    let how = match access {
        Access::Read => 0,
        Access::Write => STORE,
        Access::Execute => 16,
    };
    ctx.thread.last_fault = LastFault { vector: PAGE_FAULT, error: USER | present | how, address };
    log::debug!("task {}: {signal} at {address:#x}, rip {:#x}", ctx.tid(), ctx.registers.rip);
    if fault == Fault::OutOfMemory {
        // The guest retries, unless it was the one that was killed.
        ctx.kernel().cgroup.out_of_memory(ctx);
        return;
    }
    force_fault(ctx, signal, SigInfo::fault(signal, code, address));
}

/// Delivers a fault that the thread's own PKRU caused. No keys are allocated, so all memory has key 0.
fn forbidden_by_key(ctx: &mut TaskContext, address: u64) {
    let store = if was_store(ctx, address) { STORE } else { 0 };
    ctx.thread.last_fault = LastFault { vector: PAGE_FAULT, error: PRESENT | USER | PROTECTION_KEY | store, address };
    force_fault(ctx, Signal::SIGSEGV, SigInfo::fault_pkey(address, 0));
}

/// Whether an access was a store although the platform, which only saw a missing page, reported a load.
fn was_store(ctx: &TaskContext, address: u64) -> bool {
    let mut code = [0; instruction::MOST_BYTES];
    let got = ctx.mm().read_partial(ctx.registers.rip, &mut code);
    instruction::stores_at(at_most(&code, got), &ctx.registers, address)
}

/// The exception vector for a signal.
fn vector_of(signal: Signal) -> u64 {
    match signal {
        Signal::SIGFPE => 0,
        Signal::SIGTRAP => 3,
        Signal::SIGILL => 6,
        Signal::SIGBUS => 17,
        _ => 13,
    }
}
