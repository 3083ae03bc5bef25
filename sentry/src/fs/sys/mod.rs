//! `/sys`: what sysfs(5) tells of the sandbox's machine.

mod processors;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::SYSFS_MAGIC;

use self::processors::{CPU, Cpus, NODE};
use crate::fs::FileSystem;
use crate::fs::pseudo::{Entry, Kind, PseudoFs, Query};
use crate::kernel::Kernel;

static SYSFS: Kind =
    Kind { name: "sysfs", magic: SYSFS_MAGIC, root: Entry::directory("", ROOT), is_volatile: false, file_size: 4096 };

const ROOT: &[Entry] = &[
    Entry::directory("block", &[]),
    Entry::directory("bus", &[Entry::directory("cpu", &[]), Entry::directory("node", &[])]),
    Entry::directory("class", CLASSES),
    Entry::directory("dev", &[Entry::directory("block", &[]), Entry::directory("char", &[])]),
    Entry::directory("devices", DEVICES),
    Entry::directory("firmware", &[]),
    Entry::directory("fs", &[Entry::directory("cgroup", &[])]),
    Entry::directory("kernel", KERNEL),
    Entry::directory("module", &[]),
    Entry::directory("power", &[]),
];

const CLASSES: &[Entry] = &[
    Entry::directory("block", &[]),
    Entry::directory("mem", &[]),
    Entry::directory("misc", &[]),
    Entry::directory("net", &[]),
    Entry::directory("tty", &[]),
];

const DEVICES: &[Entry] = &[Entry::directory("system", SYSTEM), Entry::directory("virtual", &[])];
const SYSTEM: &[Entry] = &[Entry::listing("cpu", 0o555, CPU, &Cpus), Entry::directory("node", NODE)];

const KERNEL: &[Entry] = &[
    Entry::file("address_bits", 0o444, |_| line("64")).since("6.3"),
    Entry::file("cpu_byteorder", 0o444, |_| line("little")).since("6.2"),
    Entry::directory("debug", &[]),
    Entry::directory("mm", MM),
    Entry::file("profiling", 0o444, |_| line("0")),
    Entry::directory("security", &[]),
    Entry::directory("tracing", &[]),
];

const MM: &[Entry] = &[
    Entry::directory("hugepages", &[Entry::directory("hugepages-2048kB", HUGE)]),
    Entry::directory("ksm", &[Entry::file("run", 0o444, |_| line("0"))]),
    Entry::directory("transparent_hugepage", TRANSPARENT),
];

const HUGE: &[Entry] = &[
    Entry::file("free_hugepages", 0o444, |_| line("0")),
    Entry::file("nr_hugepages", 0o444, |_| line("0")),
    Entry::file("nr_overcommit_hugepages", 0o444, |_| line("0")),
    Entry::file("resv_hugepages", 0o444, |_| line("0")),
    Entry::file("surplus_hugepages", 0o444, |_| line("0")),
];

const TRANSPARENT: &[Entry] = &[
    Entry::file("defrag", 0o444, |_| line("always defer defer+madvise madvise [never]")),
    Entry::file("enabled", 0o444, |_| line("always madvise [never]")),
    Entry::file("hpage_pmd_size", 0o444, |_| line("2097152")),
    Entry::file("shmem_enabled", 0o444, |_| line("always within_size advise [never] deny force")),
    Entry::file("use_zero_page", 0o444, |_| line("0")),
];

fn line(text: impl std::fmt::Display) -> Result<Vec<u8>, Errno> {
    Ok(format!("{text}\n").into_bytes())
}

/// How many processors there are.
fn cpus(query: &Query<'_>) -> usize {
    query.kernel.cpus
}

/// Makes an instance; it has no options.
///
/// # Errors
/// `EINVAL` for any option.
pub fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    if !options.is_empty() {
        return Err(Errno::EINVAL);
    }
    Ok(PseudoFs::new(kernel, &SYSFS))
}
