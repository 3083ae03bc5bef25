//! What was used: processor time and the like.

use amber_abi::errno::Errno;
use amber_abi::task::{Rusage, RusageWho};
use amber_abi::time::Timeval;

use crate::error::SysResult;
use crate::syscalls::args::Out;
use crate::task::{TaskContext, Usage};

/// As getrusage(2) tells it.
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
pub fn getrusage(ctx: &mut TaskContext, who: RusageWho, out: Out<Rusage>) -> SysResult {
    let usage = match who {
        RusageWho::RUSAGE_SELF => ctx.group().usage(),
        RusageWho::RUSAGE_CHILDREN => ctx.group().past_usage().children,
        RusageWho::RUSAGE_THREAD => ctx.usage(),
        _ => return Err(Errno::EINVAL.into()),
    };
    out.write(ctx, &to_rusage(&usage))?;
    Ok(0)
}
