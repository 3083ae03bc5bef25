//! The system calls of inotify(7).

use amber_abi::errno::Errno;
use amber_abi::inotify::{InotifyInitFlags, InotifyMask};
use amber_abi::open::{AT_FDCWD, OpenFlags};
use amber_abi::stat::FileType;

use crate::error::SysResult;
use crate::syscalls::args::{Fd, Path};
use crate::syscalls::fs::anonymous::install;
use crate::syscalls::fs::support::find_at;
use crate::task::TaskContext;
use crate::users::Counted;
use crate::vfs::access::{self, Access};
use crate::vfs::inotify::Inotify;

/// inotify_init(2).
pub(crate) fn inotify_init(ctx: &mut TaskContext) -> SysResult {
    inotify_init1(ctx, InotifyInitFlags::empty())
}

/// inotify_init1(2).
pub(crate) fn inotify_init1(ctx: &mut TaskContext, flags: InotifyInitFlags) -> SysResult {
    if !InotifyInitFlags::all().contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    let limits = &ctx.kernel().tunables;
    let instances = limits.inotify_instances.count();
    let user = ctx.kernel().users.get(ctx.credentials().uid);
    let charge = user.try_charge(Counted::InotifyInstances, instances).ok_or_else(|| Errno::EMFILE.here())?;
    let inotify = Inotify::new(&ctx.kernel().vfs, limits.inotify_events.count(), charge);
    install(ctx, inotify, OpenFlags::O_RDONLY, flags.bits())
}

/// inotify_add_watch(2).
pub(crate) fn inotify_add_watch(ctx: &mut TaskContext, fd: Fd, path: Path, mask: InotifyMask) -> SysResult {
    if !mask.intersects(InotifyMask::all()) {
        return Err(Errno::EINVAL.here().into());
    }
    let description = ctx.files().get(fd.0)?;
    if mask.contains(InotifyMask::IN_MASK_ADD | InotifyMask::IN_MASK_CREATE) {
        return Err(Errno::EINVAL.here().into());
    }
    let inotify = description.downcast::<Inotify>().ok_or_else(|| Errno::EINVAL.here())?;
    let follow = !mask.contains(InotifyMask::IN_DONT_FOLLOW);
    let inode = find_at(ctx, AT_FDCWD, path.0, follow, false)?.inode;
    if mask.contains(InotifyMask::IN_ONLYDIR) && inode.kind() != FileType::Directory {
        return Err(Errno::ENOTDIR.here().into());
    }
    access::check(&ctx.credentials(), &*inode, Access::READ)?;
    let watches = ctx.kernel().tunables.inotify_watches.count();
    let user = ctx.kernel().users.get(ctx.credentials().uid);
    let wd = inotify.add(&inode, mask, || user.try_charge(Counted::InotifyWatches, watches))?;
    Ok(wd as u64)
}

/// inotify_rm_watch(2).
pub(crate) fn inotify_rm_watch(ctx: &mut TaskContext, fd: Fd, wd: i32) -> SysResult {
    let description = ctx.files().get(fd.0)?;
    description.downcast::<Inotify>().ok_or_else(|| Errno::EINVAL.here())?.remove(wd)?;
    Ok(0)
}
