//! Runs guest code in traced host processes.
//!
//! Each guest address space is a *stub*: a host process that holds only the guest's mappings and, above
//! `layout::ADDRESS_LIMIT`, a page of code and the read-only command pages. A guest thread is a thread
//! of the stub that runs under `PTRACE_SYSEMU`, so none of its system calls reaches the host. The vsyscall page is not
//! covered by `PTRACE_SYSEMU`; a seccomp filter traps its calls. To change a stub's mappings, the sentry writes system
//! calls into the command pages and lets one stopped thread of the stub execute them.
//!
//! All stubs are clones of one pristine *zygote* and children of one thread of the sentry, the *spawner*. Their
//! parent-death signal is SIGKILL, and traced threads are also killed with their tracer (`PTRACE_O_EXITKILL`). So no
//! stub survives the sentry, however it ends.
//!
//! The rest of the program must not wait for "any child" (`waitpid(-1)`): it would consume stops that belong to the
//! tracers.

mod context;
mod context_handle;
mod cpu_affinity;
mod filter;
mod fpu;
mod host_calls;
mod image;
mod layout;
mod mappings;
mod space;
mod stub;
mod stub_spawner;
mod trace;
mod tracee;

use std::io;
use std::sync::Arc;

use amber_abi::host_call::HostCall;
use amber_platform::{AddressSpace, Context, Counters, FpuFormat, GuestMemory, Platform, PlatformError};

pub use crate::host_calls::HOST_CALLS;

use crate::context::TracedContext;

use crate::cpu_affinity::HostCpus;
use crate::space::Space;
use crate::stub_spawner::StubSpawner;

/// State shared by all spaces and contexts of one platform.
struct Shared {
    /// The memory of guests.
    memory: Arc<GuestMemory>,
    /// The pages through which stubs take commands.
    commands: Arc<GuestMemory>,
    /// The process that starts stubs.
    spawner: StubSpawner,
    /// The layout of the XSAVE area.
    fpu: FpuFormat,
    /// The host CPUs that tracers and stubs are bound to.
    cpus: Arc<HostCpus>,
    /// Counts of events, for the benchmark.
    counters: Counters,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.cpus.close();
    }
}

/// The platform without requirements: no device and no privilege, only `ptrace(2)`.
pub struct PtracePlatform {
    /// The state that spaces and contexts share with it.
    shared: Arc<Shared>,
}

impl PtracePlatform {
    /// Makes the platform for guests whose memory is `memory`, and tests that it works.
    ///
    /// The program must not change its user afterwards, because it could no longer trace the stubs.
    ///
    /// # Errors
    /// The host forbids `ptrace` or lacks something else that the platform needs.
    pub fn new(memory: Arc<GuestMemory>) -> Result<Self, PlatformError> {
        let commands = GuestMemory::new(layout::COMMAND_BYTES * layout::MAX_SPACES)?;
        let (spawner, fpu) = StubSpawner::start(memory.clone(), commands.clone())?;
        let cpus = HostCpus::new().map_err(|e| platform_error("sched_getaffinity", e))?;
        Ok(PtracePlatform {
            shared: Arc::new(Shared { memory, commands, spawner, fpu, cpus, counters: Counters::default() }),
        })
    }
}

impl Platform for PtracePlatform {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn host_calls(&self) -> &'static [HostCall] {
        HOST_CALLS
    }

    fn address_limit(&self) -> u64 {
        layout::ADDRESS_LIMIT
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(Space::new(self.shared.spawner.take_stub()?, &self.shared.memory)))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(TracedContext::new(self.shared.clone())))
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters.list()
    }
}

/// Makes the [`PlatformError`] of an operation `what` of this platform.
fn platform_error(what: impl std::fmt::Display, source: impl Into<io::Error>) -> PlatformError {
    PlatformError { what: format!("ptrace platform: {what}"), source: source.into() }
}
