//! Runs guest code in traced host processes.
//!
//! Each guest address space is a *stub*: a host process that holds nothing but the guest's mappings and, above
//! [`layout::ADDRESS_LIMIT`](crate::layout), a page of code and a read-only page of commands. Guest threads are threads
//! of the stub, run under `PTRACE_SYSEMU`, so that no system call of theirs reaches the host; a seccomp filter catches the
//! one way around it, the vsyscall page. The sentry changes a stub's mappings by writing system calls into its command
//! page and letting one stopped thread of it work them off.
//!
//! All stubs are clones of one pristine *zygote*. They are children of one thread of the sentry, the *spawner*, and ask the
//! host to be killed when it dies; traced threads also die with their tracer. So no way of ending the sentry leaves any.
//!
//! The rest of the program must not wait for "any child": that would take stops away from the tracers.

mod context;
mod context_handle;
mod cpu_affinity;
mod filter;
mod fpu;
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

use amber_platform::{AddressSpace, Context, Counters, FpuFormat, GuestMemory, Platform, PlatformError};

use crate::context::TracedContext;

use crate::cpu_affinity::HostCpus;
use crate::space::Space;
use crate::stub_spawner::StubSpawner;

/// What all spaces and contexts of one platform share.
struct Shared {
    memory: Arc<GuestMemory>,
    commands: Arc<GuestMemory>,
    spawner: StubSpawner,
    fpu: FpuFormat,
    cpus: Arc<HostCpus>,
    counters: Counters,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.cpus.close();
    }
}

/// The platform that works everywhere: no device, no privilege, only `ptrace`.
pub struct PtracePlatform {
    shared: Arc<Shared>,
}

impl PtracePlatform {
    /// Makes the platform for guests whose memory is `memory`, and tries it out.
    ///
    /// The program must not change its user afterwards: it could no longer trace the stubs.
    ///
    /// # Errors
    /// The host forbids `ptrace`, or lacks something else the platform needs.
    pub fn new(memory: Arc<GuestMemory>) -> Result<Self, PlatformError> {
        let commands = GuestMemory::new(layout::COMMAND_BYTES * layout::MAX_SPACES)?;
        let (spawner, fpu) = StubSpawner::start(memory.clone(), commands.clone())?;
        let cpus = HostCpus::new().map_err(|e| platform_error("which processors there are", e))?;
        Ok(PtracePlatform {
            shared: Arc::new(Shared { memory, commands, spawner, fpu, cpus, counters: Counters::default() }),
        })
    }
}

impl Platform for PtracePlatform {
    fn name(&self) -> &'static str {
        "ptrace"
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

/// A [`PlatformError`] of this platform.
fn platform_error(what: impl std::fmt::Display, source: impl Into<io::Error>) -> PlatformError {
    PlatformError { what: format!("ptrace platform: {what}"), source: source.into() }
}
