//! seccomp(2), and the application of filters to calls.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::seccomp::{
    AUDIT_ARCH_X86_64, BPF_MAXINSNS, SECCOMP_RET_ACTION_FULL, SECCOMP_RET_DATA, SeccompAction, SeccompData,
    SeccompFlags, SeccompMode, SeccompOperation, SockFilter, SockFprog,
};
use amber_abi::siginfo::SYS_SECCOMP;
use amber_abi::task::WaitStatus;
use amber_abi::{SigInfo, Signal};
use zerocopy::IntoBytes;

use crate::error::SysResult;
use crate::signal::{dumps_core, force_fault};
use crate::syscalls::args::PtrIn;
use crate::task::{Filter, TaskContext};

/// The calls of the strict mode: read, write, exit, rt_sigreturn.
const STRICT: [u64; 4] = [0, 1, 60, 15];
/// The largest errno that a filter can return.
const MOST_ERRNO: u32 = 4095;

/// seccomp(2). Listeners (`SECCOMP_FILTER_FLAG_NEW_LISTENER`) are not supported.
pub(crate) fn seccomp(
    ctx: &mut TaskContext,
    operation: SeccompOperation,
    flags: SeccompFlags,
    args: PtrIn,
) -> SysResult {
    match operation {
        SeccompOperation::SECCOMP_SET_MODE_STRICT => {
            if !flags.is_empty() || !args.is_null() {
                return Err(Errno::EINVAL.here().into());
            }
            set_strict(ctx)
        }
        SeccompOperation::SECCOMP_SET_MODE_FILTER => set_filter(ctx, flags, args.0),
        SeccompOperation::SECCOMP_GET_ACTION_AVAIL => {
            if !flags.is_empty() {
                return Err(Errno::EINVAL.here().into());
            }
            let action: u32 = ctx.read_object(args.0)?;
            match SeccompAction::from_raw(action) {
                SeccompAction::SECCOMP_RET_KILL_PROCESS
                | SeccompAction::SECCOMP_RET_KILL_THREAD
                | SeccompAction::SECCOMP_RET_TRAP
                | SeccompAction::SECCOMP_RET_ERRNO
                | SeccompAction::SECCOMP_RET_TRACE
                | SeccompAction::SECCOMP_RET_LOG
                | SeccompAction::SECCOMP_RET_ALLOW => Ok(0),
                _ => Err(Errno::EOPNOTSUPP.here().into()),
            }
        }
        _ => Err(Errno::EINVAL.here().into()),
    }
}

/// prctl(2) `PR_SET_SECCOMP`.
pub(super) fn set_mode(ctx: &mut TaskContext, mode: u64, program: u64) -> SysResult {
    match u32::try_from(mode).map(SeccompMode::from_raw) {
        Ok(SeccompMode::SECCOMP_MODE_STRICT) => set_strict(ctx),
        Ok(SeccompMode::SECCOMP_MODE_FILTER) => set_filter(ctx, SeccompFlags::empty(), program),
        _ => Err(Errno::EINVAL.here().into()),
    }
}

fn set_strict(ctx: &TaskContext) -> SysResult {
    // Another thread may set a filter for all threads meanwhile.
    let _state = ctx.group().state();
    if ctx.seccomp().mode() == SeccompMode::SECCOMP_MODE_FILTER {
        return Err(Errno::EINVAL.here().into());
    }
    ctx.seccomp().set_strict();
    Ok(0)
}

