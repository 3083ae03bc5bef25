//! The file system `cgroup2`: the sandbox's group, shown as the root of its processes' namespace. Programs read their
//! limits of memory and CPU time here. Limits are set from outside; there are no groups below.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_abi::stat::CGROUP2_SUPER_MAGIC;
use amber_platform::KernelUsage;

use super::Usage;
use crate::fs::proc::ranges;
use crate::fs::pseudo::{Entry, Kind, PseudoFs, Query};
use crate::kernel::Kernel;
use crate::task::CpuSet;
use crate::vfs::FileSystem;

type Answer = Result<Vec<u8>, Errno>;

/// Nanoseconds in a microsecond.
const MICRO: u64 = 1000;

static CGROUP2: Kind = Kind {
    name: "cgroup2",
    magic: CGROUP2_SUPER_MAGIC,
    root: Entry::directory("", ROOT),
    is_volatile: false,
    new_names: Errno::EPERM,
    block_size: 4096,
    file_size: 0,
};

const ROOT: &[Entry] = &[
    Entry::file("cgroup.controllers", 0o444, |_| line("cpuset cpu memory pids")),
    Entry::file("cgroup.events", 0o444, events),
    limit("cgroup.freeze", frozen).since("5.2"),
    limit("cgroup.max.depth", unlimited),
    limit("cgroup.max.descendants", unlimited),
    Entry::writable("cgroup.procs", 0o644, processes, join_process),
    Entry::file("cgroup.stat", 0o444, |_| line("nr_descendants 0\nnr_dying_descendants 0")),
    limit("cgroup.subtree_control", |_| line("")),
    Entry::writable("cgroup.threads", 0o644, threads, join_thread),
    limit("cgroup.type", |_| line("domain")),
    limit("cpu.idle", zero).since("5.15"),
    limit("cpu.max", cpu_max),
    limit("cpu.max.burst", zero).since("5.14"),
    Entry::file("cpu.stat", 0o444, cpu_stat),
    limit("cpu.weight", |_| line(100)),
    limit("cpu.weight.nice", zero),
    limit("cpuset.cpus", |_| line("")),
    Entry::file("cpuset.cpus.effective", 0o444, cpus),
    limit("cpuset.cpus.partition", |_| line("member")),
    limit("cpuset.mems", |_| line("")),
    Entry::file("cpuset.mems.effective", 0o444, zero),
    Entry::file("memory.current", 0o444, |query| line(usage(query).memory)),
    Entry::file("memory.events", 0o444, memory_events),
    Entry::file("memory.events.local", 0o444, memory_events),
    limit("memory.high", unlimited),
    limit("memory.low", zero),
    limit("memory.max", |query| line(bound(usage(query).memory_limit))),
    limit("memory.min", zero),
    limit("memory.oom.group", zero),
    Entry::file("memory.peak", 0o444, |query| line(usage(query).memory_peak)).since("5.19"),
    Entry::file("memory.stat", 0o444, memory_stat),
    Entry::file("memory.swap.current", 0o444, zero),
    Entry::file("memory.swap.events", 0o444, |_| line("high 0\nmax 0\nfail 0")),
    limit("memory.swap.high", unlimited),
    limit("memory.swap.max", zero),
    Entry::file("pids.current", 0o444, |query| line(usage(query).tasks)),
    Entry::file("pids.events", 0o444, |query| line(format!("max {}", usage(query).tasks_refused))),
    limit("pids.max", |query| line(bound(usage(query).tasks_limit))),
    Entry::file("pids.peak", 0o444, tasks_peak).since("6.1"),
];

/// A file with a limit. As at the root of any cgroup namespace, the guest cannot write it.
const fn limit(name: &'static str, text: fn(&Query<'_>) -> Answer) -> Entry {
    Entry::writable(name, 0o644, text, |_, _| Err(Errno::EPERM.here()))
}

fn line(text: impl Display) -> Answer {
    Ok(format!("{text}\n").into_bytes())
}

fn zero(_: &Query<'_>) -> Answer {
    line(0)
}

fn unlimited(_: &Query<'_>) -> Answer {
    line("max")
}

fn bound(limit: Option<u64>) -> String {
    limit.map_or("max".to_owned(), |limit| limit.to_string())
}

fn usage(query: &Query<'_>) -> Usage {
    query.kernel.cgroup.usage(query.kernel)
}

