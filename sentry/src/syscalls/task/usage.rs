//! Resource usage.

use amber_abi::errno::Errno;
use amber_abi::task::{Rusage, RusageWho, Tms};
use amber_abi::time::{NSEC_PER_SEC, Timeval, USER_HZ};

use crate::error::SysResult;
use crate::syscalls::args::{Out, PtrOut};
use crate::task::{TaskContext, Usage};

/// Nanoseconds in a tick.
const TICK: u64 = NSEC_PER_SEC as u64 / USER_HZ;

/// Converts to getrusage(2)'s structure.
pub(super) fn to_rusage(usage: &Usage) -> Rusage {
    Rusage {
        ru_utime: Timeval::from_nanos(usage.user as i64),
        ru_stime: Timeval::from_nanos(usage.system as i64),
        ru_maxrss: (usage.peak_resident / 1024) as i64,
        ru_minflt: usage.minor_faults as i64,
        ru_majflt: usage.major_faults as i64,
        ru_nvcsw: usage.waits as i64,
        ..Rusage::default()
    }
}

/// getrusage(2).
pub(crate) fn getrusage(ctx: &mut TaskContext, who: RusageWho, out: Out<Rusage>) -> SysResult {
    // The maximum of the present memory and that before an execve(2).
    let peak_resident = || -> Result<u64, Errno> {
        Ok(ctx.mm().totals_unless_killed()?.hwm.max(ctx.group().past_usage().ended.peak_resident))
    };
    let usage = match who {
        RusageWho::RUSAGE_SELF => Usage { peak_resident: peak_resident()?, ..ctx.group().usage() },
        RusageWho::RUSAGE_CHILDREN => ctx.group().past_usage().children,
        RusageWho::RUSAGE_THREAD => Usage { peak_resident: peak_resident()?, ..ctx.usage() },
        _ => return Err(Errno::EINVAL.here().into()),
    };
    out.write(ctx, &to_rusage(&usage))?;
    Ok(0)
}

/// times(2).
pub(crate) fn times(ctx: &mut TaskContext, out: PtrOut) -> SysResult {
    if !out.is_null() {
        let (own, children) = (ctx.group().usage(), ctx.group().past_usage().children);
        let ticks = |nanos: u64| (nanos / TICK) as i64;
        let tms = Tms {
            tms_utime: ticks(own.user),
            tms_stime: ticks(own.system),
            tms_cutime: ticks(children.user),
            tms_cstime: ticks(children.system),
        };
        ctx.write_object(out.0, &tms)?;
    }
    Ok(ctx.kernel().time.started.elapsed().as_nanos() as u64 / TICK)
}
