//! wait4(2) and waitid(2).

use amber_abi::errno::Errno;
use amber_abi::task::{Rusage, WaitIdType, WaitOptions};
use amber_abi::{SigInfo, Signal};
use zerocopy::IntoBytes;

use crate::error::SysResult;
use crate::syscalls::args::{Out, WaitStatusOut};
use crate::syscalls::task::usage::to_rusage;
use crate::task::TaskContext;
use crate::task::pidfd::PidFd;
use crate::task::wait::{WaitFor, wait_for_child};

/// Options that select children, not events.
const WHOSE: WaitOptions =
    WaitOptions::WNOHANG.union(WaitOptions::__WNOTHREAD).union(WaitOptions::__WCLONE).union(WaitOptions::__WALL);
/// Size of the part of `siginfo_t` that waitid(2) writes.
const INFO_WRITTEN: usize = 28;

/// wait4(2).
pub(crate) fn wait4(
    ctx: &mut TaskContext,
    pid: i32,
    status: WaitStatusOut,
    options: WaitOptions,
    usage: Out<Rusage>,
) -> SysResult {
    if !(WHOSE | WaitOptions::WUNTRACED | WaitOptions::WCONTINUED).contains(options) {
        return Err(Errno::EINVAL.here().into());
    }
    let which = match pid {
        i32::MIN => return Err(Errno::ESRCH.here().into()),
        -1 => WaitFor::Any,
        0 => WaitFor::Group(ctx.group_and_session().0),
        1.. => WaitFor::Process(pid),
        _ => WaitFor::Group(-pid),
    };
    let Some(waited) = wait_for_child(ctx, which, options | WaitOptions::WEXITED)? else { return Ok(0) };
    if status.0 != 0 {
        ctx.write_object(status.0, &waited.status.raw())?;
    }
    usage.write_if_given(ctx, &to_rusage(&waited.usage))?;
    Ok(waited.pid as u64)
}

/// waitid(2).
pub(crate) fn waitid(
    ctx: &mut TaskContext,
    kind: WaitIdType,
    id: i32,
    info: Out<SigInfo>,
    options: WaitOptions,
    usage: Out<Rusage>,
) -> SysResult {
    let events = WaitOptions::WEXITED | WaitOptions::WSTOPPED | WaitOptions::WCONTINUED;
    if !(WHOSE | events | WaitOptions::WNOWAIT).contains(options) || !options.intersects(events) {
        return Err(Errno::EINVAL.here().into());
    }
    let mut options = options;
    let mut impatient = false;
    let which = match kind {
        WaitIdType::P_ALL => WaitFor::Any,
        WaitIdType::P_PID if id > 0 => WaitFor::Process(id),
        WaitIdType::P_PGID if id == 0 => WaitFor::Group(ctx.group_and_session().0),
        WaitIdType::P_PGID if id > 0 => WaitFor::Group(id),
        WaitIdType::P_PIDFD if id >= 0 => {
            let description = ctx.files().get(id)?;
            let pidfd = description.downcast::<PidFd>().ok_or_else(|| Errno::EBADF.here())?;
            impatient = description.is_nonblocking() && !options.contains(WaitOptions::WNOHANG);
            options.set(WaitOptions::WNOHANG, impatient || options.contains(WaitOptions::WNOHANG));
            WaitFor::Process(pidfd.pid())
        }
        _ => return Err(Errno::EINVAL.here().into()),
    };
    let waited = wait_for_child(ctx, which, options)?;
    if waited.is_none() && impatient {
        return Err(Errno::EAGAIN.here().into());
    }
    if let Some(waited) = &waited {
        usage.write_if_given(ctx, &to_rusage(&waited.usage))?;
    }
    if !info.is_null() {
        let reported = waited.map_or_else(SigInfo::default, |w| {
            let (code, status) = w.code_and_status();
            SigInfo::child(Signal::SIGCHLD, code, w.pid, w.uid, status, 0, 0)
        });
        ctx.write_bytes(info.0, reported.as_bytes().get(..INFO_WRITTEN).unwrap_or_default())?;
    }
    Ok(0)
}
