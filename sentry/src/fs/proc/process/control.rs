//! Small files of `/proc/PID`: limits, names, settings, and constants of a sandbox.

use std::fmt::Write;
use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::task::{RLIM_INFINITY, Resource};

use super::state::usage;
use crate::fs::pseudo::Query;
use crate::id_map::IdMaps;
use crate::task::Task;

fn line(value: impl std::fmt::Display) -> Result<Vec<u8>, Errno> {
    Ok(format!("{value}\n").into_bytes())
}

/// Parses a number that is alone on its line.
pub(crate) fn written<T: std::str::FromStr>(text: &[u8]) -> Result<T, Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL.here())?;
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0').parse().map_err(|_| Errno::EINVAL.here())
}

/// `/proc/PID/comm`.
pub(super) fn comm(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut name = query.task()?.name();
    name.push(b'\n');
    Ok(name)
}

/// Sets the name of a task; only threads of the same process may.
pub(super) fn set_comm(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    let task = query.task()?;
    if task.group().pid() != query.caller().0.group().pid() {
        return Err(Errno::EINVAL.here());
    }
    // The newline becomes part of the name, as on Linux.
    task.set_name(text);
    Ok(())
}

/// `/proc/PID/limits`.
pub(super) fn limits(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    const ROWS: [(Resource, &str, &str); 16] = [
        (Resource::RLIMIT_CPU, "Max cpu time", "seconds"),
        (Resource::RLIMIT_FSIZE, "Max file size", "bytes"),
        (Resource::RLIMIT_DATA, "Max data size", "bytes"),
        (Resource::RLIMIT_STACK, "Max stack size", "bytes"),
        (Resource::RLIMIT_CORE, "Max core file size", "bytes"),
        (Resource::RLIMIT_RSS, "Max resident set", "bytes"),
        (Resource::RLIMIT_NPROC, "Max processes", "processes"),
        (Resource::RLIMIT_NOFILE, "Max open files", "files"),
        (Resource::RLIMIT_MEMLOCK, "Max locked memory", "bytes"),
        (Resource::RLIMIT_AS, "Max address space", "bytes"),
        (Resource::RLIMIT_LOCKS, "Max file locks", "locks"),
        (Resource::RLIMIT_SIGPENDING, "Max pending signals", "signals"),
        (Resource::RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"),
        (Resource::RLIMIT_NICE, "Max nice priority", ""),
        (Resource::RLIMIT_RTPRIO, "Max realtime priority", ""),
        (Resource::RLIMIT_RTTIME, "Max realtime timeout", "us"),
    ];
    let limits = query.task()?.group().limits();
    let mut text = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let shown = |value: u64| if value == RLIM_INFINITY { "unlimited".to_owned() } else { value.to_string() };
    for (resource, name, unit) in ROWS {
        let limit = limits.get(resource);
        let _ = writeln!(text, "{name:<25} {:<20} {:<20} {unit:<10}", shown(limit.rlim_cur), shown(limit.rlim_max));
    }
    Ok(text.into_bytes())
}

/// `/proc/PID/oom_score_adj`.
pub(super) fn oom_score_adj(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    line(query.task()?.group().oom_score_adj())
}

/// Sets the adjustment; only privileged callers may lower it.
pub(super) fn set_oom_score_adj(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    let value: i32 = written(text)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL.here());
    }
    change_adjustment(query, value)
}

fn change_adjustment(query: &Query<'_>, value: i32) -> Result<(), Errno> {
    let task = query.task()?;
    if value < task.group().oom_score_adj() && !query.caller().1.has(Capability::CAP_SYS_RESOURCE) {
        return Err(Errno::EACCES.here());
    }
    task.group().set_oom_score_adj(value);
    Ok(())
}

/// `/proc/PID/oom_adj`, the older scale from -17 to 15.
pub(super) fn oom_adj(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    match query.task()?.group().oom_score_adj() {
        1000 => line(15),
        value => line(value * 17 / 1000),
    }
}

/// Sets the adjustment on the older scale.
pub(super) fn set_oom_adj(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    let value: i32 = written(text)?;
    if !(-17..=15).contains(&value) {
        return Err(Errno::EINVAL.here());
    }
    change_adjustment(query, if value == 15 { 1000 } else { value * 1000 / 17 })
}

/// `/proc/PID/oom_score`: the process's share of the memory in thousandths, plus the adjustment.
pub(super) fn oom_score(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let task = query.task()?;
    let Some(mm) = task.memory() else { return line(0) };
    let share = mm.totals().rss.saturating_mul(1000) / query.kernel.cgroup.memory_shown(query.kernel).max(1);
    let points = (share as i64 + 1000 + i64::from(task.group().oom_score_adj())) * 2 / 3;
    line(points.max(0))
}

/// `/proc/PID/io`: bytes of system calls, including those of reaped children. I/O of disks is not counted.
pub(super) fn io(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let used = query.inspect(|task| {
        let own = usage(query, task);
        if query.subject.is_thread { own } else { own.plus(task.group().past_usage().children) }
    })?;
    let mut text = String::new();
    for (name, value) in [
        ("rchar", used.read_bytes),
        ("wchar", used.written_bytes),
        ("syscr", used.reads),
        ("syscw", used.writes),
        ("read_bytes", 0),
        ("write_bytes", 0),
        ("cancelled_write_bytes", 0),
    ] {
        let _ = writeln!(text, "{name}: {value}");
    }
    Ok(text.into_bytes())
}

