//! Keeps a tracer and its tracee on one processor: waking a thread on another one costs several times a whole trap.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

fn only(processor: usize) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(set)
}

/// Moves this thread and a tracee to the processor this thread is on. Placement only makes things faster, so failures
/// (a processor just taken away) are left alone.
pub fn settle(tid: i32) {
    let Ok(set) = sched_getcpu().and_then(only) else { return };
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
    let _ = sched_setaffinity(Pid::from_raw(tid), &set);
}

/// Does something with a tracee while both are on one processor; afterwards this thread may be anywhere again.
pub fn with_tracee<T>(tid: i32, action: impl FnOnce() -> T) -> T {
    let allowed = sched_getaffinity(Pid::from_raw(0));
    settle(tid);
    let result = action();
    if let Ok(allowed) = allowed {
        let _ = sched_setaffinity(Pid::from_raw(0), &allowed);
    }
    result
}
