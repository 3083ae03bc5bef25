//! madvise(2), msync(2), mincore(2).

use amber_abi::errno::Errno;
use amber_abi::mm::{MemoryAdvice, MsyncFlags};
use amber_platform::PAGE_SIZE;

use crate::error::SysResult;
use crate::interruption::check_killed;
use crate::mm::VmaFlags;
use crate::syscalls::args::{PtrIn, PtrOut};
use crate::task::TaskContext;

/// Bytes that msync(2) writes back between two checks for a kill.
const WRITTEN: u64 = 64 << 20;

/// madvise(2).
pub(crate) fn madvise(ctx: &mut TaskContext, address: PtrIn, len: usize, advice: MemoryAdvice) -> SysResult {
    ctx.mm().advise(address.0, len as u64, advice)?;
    Ok(0)
}

/// msync(2).
pub(crate) fn msync(ctx: &mut TaskContext, address: PtrIn, len: usize, flags: MsyncFlags) -> SysResult {
    let both = MsyncFlags::MS_ASYNC | MsyncFlags::MS_SYNC;
    if !MsyncFlags::all().contains(flags) || flags.contains(both) || !address.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.here().into());
    }
    let len = (len as u64).checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| Errno::ENOMEM.here())?;
    let end = address.0.checked_add(len).ok_or_else(|| Errno::ENOMEM.here())?;
    let mut at = address.0;
    let mut holes = false;
    for vma in ctx.mm().areas_in(address.0..end) {
        holes |= vma.start > at;
        let part = vma.clip(&(address.0..end));
        at = part.end;
        if flags.contains(MsyncFlags::MS_INVALIDATE) && vma.flags.contains(VmaFlags::LOCKED) {
            return Err(Errno::EBUSY.here().into());
        }
        if let Some(area) = vma.object()
            && vma.is_shared()
            && flags.contains(MsyncFlags::MS_SYNC)
        {
            for at in part.clone().step_by(WRITTEN as usize) {
                check_killed()?;
                area.object.write_back(vma.offset_of(at), WRITTEN.min(part.end - at))?;
            }
        }
    }
    if holes || at < end { Err(Errno::ENOMEM.here().into()) } else { Ok(0) }
}

/// mincore(2).
pub(crate) fn mincore(ctx: &mut TaskContext, address: PtrIn, len: usize, vector: PtrOut) -> SysResult {
    /// Number of pages per copy to the guest.
    const AT_ONCE: u64 = 4096;
    if !address.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.here().into());
    }
    let mm = ctx.mm();
    let end = address
        .0
        .checked_add(len as u64)
        .filter(|&end| end <= mm.address_limit())
        .ok_or_else(|| Errno::ENOMEM.here())?;
    let pages = (end - address.0).div_ceil(PAGE_SIZE);
    if vector.0.checked_add(pages).is_none_or(|end| end > mm.address_limit()) {
        return Err(Errno::EFAULT.here().into());
    }
    let mut done = 0;
    while done < pages {
        let count = (pages - done).min(AT_ONCE);
        let present = mm.residency(address.0 + done * PAGE_SIZE, count).ok_or_else(|| Errno::ENOMEM.here())?;
        let bytes: Vec<u8> = present.into_iter().map(u8::from).collect();
        ctx.write_bytes(vector.0 + done, &bytes)?;
        done += count;
        check_killed()?;
    }
    Ok(0)
}
