//! What there is once in a sandbox.

use std::collections::HashSet;
use std::sync::Arc;

use amber_platform::Platform;

use crate::cgroup::ControlGroup;
use crate::fs::FileSystems;
use crate::futex::FutexTable;
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
pub struct Kernel {
    /// What all files share, whatever the file system. It is the first of the fields: whether a kernel can be shared by
    /// threads is asked of all types that it holds, and most of the others lead here.
    pub vfs: Arc<Vfs>,
    /// The file systems, and the kinds of files that lie in none.
    pub fs: FileSystems,
    /// The guests' memory.
    pub mm: Memory,
    /// Clocks and timers.
    pub time: Timekeeping,
    /// Terminals from outside.
    pub tty: Terminals,
    /// System V memory, semaphores and messages.
    pub ipc: Ipc,
    /// The sockets' names.
    pub network: Network,
    /// Which Linux it is.
    pub profile: KernelProfile,
    /// What runs the guest's code.
    pub platform: Arc<dyn Platform>,
    /// The system calls of its release.
    pub calls: CallTable,
    /// Prints system calls, if asked to.
    pub tracer: Option<Arc<Tracer>>,
    /// Tasks and processes.
    pub processes: Mutex<ProcessTable>,
    /// What is counted for each user.
    pub users: Users,
    /// How many processors the guest sees.
    pub cpus: usize,
    /// What uname(2) says of the machine and its domain.
    pub names: Mutex<HostNames>,
    /// Host threads that serve tasks.
    pub threads: Arc<ThreadPool>,
    /// What processes that come from outside may call.
    pub seccomp: Option<Arc<Filter>>,
    /// What the processes may use together, and do.
    pub cgroup: ControlGroup,
    /// How the sandbox ends.
    pub end: SandboxExit,
    /// Numbers of calls that were refused, and logged, already.
    pub refused: Mutex<HashSet<u32>>,
    /// The numbers that `/proc/sys` sets.
    pub tunables: Arc<Tunables>,
    /// Who waits for which futex.
    pub futexes: FutexTable,
    /// Where tasks are that have ended: a zombie keeps neither directories nor mounts in use.
    pub nowhere: Arc<FsContext>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Host threads that wait for work outlive no kernel.
        self.threads.dismiss();
        self.time.timers.end();
    }
}

/// The names sethostname(2) and setdomainname(2) set, at most 64 bytes each.
#[derive(Clone, Debug)]
pub struct HostNames {
    /// What `uname -n` prints.
    pub host: Vec<u8>,
    /// The NIS domain.
    pub domain: Vec<u8>,
}

impl HostNames {
    /// A host of this name, in this domain if any.
    pub fn new(host: &str, domain: Option<&str>) -> Self {
        let name = |text: &str| text.bytes().take(64).collect();
        HostNames { host: name(host), domain: name(domain.unwrap_or("(none)")) }
    }
}
