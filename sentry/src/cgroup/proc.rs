//! Control groups in `/proc`.

use amber_abi::errno::Errno;

use crate::fs::pseudo::{Entry, Query};

/// `/proc/cgroups`.
pub(super) const ENTRIES: &[Entry] = &[Entry::file("cgroups", 0o444, controllers)];

/// The control group and the CPU set of a process.
pub(super) const OF_PROCESS: &[Entry] = &[Entry::file("cgroup", 0o444, group), Entry::file("cpuset", 0o444, cpuset)];

fn controllers(_: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let names = ["cpuset", "cpu", "cpuacct", "memory", "pids"];
    let head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n".to_owned();
    Ok(names.iter().fold(head, |all, name| all + name + "\t0\t1\t1\n").into_bytes())
}

fn group(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    query.task()?;
    Ok(b"0::/\n".to_vec())
}

fn cpuset(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    query.task()?;
    Ok(b"/\n".to_vec())
}
