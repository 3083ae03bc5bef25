//! Memory locking.

use amber_abi::errno::Errno;
use amber_abi::mm::{MlockFlags, MlockallFlags};

use super::may_lock_any;
use crate::error::SysResult;
use crate::mm::LockMode;
use crate::syscalls::args::PtrIn;
use crate::task::TaskContext;

/// mlock(2).
pub(crate) fn mlock(ctx: &mut TaskContext, address: PtrIn, len: usize) -> SysResult {
    ctx.mm().lock(address.0, len as u64, LockMode::Now, may_lock_any(ctx))?;
    Ok(0)
}

/// mlock2(2).
pub(crate) fn mlock2(ctx: &mut TaskContext, address: PtrIn, len: usize, flags: MlockFlags) -> SysResult {
    if !MlockFlags::all().contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let mode = if flags.contains(MlockFlags::MLOCK_ONFAULT) { LockMode::OnFault } else { LockMode::Now };
    ctx.mm().lock(address.0, len as u64, mode, may_lock_any(ctx))?;
    Ok(0)
}

/// munlock(2).
pub(crate) fn munlock(ctx: &mut TaskContext, address: PtrIn, len: usize) -> SysResult {
    ctx.mm().unlock(address.0, len as u64)?;
    Ok(0)
}

/// mlockall(2).
pub(crate) fn mlockall(ctx: &mut TaskContext, flags: MlockallFlags) -> SysResult {
    let known = MlockallFlags::all().contains(flags);
    if flags.is_empty() || !known || flags == MlockallFlags::MCL_ONFAULT {
        return Err(Errno::EINVAL.here().into());
    }
    let mode = if flags.contains(MlockallFlags::MCL_ONFAULT) { LockMode::OnFault } else { LockMode::Now };
    let current = flags.contains(MlockallFlags::MCL_CURRENT);
    let future = flags.contains(MlockallFlags::MCL_FUTURE);
    ctx.mm().lock_all(current, future, mode, may_lock_any(ctx))?;
    Ok(0)
}

/// munlockall(2).
pub(crate) fn munlockall(ctx: &mut TaskContext) -> SysResult {
    ctx.mm().unlock_all();
    Ok(0)
}
