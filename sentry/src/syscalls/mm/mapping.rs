//! Adding and removing mappings.

use amber_abi::errno::Errno;
use amber_abi::mm::{MmapFlags, ProtFlags};
use amber_platform::PAGE_SIZE;

use super::{may_lock_any, protection_of, reading_executes};
use crate::error::SysResult;
use crate::mm::{Backed, LockMode, MapRequest, PageCache, Place, VmaFlags};
use crate::syscalls::args::{Fd, PtrIn};
use crate::task::TaskContext;
use crate::vfs::{FileDescription, MountOptions};

/// mmap(2).
pub(crate) fn mmap(
    ctx: &mut TaskContext,
    address: PtrIn,
    len: usize,
    prot: ProtFlags,
    flags: MmapFlags,
    fd: Fd,
    offset: u64,
) -> SysResult {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.here().into());
    }
    let anonymous = flags.contains(MmapFlags::MAP_ANONYMOUS);
    let file = if anonymous { None } else { Some(ctx.files().get(fd.0)?) };
    if flags.contains(MmapFlags::MAP_HUGETLB) {
        // No huge pages are reserved, and only hugetlbfs, which is not supported, has files of them.
        return Err(if anonymous { Errno::ENOMEM.here() } else { Errno::EINVAL.here() }.into());
    }
    if len == 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let mut area = VmaFlags::MAY_ALL;
    let backed = match &file {
        Some(file) => {
            let object = check_file(file, prot, flags, &mut area)?;
            Backed::Object(object, offset, Some(file.clone()), "")
        }
        None => match flags.kind() {
            MmapFlags::MAP_PRIVATE => Backed::Anonymous,
            MmapFlags::MAP_SHARED => {
                if flags.contains(MmapFlags::MAP_GROWSDOWN) {
                    return Err(Errno::EINVAL.here().into());
                }
                area |= VmaFlags::SHARED;
                let bytes = (len as u64).checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| Errno::ENOMEM.here())?;
                Backed::Object(
                    PageCache::in_memory(ctx.kernel().mm.frames.clone(), bytes),
                    0,
                    None,
                    "/dev/zero (deleted)",
                )
            }
            _ => return Err(Errno::EINVAL.here().into()),
        },
    };
    for (flag, bit) in [
        (MmapFlags::MAP_GROWSDOWN, VmaFlags::GROWS_DOWN),
        (MmapFlags::MAP_NORESERVE, VmaFlags::NO_RESERVE),
        (MmapFlags::MAP_LOCKED, LockMode::Now.flags()),
    ] {
        if flags.contains(flag) {
            area |= bit;
        }
    }
    let mm = ctx.mm();
    let may_lock_any = may_lock_any(ctx);
    if flags.contains(MmapFlags::MAP_LOCKED) && !may_lock_any && mm.limits().locked() == 0 {
        return Err(Errno::EPERM.here().into());
    }
    let place = if flags.contains(MmapFlags::MAP_FIXED_NOREPLACE) {
        Place::FixedFree(address.0)
    } else if flags.contains(MmapFlags::MAP_FIXED) {
        Place::Fixed(address.0)
    } else if flags.contains(MmapFlags::MAP_32BIT) {
        Place::Low32
    } else {
        Place::Hint(address.0 & !(PAGE_SIZE - 1))
    };
    let populate = flags.contains(MmapFlags::MAP_POPULATE) && !flags.contains(MmapFlags::MAP_NONBLOCK);
    let mut protection = protection_of(prot);
    protection.execute |= protection.read && area.contains(VmaFlags::MAY_EXECUTE) && reading_executes(ctx);
    Ok(mm.map(MapRequest { place, len: len as u64, protection, flags: area, backed, populate, may_lock_any })?)
}

