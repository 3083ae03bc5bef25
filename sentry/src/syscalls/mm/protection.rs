//! Protection: mprotect(2), protection keys, seals.

use amber_abi::errno::Errno;
use amber_abi::mm::{PkeyRights, ProtFlags};

use super::{protection_of, reading_executes};
use crate::error::SysResult;
use crate::mm::Reach;
use crate::syscalls::args::PtrIn;
use crate::task::TaskContext;

/// mprotect(2).
pub(crate) fn mprotect(ctx: &mut TaskContext, address: PtrIn, len: usize, prot: ProtFlags) -> SysResult {
    let both = ProtFlags::PROT_GROWSDOWN | ProtFlags::PROT_GROWSUP;
    let grows = prot & both;
    if grows == both {
        return Err(Errno::EINVAL.here().into());
    }
    let rights = prot - both;
    let known = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC | ProtFlags::PROT_SEM;
    let unaligned = !address.0.is_multiple_of(amber_platform::PAGE_SIZE);
    if unaligned || (len != 0 && !known.contains(rights)) {
        return Err(Errno::EINVAL.here().into());
    }
    if len != 0 && grows == ProtFlags::PROT_GROWSUP {
        // No VMA grows up on x86.
        return Err(Errno::EINVAL.here().into());
    }
    let reach = if grows == ProtFlags::PROT_GROWSDOWN { Reach::GrowsDown } else { Reach::Exact };
    ctx.mm().protect(address.0, len as u64, protection_of(rights), reach, reading_executes(ctx))?;
    Ok(0)
}

/// pkey_mprotect(2) on a CPU without protection keys: only the key -1 is valid.
pub(crate) fn pkey_mprotect(ctx: &mut TaskContext, address: PtrIn, len: usize, prot: ProtFlags, key: i32) -> SysResult {
    if key != -1 {
        return Err(Errno::EINVAL.here().into());
    }
    mprotect(ctx, address, len, prot)
}

/// pkey_alloc(2) on a CPU without protection keys: none is free.
pub(crate) fn pkey_alloc(_: &mut TaskContext, flags: u64, rights: PkeyRights) -> SysResult {
    let known = PkeyRights::PKEY_DISABLE_ACCESS | PkeyRights::PKEY_DISABLE_WRITE;
    if flags != 0 || !known.contains(rights) {
        Err(Errno::EINVAL.here().into())
    } else {
        Err(Errno::ENOSPC.here().into())
    }
}

/// pkey_free(2): no key is allocated.
pub(crate) fn pkey_free(_: &mut TaskContext, _: i32) -> SysResult {
    Err(Errno::EINVAL.here().into())
}

/// mseal(2).
pub(crate) fn mseal(ctx: &mut TaskContext, address: PtrIn, len: usize, flags: u64) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL.here().into());
    }
    ctx.mm().seal(address.0, len as u64)?;
    Ok(0)
}
