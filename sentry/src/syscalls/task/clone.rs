//! Creation and end of tasks.

use amber_abi::Signal;
use amber_abi::errno::Errno;
use amber_abi::task::{CLONE_ARGS_SIZE_VER0, CLONE_ARGS_SIZE_VER2, CloneArgs, CloneFlags};
use amber_platform::PAGE_SIZE;
use zerocopy::IntoBytes;

use crate::error::SysResult;
use crate::syscalls::args::{Fd, In, PtrIn, PtrOut};
use crate::task::{CloneRequest, TaskContext, check_namespaces, clone_task};

/// Maximum depth of nested PID namespaces on Linux, which bounds clone3's `set_tid`.
const MAX_PID_NS_LEVEL: u64 = 32;

/// fork(2).
pub(crate) fn fork(ctx: &mut TaskContext) -> SysResult {
    clone_task(ctx, &CloneRequest { exit_signal: Signal::SIGCHLD.raw(), ..CloneRequest::default() })
}

/// vfork(2).
pub(crate) fn vfork(ctx: &mut TaskContext) -> SysResult {
    let flags = CloneFlags::CLONE_VFORK | CloneFlags::CLONE_VM;
    clone_task(ctx, &CloneRequest { flags, exit_signal: Signal::SIGCHLD.raw(), ..CloneRequest::default() })
}

/// clone(2).
pub(crate) fn clone(
    ctx: &mut TaskContext,
    flags: CloneFlags,
    stack: PtrIn,
    parent_tid: PtrOut,
    child_tid: PtrOut,
    tls: PtrIn,
) -> SysResult {
    // clone(2) has 32 bits of flags. Further ones exist only in clone3(2).
    let (flags, exit_signal) = CloneFlags::from_bits_retain(flags.bits() & 0xffff_ffff).split();
    let request = CloneRequest {
        flags,
        exit_signal,
        stack: stack.0,
        tls: tls.0,
        parent_tid: parent_tid.0,
        child_tid: child_tid.0,
        pidfd: parent_tid.0,
        set_tid: None,
    };
    clone_task(ctx, &request)
}

/// clone3(2).
pub(crate) fn clone3(ctx: &mut TaskContext, arguments: In<CloneArgs>, size: usize) -> SysResult {
    let args = read_arguments(ctx, arguments.0, size)?;
    let flags = CloneFlags::from_bits_retain(args.flags);
    let known = CloneFlags::from_bits_retain(0x3_ffff_ff00 | CloneFlags::CLONE_NEWTIME.bits());
    let invalid = !known.contains(flags)
        || flags.contains(CloneFlags::CLONE_DETACHED)
        || (args.set_tid == 0) != (args.set_tid_size == 0)
        || args.set_tid_size > MAX_PID_NS_LEVEL
        || (flags.contains(CloneFlags::CLONE_INTO_CGROUP)
            && (i32::try_from(args.cgroup).is_err() || size < CLONE_ARGS_SIZE_VER2))
        || args.exit_signal > Signal::COUNT as u64
        || (args.exit_signal != 0 && flags.intersects(CloneFlags::CLONE_THREAD | CloneFlags::CLONE_PARENT))
        || (args.stack == 0) != (args.stack_size == 0)
        || args.stack.checked_add(args.stack_size).is_none_or(|end| end > ctx.mm().address_limit());
    // There is one PID namespace, so at most one ID.
    if invalid || args.set_tid_size > 1 {
        return Err(Errno::EINVAL.here().into());
    }
    let set_tid = if args.set_tid_size == 1 { Some(ctx.read_object::<i32>(args.set_tid)?) } else { None };
    let request = CloneRequest {
        flags,
        exit_signal: args.exit_signal as i32,
        stack: args.stack.wrapping_add(args.stack_size),
        tls: args.tls,
        parent_tid: args.parent_tid,
        child_tid: args.child_tid,
        pidfd: args.pidfd,
        set_tid,
    };
    clone_task(ctx, &request)
}

/// Reads arguments of any version. Unknown fields must be zero.
fn read_arguments(ctx: &TaskContext, address: u64, size: usize) -> Result<CloneArgs, Errno> {
    if size > PAGE_SIZE as usize {
        return Err(Errno::E2BIG.here());
    }
    if size < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL.here());
    }
    let mut bytes = vec![0; size];
    ctx.read_bytes(address, &mut bytes)?;
    let mut args = CloneArgs::default();
    let (known, unknown) = bytes.split_at(size.min(CLONE_ARGS_SIZE_VER2));
    if unknown.iter().any(|&b| b != 0) {
        return Err(Errno::E2BIG.here());
    }
    if let Some(place) = args.as_mut_bytes().get_mut(..known.len()) {
        place.copy_from_slice(known);
    }
    Ok(args)
}

/// exit(2).
pub(crate) fn exit(ctx: &mut TaskContext, status: i32) -> SysResult {
    ctx.end_task(status as u8);
    Ok(0)
}

/// exit_group(2).
pub(crate) fn exit_group(ctx: &mut TaskContext, status: i32) -> SysResult {
    ctx.end_group(status as u8);
    Ok(0)
}

/// set_tid_address(2).
pub(crate) fn set_tid_address(ctx: &mut TaskContext, address: PtrOut) -> SysResult {
    ctx.thread.clear_child_tid = address.0;
    Ok(ctx.tid() as u64)
}

/// unshare(2).
pub(crate) fn unshare(ctx: &mut TaskContext, flags: CloneFlags) -> SysResult {
    let alone = CloneFlags::CLONE_THREAD | CloneFlags::CLONE_SIGHAND | CloneFlags::CLONE_VM;
    let real = CloneFlags::CLONE_FS | CloneFlags::CLONE_FILES | CloneFlags::CLONE_SYSVSEM;
    let known = alone | real | CloneFlags::NAMESPACES;
    if !known.contains(flags) || (flags.intersects(alone) && ctx.group().task_count() > 1) {
        return Err(Errno::EINVAL.here().into());
    }
    check_namespaces(ctx, flags)?;
    if flags.contains(CloneFlags::CLONE_NEWNS) {
        ctx.set_fs(ctx.fs().duplicate_with_mounts()?);
    } else if flags.contains(CloneFlags::CLONE_FS) {
        ctx.set_fs(ctx.fs().duplicate());
    }
    if flags.contains(CloneFlags::CLONE_FILES) {
        let own = std::sync::Arc::new(ctx.files().duplicate()?);
        drop(ctx.set_files(own));
    }
    Ok(0)
}

/// setns(2): there is one namespace of each kind, and no file for it.
pub(crate) fn setns(ctx: &mut TaskContext, fd: Fd, _kind: CloneFlags) -> SysResult {
    ctx.files().get(fd.0)?;
    Err(Errno::EINVAL.here().into())
}
