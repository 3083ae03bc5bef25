//! `/sys/devices/system`: CPUs and memory nodes. The guest sees one package with a core for each CPU.

use std::sync::Arc;

use amber_abi::errno::Errno;

use super::{cpus, directory, line};
use crate::fs::proc::{mask, ranges};
use crate::fs::pseudo::{Entry, Listed, Listing, Query, Subject, number};
use crate::kernel::Kernel;
use crate::task::CpuSet;

type Answer = Result<Vec<u8>, Errno>;

pub(super) const CPU: &[Entry] = &[
    Entry::file("isolated", 0o444, |_| line("")),
    Entry::file("kernel_max", 0o444, |_| line("8191")),
    Entry::file("offline", 0o444, |_| line("")),
    Entry::file("online", 0o444, all),
    Entry::file("possible", 0o444, all),
    Entry::file("present", 0o444, all),
];

pub(super) const NODE: &[Entry] = &[
    Entry::file("has_cpu", 0o444, |_| line("0")),
    Entry::file("has_memory", 0o444, |_| line("0")),
    Entry::file("has_normal_memory", 0o444, |_| line("0")),
    directory("node0", NODE0),
    Entry::file("online", 0o444, |_| line("0")),
    Entry::file("possible", 0o444, |_| line("0")),
];

const NODE0: &[Entry] = &[
    Entry::file("cpulist", 0o444, all),
    Entry::file("cpumap", 0o444, all_mask),
    Entry::file("distance", 0o444, |_| line("10")),
    Entry::file("meminfo", 0o444, node_memory),
];

static PROCESSOR: Entry = directory(
    "",
    &[directory("node0", &[]), Entry::file("online", 0o444, |_| line("1")), directory("topology", TOPOLOGY)],
);

const TOPOLOGY: &[Entry] = &[
    Entry::file("core_cpus", 0o444, own_mask),
    Entry::file("core_cpus_list", 0o444, own),
    Entry::file("core_id", 0o444, own),
    Entry::file("core_siblings", 0o444, all_mask),
    Entry::file("core_siblings_list", 0o444, all),
    Entry::file("die_id", 0o444, |_| line("0")),
    Entry::file("package_cpus", 0o444, all_mask),
    Entry::file("package_cpus_list", 0o444, all),
    Entry::file("physical_package_id", 0o444, |_| line("0")),
    Entry::file("thread_siblings", 0o444, own_mask),
    Entry::file("thread_siblings_list", 0o444, own),
];

fn all(query: &Query<'_>) -> Answer {
    line(ranges(&CpuSet::first(cpus(query)), cpus(query)))
}

fn all_mask(query: &Query<'_>) -> Answer {
    line(mask(&CpuSet::first(cpus(query)), cpus(query)))
}

fn own(query: &Query<'_>) -> Answer {
    line(query.subject.index)
}

fn own_mask(query: &Query<'_>) -> Answer {
    let at = query.subject.index.unsigned_abs() as usize;
    let mut words = vec![0u64; cpus(query).div_ceil(64).max(1)];
    if let Some(word) = words.get_mut(at / 64) {
        *word = 1 << (at % 64);
    }
    line(mask(&CpuSet::from_words(words), cpus(query)))
}

fn node_memory(query: &Query<'_>) -> Answer {
    let group = &query.kernel.cgroup;
    let total = group.memory_shown(query.kernel) / 1024;
    let used = (group.usage(query.kernel).memory / 1024).min(total);
    let row = |name: &str, kb: u64| format!("Node 0 {:<15}{kb:8} kB\n", format!("{name}:"));
    Ok((row("MemTotal", total) + &row("MemFree", total - used) + &row("MemUsed", used)).into_bytes())
}

/// A directory for each CPU.
pub(super) struct Cpus;

impl Listing for Cpus {
    fn find(&self, kernel: &Arc<Kernel>, _: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let index = number(name.strip_prefix(b"cpu").ok_or_else(|| Errno::ENOENT.here())?)?;
        if index.unsigned_abs() as usize >= kernel.cpus {
            return Err(Errno::ENOENT.here());
        }
        Ok((&PROCESSOR, Subject { index, ..Subject::default() }))
    }

    fn list(&self, kernel: &Arc<Kernel>, _: &Subject) -> Result<Vec<Listed>, Errno> {
        let all = 0..kernel.cpus;
        Ok(all.map(|n| Listed { cookie: n as u64 + 1, name: format!("cpu{n}"), entry: &PROCESSOR }).collect())
    }
}