/// `/proc/PID/schedstat`: time on a CPU, time in a run queue, and number of timeslices.
pub(super) fn schedstat(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let used = query.task()?.usage();
    line(format!("{} 0 {}", used.user + used.system, used.waits + 1))
}

/// `/proc/PID/sched`.
pub(super) fn sched(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let task = query.task()?;
    let used = usage(query, &task);
    let name = String::from_utf8_lossy(&task.name()).into_owned();
    let schedule = task.schedule();
    let mut text = format!("{name} ({}, #threads: {})\n{}\n", task.tid(), task.group().task_count(), "-".repeat(67));
    let nanos = used.user + used.system;
    let run = format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000);
    for (key, value) in [
        ("se.sum_exec_runtime", run),
        ("nr_switches", used.waits.to_string()),
        ("nr_voluntary_switches", used.waits.to_string()),
        ("nr_involuntary_switches", "0".to_owned()),
        ("policy", schedule.policy.raw().to_string()),
        ("prio", (100 + schedule.shown_priority()).to_string()),
    ] {
        let _ = writeln!(text, "{key:<45}:{value:>21}");
    }
    Ok(text.into_bytes())
}

/// Applies `take` to the task if the caller may trace it (ptrace(2)).
fn trace<T>(query: &Query<'_>, take: impl FnOnce(&Task) -> T) -> Result<T, Errno> {
    query.inspect(take).map_err(|errno| if errno == Errno::EACCES { Errno::EPERM.here() } else { errno })
}

/// `/proc/PID/personality`.
pub(super) fn personality(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    line(format!("{:08x}", trace(query, |task| task.settings().personality)?))
}

/// The task, if the caller may read and set its timer slack.
fn task_with_slack(query: &Query<'_>) -> Result<Arc<Task>, Errno> {
    let task = query.task()?;
    let (caller, who) = query.caller();
    if task.tid() != caller.tid() && !who.has(Capability::CAP_SYS_NICE) {
        return Err(Errno::EPERM.here());
    }
    Ok(task)
}

/// `/proc/PID/timerslack_ns`.
pub(super) fn timer_slack(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    line(task_with_slack(query)?.settings().timer_slack)
}

/// Sets the timer slack; 0 restores the default.
pub(super) fn set_timer_slack(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    let value: u64 = written(text)?;
    let task = task_with_slack(query)?;
    task.change_settings(|settings| {
        settings.timer_slack = if value == 0 { settings.default_timer_slack } else { value };
    });
    Ok(())
}

/// `/proc/PID/wchan`: kernel symbols are not shown.
pub(super) fn wchan(_: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(b"0".to_vec())
}

/// `/proc/PID/syscall`: registers are not shown, and every task appears to be running.
pub(super) fn syscall(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    trace(query, |_| ())?;
    Ok(b"running\n".to_vec())
}

/// `/proc/PID/stack`, which cannot be read.
pub(super) fn stack(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    if !query.reader.credentials.has(Capability::CAP_SYS_ADMIN) {
        return Err(Errno::EACCES.here());
    }
    Err(Errno::EPERM.here())
}

/// `/proc/PID/loginuid` and `sessionid`, which are not set.
pub(super) fn unset(_: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(u32::MAX.to_string().into_bytes())
}

/// `/proc/PID/uid_map`; there is one user namespace.
pub(super) fn uid_map(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(query.kernel.id_maps.users.to_string().into_bytes())
}

/// `/proc/PID/gid_map`.
pub(super) fn gid_map(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(query.kernel.id_maps.groups.to_string().into_bytes())
}

/// `/proc/PID/projid_map`: only the initial namespace has project IDs without being given any.
pub(super) fn projid_map(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let initial = IdMaps::default();
    Ok(if query.kernel.id_maps == initial { initial.users.to_string().into_bytes() } else { Vec::new() })
}

/// The mapping of the initial namespace cannot be changed.
pub(super) fn set_id_map(_: &Query<'_>, _: &[u8]) -> Result<(), Errno> {
    Err(Errno::EPERM.here())
}

/// `/proc/PID/setgroups`.
pub(super) fn setgroups(_: &Query<'_>) -> Result<Vec<u8>, Errno> {
    line("allow")
}

/// The setting of the initial namespace cannot be changed.
pub(super) fn set_setgroups(_: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    match text.trim_ascii() {
        b"allow" => Ok(()),
        b"deny" => Err(Errno::EPERM.here()),
        _ => Err(Errno::EINVAL.here()),
    }
}

/// `/proc/PID/coredump_filter`, which has no effect as there are no core files.
pub(super) fn coredump_filter(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    query.task()?;
    line("00000033")
}

/// Writing `/proc/PID/clear_refs` is not supported: accessed pages are not tracked.
pub(super) fn clear_refs(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    query.task()?;
    if (1..=5).contains(&written::<i32>(text)?) { Err(Errno::EOPNOTSUPP.here()) } else { Err(Errno::EINVAL.here()) }
}

/// `/proc/PID/task/TID/children`.
pub(super) fn children(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let task = query.task()?;
    let table = query.kernel.processes.lock();
    Ok(table.children_of_thread(task.tid()).map(|child| format!("{child} ")).collect::<String>().into_bytes())
}
