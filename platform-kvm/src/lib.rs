//! Runs guest code in ring 3 of a virtual machine.
//!
//! A sandbox is one virtual machine. Its memory is guest memory and a range for page tables: a set of user tables per
//! guest address space, and a kernel half that all of them share. Ring 0 contains only the *stub*, a page of code whose
//! entry points exit to the sentry at once, so the sentry finds the guest's registers unchanged. Guest threads are host
//! threads that each run a vCPU. If there are more threads than vCPUs, they take turns.
//!
//! KVM hosts differ: `quirks` determines how by running small guests.

mod active_contexts;
mod answers;
mod context;
mod context_handle;
mod cpuid;
mod exits;
mod fpu;
mod guest_phys_window;
mod host_calls;
mod kick;
mod layout;
mod machine;
mod pool;
mod quirks;
mod segments;
mod space;
mod table_allocator;
mod tables;
mod vcpu;

use std::io;
use std::sync::Arc;

use amber_platform::host_call::HostCall;
use amber_platform::{AddressSpace, Context, GuestMemory, Platform, PlatformError};

use crate::context::KvmContext;
use crate::layout::ADDRESS_LIMIT;
use crate::machine::Machine;
use crate::pool::Pool;
use crate::space::Space;

pub use crate::host_calls::HOST_CALLS;
pub use crate::quirks::HostQuirks;

/// State shared by all spaces and contexts of one platform.
struct Shared {
    /// The virtual machine.
    machine: Arc<Machine>,
    /// Its vCPUs.
    pool: Pool,
}

impl Shared {
    /// Makes an empty address space.
    fn new_space(&self) -> Result<Space, PlatformError> {
        Space::new(&self.machine)
    }
}

/// The platform based on `/dev/kvm`.
pub struct KvmPlatform {
    /// The state that spaces and contexts share with it.
    shared: Arc<Shared>,
    /// Which of the two kinds of KVM the host has, and what differs.
    quirks: HostQuirks,
}

impl KvmPlatform {
    /// Makes the platform for guests whose memory is `memory`, and tests that it works.
    ///
    /// # Errors
    /// There is no KVM, access is denied, or it lacks something that the platform needs.
    pub fn new(memory: Arc<GuestMemory>) -> Result<Self, PlatformError> {
        Self::with_vcpus(memory, usize::MAX)
    }

    /// Like [`new`](Self::new), with a maximum number of vCPUs.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_vcpus(memory: Arc<GuestMemory>, max: usize) -> Result<Self, PlatformError> {
        kick::prepare()?;
        let machine = Arc::new(Machine::new(memory)?);
        let first = Space::new(&machine)?;
        let pool = Pool::new(&machine, max, first.root())?;
        let shared = Arc::new(Shared { machine, pool });
        let quirks = quirks::detect(&shared)?;
        Ok(KvmPlatform { shared, quirks })
    }

    /// How the KVM of this host behaves.
    pub fn quirks(&self) -> HostQuirks {
        self.quirks
    }
}

impl Platform for KvmPlatform {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn host_calls(&self) -> &'static [HostCall] {
        HOST_CALLS
    }

    fn address_limit(&self) -> u64 {
        ADDRESS_LIMIT
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(self.shared.new_space()?))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(KvmContext::new(self.shared.clone())))
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.machine.counters.list()
    }
}

/// Makes the [`PlatformError`] of an operation `what` of this platform.
fn platform_error(what: impl std::fmt::Display, source: impl Into<io::Error>) -> PlatformError {
    PlatformError { what: format!("kvm platform: {what}"), source: source.into() }
}