/// Checks the descriptor's access mode, sets the VMA flags accordingly, and returns the object.
fn check_file(
    file: &FileDescription,
    prot: ProtFlags,
    flags: MmapFlags,
    area: &mut VmaFlags,
) -> Result<std::sync::Arc<dyn crate::mm::Mappable>, Errno> {
    let shared = match flags.kind() {
        MmapFlags::MAP_SHARED => true,
        MmapFlags::MAP_SHARED_VALIDATE => {
            if !MmapFlags::LEGACY.union(MmapFlags::MAP_TYPE).contains(flags) {
                return Err(Errno::EOPNOTSUPP.here());
            }
            true
        }
        MmapFlags::MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL.here()),
    };
    if shared && prot.contains(ProtFlags::PROT_WRITE) && !file.is_writable() {
        return Err(Errno::EACCES.here());
    }
    if !file.is_readable() {
        return Err(Errno::EACCES.here());
    }
    if shared {
        *area |= VmaFlags::SHARED;
        if !file.is_writable() {
            *area -= VmaFlags::MAY_WRITE;
        }
    }
    if file.path().is_some_and(|path| path.mount.options().contains(MountOptions::NO_EXEC)) {
        if prot.contains(ProtFlags::PROT_EXEC) {
            return Err(Errno::EPERM.here());
        }
        *area -= VmaFlags::MAY_EXECUTE;
    }
    let object = file.file().mappable()?;
    if flags.contains(MmapFlags::MAP_GROWSDOWN) {
        return Err(Errno::EINVAL.here());
    }
    // A sealed object can still be mapped for reading.
    if area.contains(VmaFlags::SHARED | VmaFlags::MAY_WRITE) && !prot.contains(ProtFlags::PROT_WRITE) {
        match object.attach_writable(false) {
            Ok(()) => object.detach_writable(),
            Err(_) => *area -= VmaFlags::MAY_WRITE,
        }
    }
    Ok(object)
}

/// munmap(2).
pub(crate) fn munmap(ctx: &mut TaskContext, address: PtrIn, len: usize) -> SysResult {
    ctx.mm().unmap(address.0, len as u64)?;
    Ok(0)
}

/// brk(2). Returns the end of the heap, moved or not.
pub(crate) fn brk(ctx: &mut TaskContext, address: PtrIn) -> SysResult {
    Ok(ctx.mm().set_break(address.0, may_lock_any(ctx)))
}

/// remap_file_pages(2), emulated by ordinary mappings, as in Linux since 4.0.
pub(crate) fn remap_file_pages(
    ctx: &mut TaskContext,
    address: PtrIn,
    len: usize,
    prot: ProtFlags,
    page_offset: usize,
    flags: MmapFlags,
) -> SysResult {
    if !prot.is_empty() {
        return Err(Errno::EINVAL.here().into());
    }
    let start = address.0 & !(PAGE_SIZE - 1);
    let len = len as u64 & !(PAGE_SIZE - 1);
    let end = start.checked_add(len).ok_or_else(|| Errno::EINVAL.here())?;
    let offset = (page_offset as u64).checked_mul(PAGE_SIZE).ok_or_else(|| Errno::EINVAL.here())?;
    if len == 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL.here().into());
    }
    let mm = ctx.mm();
    let mut areas = mm.areas_in(start..end);
    let area = areas.next().filter(|vma| vma.start <= start).ok_or_else(|| Errno::EINVAL.here())?;
    let object = area.object().filter(|_| area.is_shared()).ok_or_else(|| Errno::EINVAL.here())?;
    // The range may continue in adjacent VMAs of the same kind.
    let mut at = area.end;
    for next in areas {
        let same = next.object().is_some_and(|other| {
            std::ptr::addr_eq(std::sync::Arc::as_ptr(&other.object), std::sync::Arc::as_ptr(&object.object))
        });
        if next.start != at || !same || next.flags != area.flags {
            return Err(Errno::EINVAL.here().into());
        }
        at = next.end;
    }
    if at < end {
        return Err(Errno::EINVAL.here().into());
    }
    mm.map(MapRequest {
        place: Place::Fixed(start),
        len,
        protection: area.protection,
        flags: area.flags,
        backed: Backed::Object(object.object.clone(), offset, object.file.clone(), object.label),
        populate: !flags.contains(MmapFlags::MAP_NONBLOCK),
        may_lock_any: true,
    })?;
    Ok(0)
}
