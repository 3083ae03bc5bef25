//! Files of `/proc` on the kernel and the machine.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use amber_abi::errno::Errno;

use super::process::TICK;
use crate::fs::pseudo::{Pieces, Query};
use crate::kernel::Kernel;
use crate::task::Activity;

type Answer = Result<Vec<u8>, Errno>;

fn text(text: impl Into<String>) -> Answer {
    Ok(text.into().into_bytes())
}

/// A file that is always empty in a sandbox.
pub(super) fn nothing(_: &Query<'_>) -> Answer {
    Ok(Vec::new())
}

/// `/proc/kmsg`: the guest has no access to the kernel log.
pub(super) fn forbidden(_: &Query<'_>) -> Answer {
    Err(Errno::EPERM.here())
}

pub(super) fn cmdline(_: &Query<'_>) -> Answer {
    text("\n")
}

pub(super) fn version(query: &Query<'_>) -> Answer {
    let profile = &query.kernel.profile;
    text(format!("Linux version {} (amber@amber) (rustc) {}\n", profile.release_text(), profile.version_text()))
}

pub(super) fn filesystems(query: &Query<'_>) -> Answer {
    text(query.kernel.fs.registry.file_systems().fold(String::new(), |text, t| text + "nodev\t" + t.name + "\n"))
}

pub(super) fn devices(query: &Query<'_>) -> Answer {
    let mut all = String::from("Character devices:\n");
    let mut last = None;
    for driver in query.kernel.fs.registry.drivers() {
        if last != Some((driver.major, driver.name)) {
            let _ = writeln!(all, "{:3} {}", driver.major, driver.name);
        }
        last = Some((driver.major, driver.name));
    }
    all.push_str("\nBlock devices:\n");
    text(all)
}

pub(super) fn partitions(_: &Query<'_>) -> Answer {
    text("major minor  #blocks  name\n\n")
}

pub(super) fn swaps(_: &Query<'_>) -> Answer {
    text("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
}

pub(super) fn interrupts(query: &Query<'_>) -> Answer {
    let columns = (0..query.kernel.cpus).fold(String::new(), |all, cpu| all + &format!("{:<11}", format!("CPU{cpu}")));
    text(format!("           {columns}\n"))
}

pub(super) fn uptime(query: &Query<'_>) -> Answer {
    let up = query.kernel.time.started.elapsed();
    let used = query.kernel.cgroup.task_usage(query.kernel);
    let all = up.as_nanos() as u64 * query.kernel.cpus as u64;
    let idle = all.saturating_sub(used.user + used.system) / TICK;
    text(format!("{}.{:02} {}.{:02}\n", up.as_secs(), up.subsec_millis() / 10, idle / 100, idle % 100))
}

/// The number of runnable tasks, the number of all tasks, and the last PID.
fn counts(kernel: &Kernel) -> (usize, usize, i32) {
    let table = kernel.processes.lock();
    let running =
        table.tasks().filter(|t| matches!(t.activity(), Activity::Guest | Activity::Kernel) && !t.has_ended());
    (running.count(), table.task_count(), table.last_pid())
}

/// Averages are not kept; the present number of runnable tasks is shown for all three.
pub(super) fn loadavg(query: &Query<'_>) -> Answer {
    let (running, all, last) = counts(query.kernel);
    text(format!("{running}.00 {running}.00 {running}.00 {running}/{all} {last}\n"))
}

pub(super) fn stat(query: &Query<'_>) -> Answer {
    let kernel = query.kernel;
    let used = kernel.cgroup.task_usage(kernel);
    let cpus = kernel.cpus as u64;
    let up = kernel.time.started.elapsed().as_nanos() as u64;
    let (running, _, last) = counts(kernel);
    let line = |share: u64| {
        let (user, system) = (used.user / share, used.system / share);
        let idle = (up * cpus / share).saturating_sub(user + system);
        format!("{} 0 {} {} 0 0 0 0 0 0\n", user / TICK, system / TICK, idle / TICK)
    };
    let mut all = format!("cpu  {}", line(1));
    for cpu in 0..cpus {
        let _ = write!(all, "cpu{cpu} {}", line(cpus));
    }
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    let boot = now.saturating_sub(kernel.time.started.elapsed()).as_secs();
    let switches = used.waits + u64::from(last.unsigned_abs());
    let _ = writeln!(all, "intr 0\nctxt {switches}\nbtime {boot}\nprocesses {last}");
    let _ = writeln!(all, "procs_running {}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0", running.max(1));
    text(all)
}

/// Memory in kB: total, used, and used for cached files.
struct Memory {
    total: u64,
    used: u64,
    cached: u64,
}

/// The memory that the sandbox's limit leaves, so that programs see what they can use.
fn memory(query: &Query<'_>) -> Memory {
    let total = query.kernel.cgroup.memory_shown(query.kernel) / 1024;
    let usage = query.kernel.cgroup.usage(query.kernel);
    let used = (usage.memory / 1024).min(total);
    Memory { total, used, cached: (usage.cached / 1024).min(used) }
}

pub(super) fn meminfo(query: &Query<'_>) -> Answer {
    let Memory { total, used, cached } = memory(query);
    let (free, anonymous) = (total - used, used - cached);
    let mut all = String::new();
    for (name, kb) in [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free + cached),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", 0),
        ("Active", anonymous),
        ("Inactive", cached),
        ("Active(anon)", anonymous),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", cached),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", anonymous),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", query.kernel.tunables.commit_limit(total * 1024) / 1024),
        ("Committed_AS", anonymous),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("AnonHugePages", 0),
        ("ShmemHugePages", 0),
        ("FileHugePages", 0),
    ] {
        let _ = writeln!(all, "{:<16}{kb:8} kB", format!("{name}:"));
    }
    all.push_str(
        "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n",
    );
    all.push_str("Hugepagesize:       2048 kB\nHugetlb:               0 kB\n");
    text(all)
}

