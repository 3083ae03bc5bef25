//! The visible part of the host kernel's file systems: files that are the same for all readers, and of these only those
//! that every user of the host may read.

use amber_abi::errno::Errno;
use amber_abi::stat::{S_IFDIR, S_IFMT};
use amber_host::file_systems::{Standing, is_system, standing_of, tells_of_machine};
use amber_host::fs::HostStat;

/// Files and directories of `/proc` that describe the machine and are the same for all readers. Excluded are `self` and
/// `thread-self`, which are the reader's, and `keys`, `sysvipc` and `kallsyms`, which depend on the reader.
const OF_SYSTEM: &[&str] = &[
    "acpi",
    "asound",
    "buddyinfo",
    "bus",
    "cgroups",
    "cmdline",
    "consoles",
    "cpuinfo",
    "crypto",
    "devices",
    "diskstats",
    "dma",
    "driver",
    "execdomains",
    "fb",
    "filesystems",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "loadavg",
    "locks",
    "mdstat",
    "meminfo",
    "misc",
    "modules",
    "mounts",
    "net",
    "partitions",
    "pressure",
    "schedstat",
    "scsi",
    "softirqs",
    "spl",
    "stat",
    "swaps",
    "sys",
    "tty",
    "uptime",
    "version",
    "vmstat",
    "zoneinfo",
];

/// Files of a process that every user may read: no memory, no environment, and no links to files or namespaces.
const OF_PROCESS: &[&str] = &[
    "cgroup",
    "cmdline",
    "comm",
    "cpuset",
    "limits",
    "loginuid",
    "mountinfo",
    "mounts",
    "net",
    "oom_score",
    "oom_score_adj",
    "schedstat",
    "sessionid",
    "stat",
    "statm",
    "status",
];

/// The kind of tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The host's `/proc`, limited to the machine and its processes.
    Proc,
    /// The host's `/sys` or control groups, limited to what all users may read.
    System,
}

impl View {
    /// The view of a tree with this root, on a file system with this magic number; none if it is not shown.
    pub(super) fn of(magic: i64, root: &HostStat) -> Option<View> {
        match tells_of_machine(magic, root.number) {
            true if is_system(magic) => Some(View::System),
            true => Some(View::Proc),
            false => None,
        }
    }

    /// Whether the tree includes a file system with this magic number that is mounted in it.
    pub(super) fn leads_into(self, magic: i64) -> bool {
        standing_of(magic) == Standing::Ordinary || self == View::System && is_system(magic)
    }
}

/// Checks that the mode of a regular file or directory lets all users read it. The host has also checked access of an
/// unprivileged user; where Amber cannot switch to one, this is the only check.
///
/// # Errors
/// `EACCES` if not all users may read it.
pub(super) fn check_readable(stat: &HostStat) -> Result<(), Errno> {
    let needed = if stat.mode & S_IFMT == S_IFDIR { 0o005 } else { 0o004 };
    if stat.mode & needed == needed { Ok(()) } else { Err(Errno::EACCES.here()) }
}

/// A file of `/proc` that restricts what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The root directory.
    Root,
    /// The directory of a process.
    Process,
    /// A link through `self`, replaced by the same link of the host's first process.
    Link(&'static str),
}

impl Level {
    /// The level of an entry of the root; none where everything is shown.
    pub(super) fn below_root(name: &[u8]) -> Option<Level> {
        match name {
            b"net" => Some(Level::Link("1/net")),
            b"mounts" => Some(Level::Link("1/mounts")),
            _ => is_process(name).then_some(Level::Process),
        }
    }

    /// Whether an entry is shown at this level.
    pub(super) fn shows(self, name: &[u8]) -> bool {
        let among = |names: &[&str]| names.iter().any(|shown| shown.as_bytes() == name);
        match self {
            Level::Root => is_process(name) || among(OF_SYSTEM),
            Level::Process => among(OF_PROCESS),
            Level::Link(_) => false,
        }
    }

    /// The target of a link.
    ///
    /// # Errors
    /// `EACCES` for a link to something that is not shown.
    pub(super) fn link(self) -> Result<Vec<u8>, Errno> {
        match self {
            Level::Link(text) => Ok(text.into()),
            Level::Root | Level::Process => Err(Errno::EACCES.here()),
        }
    }
}

fn is_process(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_proc_is_the_readers() {
        for name in [&b"self"[..], b"thread-self", b"kcore", b"kmsg", b"keys", b"sysrq-trigger", b"", b"1x"] {
            assert!(!Level::Root.shows(name), "{name:?}");
        }
        for name in
            ["mem", "maps", "smaps", "environ", "fd", "fdinfo", "root", "cwd", "exe", "ns", "task", "auxv", "pagemap"]
        {
            assert!(!Level::Process.shows(name.as_bytes()), "{name}");
        }
        assert!(Level::Root.shows(b"meminfo") && Level::Root.shows(b"1") && Level::Process.shows(b"stat"));
        assert_eq!(Level::below_root(b"17"), Some(Level::Process));
        assert_eq!(Level::below_root(b"net").unwrap().link().unwrap(), b"1/net");
        assert_eq!(Level::below_root(b"sys"), None);
    }
}