fn set_filter(ctx: &TaskContext, flags: SeccompFlags, address: u64) -> SysResult {
    let offered = SeccompFlags::SECCOMP_FILTER_FLAG_TSYNC
        | SeccompFlags::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
        | SeccompFlags::SECCOMP_FILTER_FLAG_LOG
        | SeccompFlags::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if !offered.contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let header: SockFprog = ctx.read_object(address)?;
    let len = usize::from(header.len);
    if len == 0 || len > BPF_MAXINSNS {
        return Err(Errno::EINVAL.here().into());
    }
    if !ctx.seccomp().no_new_privs() && !ctx.credentials().has(Capability::CAP_SYS_ADMIN) {
        return Err(Errno::EACCES.here().into());
    }
    let mut program = ctx.kernel().mm.frames.filled(len, SockFilter::default())?;
    ctx.read_bytes(header.filter, program.as_mut_slice().as_mut_bytes())?;
    // clone(2) takes this lock too, so that new threads get the final filters.
    let state = ctx.group().state();
    let own = ctx.seccomp();
    if own.mode() == SeccompMode::SECCOMP_MODE_STRICT {
        return Err(Errno::EINVAL.here().into());
    }
    let filter = Filter::new(program, own.filter())?;
    if flags.contains(SeccompFlags::SECCOMP_FILTER_FLAG_TSYNC) {
        let others = || state.tasks.iter().filter(|task| task.tid() != ctx.tid());
        if let Some(apart) = others().find(|task| !task.seccomp().may_follow(own)) {
            let silent = flags.contains(SeccompFlags::SECCOMP_FILTER_FLAG_TSYNC_ESRCH);
            return if silent { Err(Errno::ESRCH.here().into()) } else { Ok(apart.tid() as u64) };
        }
        own.set_filter(filter);
        for task in others() {
            task.seccomp().follow(own);
            // The platform may be returning constant results to it.
            task.set_work_pending();
        }
    } else {
        own.set_filter(filter);
    }
    Ok(0)
}

/// Applies a task's filters to its call. Returns false if the call is not to be handled; the registers then have the
/// result.
pub(crate) fn admits(ctx: &mut TaskContext, number: u64) -> bool {
    match ctx.seccomp().mode() {
        SeccompMode::SECCOMP_MODE_DISABLED => return true,
        SeccompMode::SECCOMP_MODE_STRICT => {
            let allowed = STRICT.contains(&number);
            if !allowed {
                ctx.thread.ending = Some(WaitStatus::Signaled(Signal::SIGKILL, false));
            }
            return allowed;
        }
        _ => {}
    }
    let Some(filter) = ctx.seccomp().filter() else { return true };
    let data = SeccompData {
        nr: number as i32,
        arch: AUDIT_ARCH_X86_64,
        instruction_pointer: ctx.registers.rip,
        args: ctx.registers.syscall_arguments(),
    };
    let answer = filter.evaluate(&data);
    let code = answer & SECCOMP_RET_DATA;
    match SeccompAction::from_raw(answer & SECCOMP_RET_ACTION_FULL) {
        SeccompAction::SECCOMP_RET_ALLOW => return true,
        SeccompAction::SECCOMP_RET_LOG => {
            log::info!("task {}: call {number}, logged by its seccomp filter", ctx.tid());
            return true;
        }
        SeccompAction::SECCOMP_RET_ERRNO => {
            ctx.registers.rax = u64::from(code.min(MOST_ERRNO)).wrapping_neg();
        }
        SeccompAction::SECCOMP_RET_TRAP => {
            // Restore the register as before the call.
            ctx.registers.rax = number;
            let info = SigInfo::sys(SYS_SECCOMP, ctx.registers.rip, number as i32, AUDIT_ARCH_X86_64, code as i32);
            force_fault(ctx, Signal::SIGSYS, info);
        }
        // There is no tracer and no listener.
        SeccompAction::SECCOMP_RET_TRACE | SeccompAction::SECCOMP_RET_USER_NOTIF => {
            ctx.registers.rax = Errno::ENOSYS.to_register();
        }
        SeccompAction::SECCOMP_RET_KILL_THREAD if ctx.group().task_count() > 1 => {
            ctx.thread.ending = Some(WaitStatus::Signaled(Signal::SIGSYS, false));
        }
        // SECCOMP_RET_KILL_PROCESS, and unknown actions.
        _ => {
            ctx.registers.rax = number;
            let status = WaitStatus::Signaled(Signal::SIGSYS, dumps_core(ctx));
            ctx.group().state().begin_end(status);
        }
    }
    false
}