/// The counters that programs use. Only pages are counted.
pub(super) fn vmstat(query: &Query<'_>) -> Answer {
    let Memory { total, used: taken, cached } = memory(query);
    let (free, anonymous, cached) = ((total - taken) / 4, (taken - cached) / 4, cached / 4);
    let used = query.kernel.cgroup.task_usage(query.kernel);
    let faults = used.minor_faults + used.major_faults;
    text(format!(
        "nr_free_pages {free}\nnr_inactive_anon 0\nnr_active_anon {anonymous}\nnr_inactive_file {cached}\n\
         nr_active_file 0\nnr_anon_pages {anonymous}\nnr_mapped 0\nnr_file_pages {cached}\nnr_dirty 0\nnr_writeback 0\nnr_shmem 0\npgpgin 0\n\
         pgpgout 0\npswpin 0\npswpout 0\npgfault {faults}\npgmajfault {}\noom_kill {}\n",
        used.major_faults,
        query.kernel.cgroup.usage(query.kernel).oom_kills,
    ))
}

pub(super) fn zoneinfo(query: &Query<'_>) -> Answer {
    let Memory { total, used, .. } = memory(query);
    let (limit, free) = (total / 4, (total - used) / 4);
    text(format!(
        "Node 0, zone   Normal\n  pages free     {free}\n        boost    0\n        min      0\n        low      0\n        \
         high     0\n        spanned  {limit}\n        present  {limit}\n        managed  {limit}\n"
    ))
}

pub(super) fn cpuinfo(query: &Query<'_>) -> Answer {
    let host = amber_host::processor::description();
    let mut all = String::new();
    for cpu in 0..query.kernel.cpus {
        let _ = writeln!(all, "processor\t: {cpu}");
        let _ = writeln!(all, "vendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}", host.vendor, host.family, host.model);
        let _ = writeln!(all, "model name\t: {}\nstepping\t: {}", host.name, host.stepping);
        let _ = writeln!(all, "cpu MHz\t\t: {}\ncache size\t: {} KB", host.megahertz, host.cache_kilobytes);
        let _ =
            writeln!(all, "physical id\t: 0\nsiblings\t: {0}\ncore id\t\t: {cpu}\ncpu cores\t: {0}", query.kernel.cpus);
        let _ = writeln!(all, "apicid\t\t: {cpu}\ninitial apicid\t: {cpu}\nfpu\t\t: yes\nfpu_exception\t: yes");
        let _ = writeln!(all, "cpuid level\t: {}\nwp\t\t: yes\nflags\t\t: {}\nbugs\t\t:", host.level, host.flags);
        let _ = writeln!(all, "bogomips\t: {}\nclflush size\t: 64\ncache_alignment\t: 64", host.bogomips);
        let _ = writeln!(all, "address sizes\t: 46 bits physical, 48 bits virtual\npower management:\n");
    }
    text(all)
}

/// The number of locks listed with one acquisition of the table's lock.
const LOCKS_AT_ONCE: usize = 128;

pub(super) fn locks(_: &Query<'_>) -> Result<Pieces, Errno> {
    let (mut last, mut count) = (None, 0);
    Ok(Box::new(move |query, text| {
        let mut some = query.kernel.vfs.locks.listed(None, last.as_ref(), LOCKS_AT_ONCE);
        for lock in &some {
            count += 1;
            text.extend_from_slice(format!("{count}: {lock}\n").as_bytes());
        }
        let Some(lock) = some.pop() else { return Ok(false) };
        last = Some(lock);
        Ok(true)
    }))
}
