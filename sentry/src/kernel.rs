//! What there is once in a sandbox.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use amber_abi::errno::Errno;
use amber_platform::{GuestMemory, Platform};

use crate::cgroup::ControlGroup;
use crate::fs::Registry;
use crate::fs::pipe::Pipes;
use crate::futex::FutexTable;
use crate::ipc::Ipc;
use crate::loader::Vdso;
use crate::net::Network;
use crate::profile::KernelProfile;
use crate::sync::{Gate, Inside, Mutex};
use crate::syscalls::{CallTable, Tracer};
use crate::task::{Filter, ProcessTable, SandboxEnd, Users, Workers};
use crate::time::TimerService;
use crate::tty::Console;
use crate::tunables::Tunables;
use crate::vfs::{FsContext, Mount, Vfs};

/// The kernel of one sandbox.
pub struct Kernel {
    /// What all files share, whatever the file system. It is the first of the fields: whether a kernel can be shared by
    /// threads is asked of all types that it holds, and most of the others lead here.
    pub vfs: Arc<Vfs>,
    /// Which Linux it is.
    pub profile: KernelProfile,
    /// What runs the guest's code.
    pub platform: Arc<dyn Platform>,
    /// The frames of all guests.
    pub memory: Arc<GuestMemory>,
    /// The system calls of its release.
    pub calls: CallTable,
    /// Prints system calls, if asked to.
    pub tracer: Option<Arc<Tracer>>,
    /// Tasks and processes.
    pub processes: Mutex<ProcessTable>,
    /// Makers of texts and lists that are made in one go.
    pub makers: Gate,
    /// What is counted for each user.
    pub users: Users,
    /// What the subsystems add to the file systems.
    pub registry: Registry,
    /// How many processors the guest sees.
    pub cpus: usize,
    /// What uname(2) says of the machine and its domain.
    pub names: Mutex<HostNames>,
    /// When the sandbox was started.
    pub started: Instant,
    /// Host threads that serve tasks.
    pub workers: Arc<Workers>,
    /// What processes that come from outside may call.
    pub seccomp: Option<Arc<Filter>>,
    /// What the processes may use together, and do.
    pub cgroup: ControlGroup,
    /// How the sandbox ends.
    pub end: SandboxEnd,
    /// Numbers of calls that were refused, and logged, already.
    pub refused: Mutex<HashSet<u32>>,
    /// The numbers that `/proc/sys` sets.
    pub tunables: Arc<Tunables>,
    /// What waits for timers.
    pub timers: Arc<TimerService>,
    /// What guests read clocks by.
    pub vdso: Vdso,
    /// Who waits for which futex.
    pub futexes: FutexTable,
    /// System V memory, semaphores and messages.
    pub ipc: Ipc,
    /// Requests of asynchronous I/O that all contexts together can hold.
    pub aio_requests: Arc<AtomicU64>,
    /// The sockets' names.
    pub network: Network,
    /// How many eventfds were made.
    pub eventfds: AtomicU32,
    /// All pipes and fifos.
    pub pipes: Arc<Pipes>,
    /// The POSIX message queues.
    pub mqueues: Arc<Mount>,
    /// Where the files of namespaces live.
    pub nsfs: Arc<Mount>,
    /// Where memfds live.
    pub memfds: Arc<Mount>,
    /// Where tasks are that have ended: a zombie keeps neither directories nor mounts in use.
    pub nowhere: Arc<FsContext>,
    /// What `kernel.random.boot_id` says, once somebody asked.
    pub boot_id: OnceLock<String>,
    /// The sandbox's own terminal, if it has one.
    pub console: OnceLock<Arc<Console>>,
    /// The host's terminal, where it controls the first session in the place of a console.
    pub host_terminal: Option<OwnedFd>,
}

/// So many texts and lists are made in one go at a time where memory is limited.
pub const MOST_MAKERS: usize = 2;

impl Kernel {
    /// Admits a caller that makes a text or a list in one go, before it is charged. Where memory is limited few may do so
    /// at a time.
    ///
    /// # Errors
    /// `EINTR` if the caller is killed while it waits.
    pub fn admit_maker(&self) -> Result<Option<Inside<'_>>, Errno> {
        self.memory.is_limited().then(|| self.makers.enter()).transpose()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Host threads that wait for work outlive no kernel.
        self.workers.dismiss();
        self.timers.end();
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
