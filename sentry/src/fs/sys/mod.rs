//! `/sys`: the files of sysfs(5) on the sandbox's machine.

mod processors;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::SYSFS_MAGIC;

use self::processors::{CPU, Cpus, NODE};
use crate::fs::pseudo::{Entry, Kind, PseudoFs, Query};
use crate::kernel::Kernel;
use crate::vfs::FileSystem;

static SYSFS: Kind = Kind {
    name: "sysfs",
    magic: SYSFS_MAGIC,
    root: Entry::directory("", ROOT),
    is_volatile: true,
    new_names: Errno::EPERM,
    block_size: 4096,
    file_size: 4096,
};

const ROOT: &[Entry] = &[
    directory("block", &[]),
    directory("bus", &[directory("cpu", &[]), directory("node", &[])]),
    directory("class", CLASSES).extended(|r| r.classes),
    directory("dev", &[directory("block", &[]), directory("char", &[])]),
    directory("devices", DEVICES),
    directory("firmware", &[]),
    directory("fs", &[directory("cgroup", &[])]),
    directory("kernel", KERNEL),
    directory("module", &[]),
    directory("power", &[]),
];

const CLASSES: &[Entry] =
    &[directory("block", &[]), directory("mem", &[]), directory("misc", &[]), directory("tty", &[])];

const DEVICES: &[Entry] = &[directory("system", SYSTEM), directory("virtual", &[]).extended(|r| r.virtual_devices)];
const SYSTEM: &[Entry] = &[Entry::listing("cpu", 0o755, CPU, &Cpus), directory("node", NODE)];

const KERNEL: &[Entry] = &[
    Entry::file("address_bits", 0o444, |_| line("64")).since("6.3"),
    Entry::file("cpu_byteorder", 0o444, |_| line("little")).since("6.2"),
    directory("debug", &[]),
    directory("mm", MM),
    Entry::file("profiling", 0o444, |_| line("0")),
    directory("security", &[]),
    directory("tracing", &[]),
];

const MM: &[Entry] = &[
    directory("hugepages", &[directory("hugepages-2048kB", HUGE)]),
    directory("ksm", &[Entry::file("run", 0o444, |_| line("0"))]),
    directory("transparent_hugepage", TRANSPARENT),
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

/// A directory below the root of sysfs.
pub(crate) const fn directory(name: &'static str, entries: &'static [Entry]) -> Entry {
    Entry { permissions: 0o755, ..Entry::directory(name, entries) }
}

/// The content of an attribute: one line.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<Vec<u8>, Errno> {
    Ok(format!("{text}\n").into_bytes())
}

/// The number of CPUs.
fn cpus(query: &Query<'_>) -> usize {
    query.kernel.cpus
}

/// Makes an instance, which has no options.
///
/// # Errors
/// `EINVAL` for any option.
pub(crate) fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    if !options.is_empty() {
        return Err(Errno::EINVAL.here());
    }
    Ok(PseudoFs::new(kernel, &SYSFS))
}
