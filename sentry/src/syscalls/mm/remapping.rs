//! mremap(2).

use amber_abi::errno::Errno;
use amber_abi::mm::MremapFlags;

use super::may_lock_any;
use crate::error::SysResult;
use crate::mm::RemapRequest;
use crate::syscalls::args::PtrIn;
use crate::task::TaskContext;

/// mremap(2).
pub(crate) fn mremap(
    ctx: &mut TaskContext,
    address: PtrIn,
    old_len: usize,
    new_len: usize,
    flags: MremapFlags,
    new_address: PtrIn,
) -> SysResult {
    let may_move = flags.contains(MremapFlags::MREMAP_MAYMOVE);
    let fixed = flags.contains(MremapFlags::MREMAP_FIXED);
    let keep_old = flags.contains(MremapFlags::MREMAP_DONTUNMAP);
    if !MremapFlags::all().contains(flags) || ((fixed || keep_old) && !may_move) || (keep_old && old_len != new_len) {
        return Err(Errno::EINVAL.here().into());
    }
    Ok(ctx.mm().remap(RemapRequest {
        address: address.0,
        old_len: old_len as u64,
        new_len: new_len as u64,
        may_move,
        fixed: fixed.then_some(new_address.0),
        hint: if keep_old { new_address.0 } else { 0 },
        keep_old,
        may_lock_any: may_lock_any(ctx),
    })?)
}
