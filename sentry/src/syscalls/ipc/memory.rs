//! Shared memory: shmget(2), shmop(2), shmctl(2).

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::ipc::{SHM_DEST, SHM_LOCKED, SHMMIN, ShmAttachFlags, ShmCommand, ShmFlags, ShmInfo, ShmInfo64, ShmidDs};
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType};
use amber_abi::task::Resource;
use amber_platform::{PAGE_SIZE, Protection};

use super::plain;
use crate::error::SysResult;
use crate::interruption::check_killed;
use crate::ipc::{Object, Segment, SegmentPages};
use crate::mm::{Backed, MapRequest, Mappable, Place, VmaFlags};
use crate::syscalls::args::{PtrIn, PtrOut};
use crate::task::TaskContext;
use crate::vfs::{Dentry, FileDescription, NewInode, Path};

/// shmget(2). Huge pages are not supported.
pub(crate) fn shmget(ctx: &mut TaskContext, key: i32, size: usize, flags: ShmFlags) -> SysResult {
    if flags.contains(ShmFlags::SHM_HUGETLB) {
        return Err(Errno::EINVAL.here().into());
    }
    let overcommits = flags.contains(ShmFlags::SHM_NORESERVE) || ctx.kernel().tunables.overcommit.get() == 1;
    let (credentials, pid) = (ctx.credentials(), ctx.group().pid());
    Ok(ctx.kernel().ipc.memory.find_or_make(&credentials, key, size as u64, flags.bits(), !overcommits, pid)? as u64)
}

/// The file that names the VMAs of a segment.
fn name_of(ctx: &TaskContext, key: i32) -> Result<Arc<FileDescription>, Errno> {
    let new = NewInode {
        kind: FileType::Regular,
        permissions: 0o777,
        masked: 0,
        uid: 0,
        gid: 0,
        special: Device::default(),
        target: &[],
    };
    let mount = ctx.kernel().fs.memfds.clone();
    let inode = mount.root.inode()?.create_unnamed(&new, false)?;
    let dentry = Dentry::unnamed(&ctx.kernel().vfs, inode.clone(), format!("SYSV{key:08x}").as_bytes());
    let path = Path { mount, dentry };
    Ok(FileDescription::new(&ctx.kernel().vfs, inode.open(OpenFlags::O_RDWR)?, Some(path), OpenFlags::O_RDWR))
}

/// The address for shmat(2); none for any.
fn place(address: u64, flags: ShmAttachFlags) -> Result<Option<u64>, Errno> {
    let remap = flags.contains(ShmAttachFlags::SHM_REMAP);
    let round = flags.contains(ShmAttachFlags::SHM_RND);
    if address == 0 {
        return if remap { Err(Errno::EINVAL.here()) } else { Ok(None) };
    }
    let rounded = address & !(PAGE_SIZE - 1);
    if (rounded != address && !round) || (rounded == 0 && remap) {
        return Err(Errno::EINVAL.here());
    }
    Ok(Some(rounded))
}

/// shmat(2).
pub(crate) fn shmat(ctx: &mut TaskContext, id: i32, address: PtrIn, flags: ShmAttachFlags) -> SysResult {
    let place = place(address.0, flags)?;
    let mut protection = Protection { read: true, write: true, execute: false };
    let mut wanted = 0o6;
    let mut area = VmaFlags::SHARED | VmaFlags::MAY_ALL;
    if flags.contains(ShmAttachFlags::SHM_RDONLY) {
        (protection.write, wanted) = (false, 0o4);
        area -= VmaFlags::MAY_WRITE;
    }
    if flags.contains(ShmAttachFlags::SHM_EXEC) {
        protection.execute = true;
        wanted |= 0o1;
    }
    let credentials = ctx.credentials();
    let (pages, key) = {
        let segments = ctx.kernel().ipc.memory.lock();
        let segment = segments.get(id)?;
        segment.permissions().check(&credentials, wanted)?;
        (segment.pages(), segment.permissions().key)
    };
    let len = pages.len();
    let remap = flags.contains(ShmAttachFlags::SHM_REMAP);
    if place.is_some_and(|at| at.checked_add(len).is_none()) {
        return Err(Errno::EINVAL.here().into());
    }
    let file = pages.name(|| name_of(ctx, key))?;
    let object: Arc<dyn Mappable> = pages;
    let request = MapRequest {
        place: match place {
            None => Place::Hint(0),
            Some(at) if remap => Place::Fixed(at),
            Some(at) => Place::FixedFree(at),
        },
        len,
        protection,
        flags: area,
        backed: Backed::Object(object, 0, Some(file), ""),
        populate: false,
        may_lock_any: credentials.has(Capability::CAP_IPC_LOCK),
    };
    let mapped = ctx.mm().map(request);
    // shmat(2) reports a conflict by another errno than mmap(2).
    Ok(mapped.map_err(|errno| if errno == Errno::EEXIST { Errno::EINVAL.here() } else { errno })?)
}

