//! Resource limits.

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::task::{RLimit, Resource};

use crate::error::SysResult;
use crate::syscalls::args::{In, Out};
use crate::task::{Task, TaskContext};

/// getrlimit(2).
pub(crate) fn getrlimit(ctx: &mut TaskContext, resource: Resource, out: Out<RLimit>) -> SysResult {
    check_resource(resource)?;
    out.write(ctx, &ctx.group().limits().get(resource))?;
    Ok(0)
}

/// setrlimit(2).
pub(crate) fn setrlimit(ctx: &mut TaskContext, resource: Resource, new: In<RLimit>) -> SysResult {
    let new = new.read(ctx)?;
    check_resource(resource)?;
    change(ctx, &ctx.task().clone(), resource, new)?;
    Ok(0)
}

/// prlimit(2).
pub(crate) fn prlimit64(
    ctx: &mut TaskContext,
    pid: i32,
    resource: Resource,
    new: In<RLimit>,
    old: Out<RLimit>,
) -> SysResult {
    let new = new.read_if_given(ctx)?;
    let task = if pid == 0 {
        ctx.task().clone()
    } else {
        ctx.kernel().processes.lock().task(pid).cloned().ok_or_else(|| Errno::ESRCH.here())?
    };
    check_access(ctx, &task)?;
    check_resource(resource)?;
    let before = task.group().limits().get(resource);
    if let Some(new) = new {
        change(ctx, &task, resource, new)?;
    }
    old.write_if_given(ctx, &before)?;
    Ok(0)
}

fn check_resource(resource: Resource) -> Result<(), Errno> {
    if (resource.raw() as usize) < Resource::COUNT { Ok(()) } else { Err(Errno::EINVAL.here()) }
}

/// Checks that the caller may see and set a task's limits.
fn check_access(ctx: &TaskContext, task: &Arc<Task>) -> Result<(), Errno> {
    let (own, other) = (ctx.credentials(), task.credentials());
    let users = [other.uid, other.euid, other.suid].iter().all(|&u| u == own.uid);
    let groups = [other.gid, other.egid, other.sgid].iter().all(|&g| g == own.gid);
    let same = Arc::ptr_eq(task.group(), ctx.group());
    let allowed = same || (users && groups) || own.has(Capability::CAP_SYS_RESOURCE);
    if allowed { Ok(()) } else { Err(Errno::EPERM.here()) }
}

fn change(ctx: &TaskContext, task: &Arc<Task>, resource: Resource, new: RLimit) -> Result<(), Errno> {
    if new.rlim_cur > new.rlim_max {
        return Err(Errno::EINVAL.here());
    }
    if resource == Resource::RLIMIT_NOFILE && new.rlim_max > ctx.kernel().tunables.nr_open.count() {
        return Err(Errno::EPERM.here());
    }
    let able = ctx.credentials().has(Capability::CAP_SYS_RESOURCE);
    task.group().change_limits(|limits| {
        if new.rlim_max > limits.get(resource).rlim_max && !able {
            return Err(Errno::EPERM.here());
        }
        limits.set(resource, new);
        Ok(())
    })?;
    if let Some(mm) = task.memory() {
        let limits = mm.limits();
        match resource {
            Resource::RLIMIT_AS => limits.set_address_space(new.rlim_cur),
            Resource::RLIMIT_DATA => limits.set_data(new.rlim_cur),
            Resource::RLIMIT_STACK => limits.set_stack(new.rlim_cur),
            Resource::RLIMIT_MEMLOCK => limits.set_locked(new.rlim_cur),
            _ => {}
        }
    }
    if resource == Resource::RLIMIT_CPU {
        task.group().watch_cpu_limit();
    }
    Ok(())
}
