//! The kernel object, which has the state of a sandbox.

use std::collections::HashSet;
use std::sync::Arc;

use amber_platform::Platform;

use crate::cgroup::ControlGroup;
use crate::fs::FileSystems;
use crate::futex::FutexTable;
use crate::id_map::IdMaps;
use crate::ipc::Ipc;
use crate::mm::Memory;
use crate::net::Network;
use crate::profile::KernelProfile;
use crate::sync::Mutex;
use crate::syscalls::{CallTable, Tracer};
use crate::task::{Filter, ProcessTable, SandboxExit, ThreadPool};
use crate::time::Timekeeping;
use crate::tty::Terminals;
use crate::tunables::Tunables;
use crate::users::Users;
use crate::vfs::{FsContext, Vfs};

/// The kernel of one sandbox.
pub(crate) struct Kernel {
    /// State shared by all file systems. It is the first field since the compiler derives whether a kernel is `Send`
    /// and `Sync` field by field, and most types lead here.
    pub vfs: Arc<Vfs>,
    /// The file systems, and the kinds of files outside of them.
    pub fs: FileSystems,
    /// Guest memory.
    pub mm: Memory,
    /// Clocks and timers.
    pub time: Timekeeping,
    /// Terminals from outside.
    pub tty: Terminals,
    /// System V memory, semaphores and messages.
    pub ipc: Ipc,
    /// The network.
    pub network: Network,
    /// The Linux release.
    pub profile: KernelProfile,
    /// The platform that runs guest code.
    pub platform: Arc<dyn Platform>,
    /// The system calls of the release.
    pub calls: CallTable,
    /// Traces system calls, if requested.
    pub tracer: Option<Arc<Tracer>>,
    /// Tasks and processes.
    pub processes: Mutex<ProcessTable>,
    /// Per-user counts.
    pub users: Users,
    /// The user and group IDs of the user namespace.
    pub id_maps: IdMaps,
    /// Number of CPUs that the guest sees.
    pub cpus: usize,
    /// The host and domain names of uname(2).
    pub names: Mutex<HostNames>,
    /// Host threads that serve tasks.
    pub threads: Arc<ThreadPool>,
    /// The filter for processes started from outside.
    pub seccomp: Option<Arc<Filter>>,
    /// The control group.
    pub cgroup: ControlGroup,
    /// The end of the sandbox.
    pub end: SandboxExit,
    /// Numbers of refused calls that were logged already.
    pub refused: Mutex<HashSet<u32>>,
    /// The values in `/proc/sys`.
    pub tunables: Arc<Tunables>,
    /// The waiters of futexes.
    pub futexes: FutexTable,
    /// The root and working directory of ended tasks: a zombie keeps neither directories nor mounts in use.
    pub nowhere: Arc<FsContext>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Idle host threads must not outlive the kernel.
        self.threads.dismiss();
        self.time.timers.end();
    }
}

/// The names set by sethostname(2) and setdomainname(2), at most 64 bytes each.
#[derive(Clone, Debug)]
pub(crate) struct HostNames {
    /// The host name.
    pub host: Vec<u8>,
    /// The NIS domain.
    pub domain: Vec<u8>,
}

impl HostNames {
    /// Names for a host, with a domain if given.
    pub(crate) fn new(host: &str, domain: Option<&str>) -> Self {
        let name = |text: &str| text.bytes().take(64).collect();
        HostNames { host: name(host), domain: name(domain.unwrap_or("(none)")) }
    }
}