/// shmdt(2): unmaps what is left of an attachment.
pub(crate) fn shmdt(ctx: &mut TaskContext, address: PtrIn) -> SysResult {
    if !address.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.here().into());
    }
    let mm = ctx.mm().clone();
    let mut segment: Option<Arc<dyn Mappable>> = None;
    for vma in mm.areas_in(address.0..mm.address_limit()) {
        check_killed()?;
        let Some(area) = vma.object() else { continue };
        // The VMAs of one attachment have the same distance between address and offset.
        let in_place = vma.start.checked_sub(address.0) == Some(vma.offset);
        let same = match &segment {
            None => in_place && ctx.kernel().ipc.memory.is_segment(&area.object),
            Some(first) => in_place && std::ptr::addr_eq(Arc::as_ptr(first), Arc::as_ptr(&area.object)),
        };
        if same {
            segment = Some(area.object.clone());
            mm.unmap(vma.start, vma.size())?;
        } else if segment.as_ref().is_some_and(|first| vma.start - address.0 >= first.len()) {
            break;
        }
    }
    if segment.is_some() { Ok(0) } else { Err(Errno::EINVAL.here().into()) }
}

fn shown(segment: &Segment) -> ShmidDs {
    ShmidDs {
        shm_perm: segment.permissions().shown(),
        shm_segsz: segment.size,
        shm_atime: segment.attached_at,
        shm_dtime: segment.detached_at,
        shm_ctime: segment.changed_at,
        shm_cpid: segment.creator,
        shm_lpid: segment.last,
        shm_nattch: segment.attached,
        ..ShmidDs::default()
    }
}

/// shmctl(2).
pub(crate) fn shmctl(ctx: &mut TaskContext, id: i32, command: ShmCommand, buffer: PtrOut) -> SysResult {
    let command = ShmCommand::from_raw(plain(command.raw()));
    if id < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let memory = ctx.kernel().ipc.memory.clone();
    let credentials = ctx.credentials();
    match command {
        ShmCommand::IPC_INFO => {
            let limits = &ctx.kernel().ipc.limits;
            let info = ShmInfo64 {
                shmmax: limits.shmmax.get(),
                shmmin: SHMMIN,
                shmmni: limits.shmmni.get(),
                shmseg: limits.shmmni.get(),
                shmall: limits.shmall.get(),
                ..ShmInfo64::default()
            };
            ctx.write_object(buffer.0, &info)?;
            Ok(memory.lock().highest())
        }
        ShmCommand::SHM_INFO => {
            let (pages, total, count): (Vec<Arc<SegmentPages>>, u64, usize) = {
                let segments = memory.lock();
                let pages = segments.iter().map(|(_, segment)| segment.pages()).collect();
                (pages, segments.iter().map(|(_, segment)| segment.page_count()).sum(), segments.count())
            };
            let shm_rss = pages.iter().map(|pages| pages.resident() / PAGE_SIZE).sum();
            let info = ShmInfo { used_ids: count as i32, shm_tot: total, shm_rss, ..ShmInfo::default() };
            ctx.write_object(buffer.0, &info)?;
            Ok(memory.lock().highest())
        }
        ShmCommand::IPC_STAT | ShmCommand::SHM_STAT | ShmCommand::SHM_STAT_ANY => {
            let (value, state) = {
                let segments = memory.lock();
                let (value, segment) = match command {
                    ShmCommand::IPC_STAT => (0, segments.get(id)?),
                    _ => segments.in_place(id)?,
                };
                if command != ShmCommand::SHM_STAT_ANY {
                    segment.permissions().check(&credentials, 0o4)?;
                }
                (value, shown(segment))
            };
            ctx.write_object(buffer.0, &state)?;
            Ok(value as u64)
        }
        ShmCommand::IPC_SET => {
            let new: ShmidDs = ctx.read_object(buffer.0)?;
            let mut segments = memory.lock();
            let segment = segments.get_mut(id)?;
            segment.permissions().check_owner(&credentials)?;
            segment.permissions_mut().change(&new.shm_perm, &ctx.kernel().id_maps)?;
            segment.changed_at = crate::clock::realtime().tv_sec;
            Ok(0)
        }
        ShmCommand::IPC_RMID => {
            memory.remove(&credentials, id)?;
            Ok(0)
        }
        ShmCommand::SHM_LOCK | ShmCommand::SHM_UNLOCK => {
            let none = ctx.group().limits().soft(Resource::RLIMIT_MEMLOCK) == 0;
            let mut segments = memory.lock();
            let segment = segments.get_mut(id)?;
            if !credentials.has(Capability::CAP_IPC_LOCK) {
                let owner = segment.permissions();
                if credentials.euid != owner.uid && credentials.euid != owner.cuid {
                    return Err(Errno::EPERM.here().into());
                }
                if command == ShmCommand::SHM_LOCK && none {
                    return Err(Errno::EPERM.here().into());
                }
            }
            // Guest memory is never swapped. Only the mode shows the lock.
            let mode = &mut segment.permissions_mut().mode;
            *mode = (*mode & (SHM_DEST | 0o777)) | if command == ShmCommand::SHM_LOCK { SHM_LOCKED } else { 0 };
            Ok(0)
        }
        _ => Err(Errno::EINVAL.here().into()),
    }
}
