//! Robust futex lists.

use amber_abi::errno::Errno;
use amber_abi::futex::RobustListHead;

use crate::error::SysResult;
use crate::syscalls::args::{PtrIn, PtrOut};
use crate::task::TaskContext;

/// set_robust_list(2).
pub(crate) fn set_robust_list(ctx: &mut TaskContext, head: PtrIn, len: usize) -> SysResult {
    if len != size_of::<RobustListHead>() {
        return Err(Errno::EINVAL.here().into());
    }
    ctx.set_robust_list(head.0);
    Ok(0)
}

/// get_robust_list(2).
pub(crate) fn get_robust_list(ctx: &mut TaskContext, pid: i32, head: PtrOut, len: PtrOut) -> SysResult {
    let task = match pid {
        0 => ctx.task().clone(),
        _ => ctx.kernel().processes.lock().task(pid).cloned().ok_or_else(|| Errno::ESRCH.here())?,
    };
    let list = task.attach(ctx.task(), || task.robust_list())?;
    ctx.write_object(len.0, &(size_of::<RobustListHead>() as u64))?;
    ctx.write_object(head.0, &list)?;
    Ok(0)
}
