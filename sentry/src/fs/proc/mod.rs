//! `/proc`: the files of proc(5).

mod descriptors;
pub(crate) mod parameters;
mod process;
mod reader;
mod system;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::PROC_SUPER_MAGIC;

use self::parameters::Parameters;
use crate::fs::pseudo::{Entry, Kind, PseudoFs, Query};
use crate::kernel::Kernel;
use crate::vfs::FileSystem;

pub(crate) use process::{command_line, mask, nsfs, process_of, ranges, written};
pub(crate) use reader::ProcReader;

static PROC: Kind = Kind {
    name: "proc",
    magic: PROC_SUPER_MAGIC,
    root: Entry::listing("", 0o555, ROOT, &process::Processes).extended(|r| r.proc),
    is_volatile: true,
    new_names: Errno::ENOENT,
    block_size: 1024,
    file_size: 0,
};

const ROOT: &[Entry] = &[
    Entry::directory("bus", &[]),
    Entry::file("cmdline", 0o444, system::cmdline),
    Entry::file("cpuinfo", 0o444, system::cpuinfo),
    Entry::file("devices", 0o444, system::devices),
    Entry::file("diskstats", 0o444, system::nothing),
    Entry::directory("driver", &[]),
    Entry::file("filesystems", 0o444, system::filesystems),
    Entry::directory("fs", &[]),
    Entry::file("interrupts", 0o444, system::interrupts),
    Entry::directory("irq", &[]),
    Entry::file("kmsg", 0o400, system::forbidden),
    Entry::file("loadavg", 0o444, system::loadavg),
    Entry::long("locks", 0o444, system::locks),
    Entry::file("meminfo", 0o444, system::meminfo),
    Entry::file("misc", 0o444, system::nothing),
    Entry::file("modules", 0o444, system::nothing),
    Entry::link("mounts", own_mounts),
    Entry::file("partitions", 0o444, system::partitions),
    Entry::link("self", own_process),
    Entry::file("stat", 0o444, system::stat),
    Entry::file("swaps", 0o444, system::swaps),
    Entry::listing("sys", 0o555, &[], &Parameters),
    Entry::link("thread-self", own_thread).since("3.17"),
    Entry::file("uptime", 0o444, system::uptime),
    Entry::file("version", 0o444, system::version),
    Entry::file("vmstat", 0o444, system::vmstat),
    Entry::file("zoneinfo", 0o444, system::zoneinfo),
];

fn own_process(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(query.reader.task.group().pid().to_string().into_bytes())
}

fn own_thread(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let task = &query.reader.task;
    Ok(format!("{}/task/{}", task.group().pid(), task.tid()).into_bytes())
}

fn own_mounts(_: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(b"self/mounts".to_vec())
}

/// Makes an instance; proc(5) lists the options.
///
/// # Errors
/// `EINVAL` for an unknown option.
pub(crate) fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    // Only the default is supported, with which no process is hidden.
    let known = |option: &str| option.is_empty() || option == "hidepid=0" || option == "hidepid=off";
    if !options.split(',').all(known) {
        return Err(Errno::EINVAL.here());
    }
    Ok(PseudoFs::new(kernel, &PROC))
}