fn events(query: &Query<'_>) -> Answer {
    line(format!("populated 1\nfrozen {}", u8::from(query.kernel.cgroup.pause.is_on())))
}

fn frozen(query: &Query<'_>) -> Answer {
    line(u8::from(query.kernel.cgroup.pause.is_on()))
}

fn numbers(mut numbers: Vec<i32>) -> Answer {
    numbers.sort_unstable();
    let text = numbers.iter().fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{number}");
        text
    });
    Ok(text.into_bytes())
}

fn processes(query: &Query<'_>) -> Answer {
    let table = query.kernel.processes.lock();
    let alive = table.processes().filter(|process| process.zombie.is_none());
    numbers(alive.map(|process| process.group.pid()).collect())
}

fn threads(query: &Query<'_>) -> Answer {
    let table = query.kernel.processes.lock();
    numbers(table.tasks().filter(|task| !task.has_ended()).map(|task| task.tid()).collect())
}

/// Parses the process ID written to `cgroup.procs`. All processes are in this group already.
fn mover(text: &[u8]) -> Result<i32, Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL.here())?;
    text.trim().parse().ok().filter(|&number: &i32| number >= 0).ok_or_else(|| Errno::EINVAL.here())
}

fn join_process(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    let number = mover(text)?;
    let known = number == 0 || query.kernel.processes.lock().task(number).is_some();
    if known { Ok(()) } else { Err(Errno::ESRCH.here()) }
}

fn join_thread(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    join_process(query, text)
}

fn cpu_max(query: &Query<'_>) -> Answer {
    match query.kernel.cgroup.cpu_quota() {
        Some(quota) => line(format!("{} {}", quota.quota, quota.period)),
        None => line("max 100000"),
    }
}

fn cpu_stat(query: &Query<'_>) -> Answer {
    let used = usage(query);
    let (user, system) = (used.cpu_user / MICRO, used.cpu_system / MICRO);
    line(format!(
        "usage_usec {}\nuser_usec {user}\nsystem_usec {system}\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0",
        user + system
    ))
}

fn cpus(query: &Query<'_>) -> Answer {
    let count = query.kernel.cpus;
    line(ranges(&CpuSet::first(count), count))
}

fn memory_events(query: &Query<'_>) -> Answer {
    let Usage { at_limit, out_of_memory, oom_kills, .. } = usage(query);
    line(format!("low 0\nhigh 0\nmax {at_limit}\noom {out_of_memory}\noom_kill {oom_kills}\noom_group_kill 0"))
}

fn memory_stat(query: &Query<'_>) -> Answer {
    let Usage { memory, cached, kernel, .. } = usage(query);
    let all = kernel.total();
    let KernelUsage { objects, slack, page_tables, stacks, sockets, files, .. } = kernel;
    let (kept, slab) = (objects + files, objects + files + slack);
    let inner = all - sockets;
    let anonymous = memory - cached - all;
    let spent = query.kernel.cgroup.task_usage(query.kernel);
    line(format!(
        "anon {anonymous}\nfile {cached}\nkernel {inner}\nkernel_stack {stacks}\npagetables {page_tables}\npercpu 0\n\
         sock {sockets}\nshmem 0\nfile_mapped 0\nfile_dirty 0\nfile_writeback 0\nswapcached 0\nanon_thp 0\ninactive_anon 0\n\
         active_anon {anonymous}\ninactive_file {cached}\nactive_file 0\nunevictable 0\nslab_reclaimable {slack}\n\
         slab_unreclaimable {kept}\nslab {slab}\npgfault {}\npgmajfault {}",
        spent.minor_faults + spent.major_faults,
        spent.major_faults
    ))
}

fn tasks_peak(query: &Query<'_>) -> Answer {
    line(query.kernel.cgroup.tasks_peak.load(Ordering::Relaxed).max(1))
}

/// Makes an instance. The options of mount(2) have no effect.
///
/// # Errors
/// `EINVAL` for an unknown option.
pub(super) fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    let known = ["", "nsdelegate", "memory_localevents", "memory_recursiveprot", "favordynmods"];
    if options.split(',').all(|option| known.contains(&option)) {
        Ok(PseudoFs::new(kernel, &CGROUP2))
    } else {
        Err(Errno::EINVAL.here())
    }
}
