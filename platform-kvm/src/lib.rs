//! Runs guest code in ring 3 of a virtual machine.
//!
//! A sandbox is one machine: its memory is guest memory and a stretch for page tables, with one tree of tables for each
//! guest address space and a kernel half that all share. There, in ring 0, is nothing but the *stub*: a page of code whose
//! entries leave the machine at once, so that the sentry finds the guest's registers as they were. Guest threads are host
//! threads that run a virtual processor each; where there are more threads than processors, they take turns.
//!
//! Not every KVM is the same: `behaviour` has what differs, and finds out by trying.

mod active_contexts;
mod answers;
mod context;
mod context_handle;
mod cpuid;
mod exits;
mod fpu;
mod guest_phys_window;
mod handover;
mod kick;
mod layout;
mod machine;
mod mailbox;
mod pace;
mod pool;
mod quirks;
mod runner;
mod space;
mod table_allocator;
mod tables;
mod vcpu;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amber_platform::{AddressSpace, Context, GuestMemory, Platform, PlatformError};

use crate::context::KvmContext;
use crate::machine::Machine;
use crate::pool::Pool;
use crate::runner::Runners;
use crate::space::Space;

pub use crate::quirks::HostQuirks;

/// What all spaces and contexts of one platform share.
struct Shared {
    machine: Arc<Machine>,
    pool: Pool,
    runners: Runners,
    /// Whether calls are handed over without regard to what it costs.
    always_hands_over: bool,
    /// How many contexts are in an address space.
    attached_contexts: AtomicUsize,
    /// How many run guest code, or are about to.
    running: AtomicUsize,
}

impl Shared {
    /// Whether the host has a processor left for the runner of a context beside those of all that run guest code.
    fn has_spare_cpu(&self) -> bool {
        self.always_hands_over || self.running.load(Ordering::Relaxed) < self.runners.cpus()
    }

    fn new_space(&self) -> Result<Space, PlatformError> {
        Space::new(&self.machine)
    }
}

/// The platform that needs `/dev/kvm`.
pub struct KvmPlatform {
    shared: Arc<Shared>,
    quirks: HostQuirks,
}

impl KvmPlatform {
    /// Makes the platform for guests whose memory is `memory`, and tries it out.
    ///
    /// # Errors
    /// There is no KVM, it is forbidden, or it does not do what the platform needs.
    pub fn new(memory: Arc<GuestMemory>) -> Result<Self, PlatformError> {
        Self::make(memory, usize::MAX, false)
    }

    /// Like [`new`](Self::new), but where calls can be handed over without an exit, they all are, even if that takes longer.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn handing_over(memory: Arc<GuestMemory>) -> Result<Self, PlatformError> {
        Self::make(memory, usize::MAX, true)
    }

    /// Like [`new`](Self::new), with at most so many virtual processors.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_vcpus(memory: Arc<GuestMemory>, max: usize) -> Result<Self, PlatformError> {
        Self::make(memory, max, false)
    }

    fn make(memory: Arc<GuestMemory>, max: usize, always_hands_over: bool) -> Result<Self, PlatformError> {
        kick::prepare()?;
        let machine = Arc::new(Machine::new(memory)?);
        let first = Space::new(&machine)?;
        let pool = Pool::new(&machine, max, first.root())?;
        let runners = Runners::new(always_hands_over);
        let shared = Arc::new(Shared {
            machine,
            pool,
            runners,
            always_hands_over,
            attached_contexts: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
        });
        let quirks = quirks::detect(&shared)?;
        Ok(KvmPlatform { shared, quirks })
    }

    /// How this host's KVM behaves.
    pub fn quirks(&self) -> HostQuirks {
        self.quirks
    }
}

impl Platform for KvmPlatform {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn address_limit(&self) -> u64 {
        self.shared.machine.address_limit()
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

/// A [`PlatformError`] of this platform.
fn platform_error(what: impl std::fmt::Display, source: impl Into<io::Error>) -> PlatformError {
    PlatformError { what: format!("kvm platform: {what}"), source: source.into() }
}
