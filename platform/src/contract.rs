//! The traits that a platform implements.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use amber_abi::host_call::HostCall;
use thiserror::Error;

use crate::breakpoints::Breakpoint;
use crate::memory::{FrameRange, Frames};
use crate::registers::Registers;

/// What a guest may do with a mapped page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Protection {
    /// Loads are allowed.
    pub read: bool,
    /// Stores are allowed.
    pub write: bool,
    /// Instruction fetches are allowed.
    pub execute: bool,
}

/// What an instruction was doing when it faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Why guest code stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The 64-bit `syscall` instruction (or a call of the vsyscall page; then `rip` is already the return address).
    /// Number and arguments are in the registers.
    Syscall,
    /// `int $0x80`, or a system call from a 32-bit code segment. The i386 number and arguments are in the registers.
    Syscall32,
    /// A page fault that the current mappings do not satisfy.
    PageFault {
        /// The address touched.
        address: u64,
        /// What the instruction was doing, as far as the platform knows. [`Access::Write`] and [`Access::Execute`] are certain;
        /// [`Access::Read`] of a page that is not mapped may be any access.
        access: Access,
    },
    /// Any other processor exception, as the signal that Linux sends for it.
    Exception {
        /// Signal number, such as SIGILL or SIGFPE.
        signal: i32,
        /// `si_code` of that signal.
        code: i32,
        /// `si_addr` of that signal.
        address: u64,
    },
    /// An [`Interrupter`] interrupted the context; the guest's state is unaffected.
    Interrupted,
}

/// The host failed to do what the platform needs. The sandbox cannot go on.
#[derive(Debug, Error)]
#[error("{what}: {source}")]
pub struct PlatformError {
    /// What failed and on what, for the operator, with the remedy where one is known.
    pub what: String,
    /// The host's error.
    #[source]
    pub source: io::Error,
}

/// The vector and floating-point state of a guest thread, in the `XSAVE` layout of the host's processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FpuState(pub Vec<u8>);

/// How many constant results [`Context::set_constant_results`] takes at most.
pub const MAX_CONSTANT_RESULTS: usize = 8;

/// Makes address spaces and contexts.
pub trait Platform: Send + Sync {
    /// The name users give to `--platform`.
    fn name(&self) -> &'static str;

    /// Which calls of the host's kernel it makes once guest code runs, beside those that any sandbox may make. The host
    /// refuses all others.
    fn host_calls(&self) -> &'static [HostCall];

    /// The guest's task size: the first address that a guest cannot map.
    fn address_limit(&self) -> u64;

    /// Makes an empty guest address space.
    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError>;

    /// Makes a context for the calling host thread, which alone may use it.
    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError>;

    /// Event counts since the start, by name: see [`Counters`](crate::Counters).
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// The mappings of one guest process (or of several that share memory).
///
/// Changes are batched. They take effect in order, before the host thread that made them next runs guest code in the space.
/// Guest code that other threads are running may see them later, but not after [`synchronize`](Self::synchronize) has returned.
/// All addresses and lengths are page aligned and below the address limit.
///
/// A platform may lose mappings when the host allows no more of them. The guest then faults, and the sentry maps the page
/// again.
pub trait AddressSpace: Send + Sync {
    /// Maps `frames` at `at` and replaces what was mapped there. The caller keeps the frames alive until they are unmapped.
    fn map(&self, at: u64, frames: FrameRange, protection: Protection);

    /// Hint: the guest is about to access all of `frames`, which are mapped in this space. The platform may establish the
    /// host's mappings for them in one batch.
    fn prefault_hint(&self, _frames: FrameRange) {}

    /// Removes all mappings in `range`. `released` is dropped as soon as no guest can reach those frames through a mapping that
    /// this or an earlier change removed. With an empty range it only releases.
    fn unmap(&self, range: Range<u64>, released: Vec<Frames>);

    /// [`unmap`](Self::unmap) of all mappings, which lie in `range`, of a space that no context will run in again. It is
    /// cheapest after [`Context::detach`] of each context.
    fn teardown(&self, range: Range<u64>, released: Vec<Frames>) {
        self.unmap(range, released);
    }

    /// Changes the protection of the mappings in `range`, which may have holes.
    fn protect(&self, range: Range<u64>, protection: Protection);

    /// Waits until no guest instruction can observe mappings from before the changes made so far (a TLB shootdown). It
    /// interrupts the contexts that are running in the space and returns at once if there are none. Frames that were released
    /// before are dropped then, whether or not the guest ever runs again.
    fn synchronize(&self);

    /// An estimate of the bytes of host memory that the space takes: page tables and, if it has one, a process. The platform
    /// charges them to guest memory ([`KernelPart::PageTables`](crate::KernelPart)). Shared tables count for each space here.
    fn host_bytes(&self) -> u64 {
        0
    }

    /// For a platform to downcast to its own type.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// The processor state of one guest thread. It belongs to the host thread that made it.
pub trait Context {
    /// Applies the pending changes of `space` and runs guest code in it until it traps.
    ///
    /// Registers that the processor refuses to load, which a hostile signal frame can contain, result in a
    /// [`Trap::Exception`] with SIGSEGV.
    ///
    /// The first run of a context starts with the FPU state last set, or else the processor's initial state. A run in another
    /// space than the one before (after `execve`) detaches the context from the old one. The context is attached to the space
    /// afterwards even if a pending interrupt ended the run at once.
    fn run(&mut self, space: &dyn AddressSpace, registers: &mut Registers) -> Result<Trap, PlatformError>;

    /// Copies `space` with all its mappings, including pending changes, for a guest's `fork`.
    fn fork_space(&mut self, space: &dyn AddressSpace) -> Result<Arc<dyn AddressSpace>, PlatformError>;

    /// Reserves what `space` needs for one more context, for a guest thread that is about to start. The caller has run in the
    /// space, and calls this before the new thread's first [`run`](Self::run).
    fn prepare_thread(&mut self, space: &dyn AddressSpace) -> Result<ThreadReservation, PlatformError>;

    /// Detaches the context from the space it last ran in, since the guest thread ends or executes another program. Call it on
    /// every context before [`AddressSpace::teardown`], which is cheaper then.
    ///
    /// # Errors
    /// The host failed to remove the thread.
    fn detach(&mut self) -> Result<(), PlatformError> {
        Ok(())
    }

    /// Resets the context after its guest thread has ended; the next run is that of another thread, as in a new context. The
    /// platform may keep what makes the next run in the same space cheap, for as long as that space exists. Returns whether it
    /// did so for `space`: a new thread of it that takes the recycled context then needs no
    /// [`prepare_thread`](Self::prepare_thread). A context that never ran in `space`, because its thread was killed first, may
    /// have nothing to keep.
    fn recycle(&mut self, space: &dyn AddressSpace) -> bool;

    /// Records whether the guest thread is blocked, for platforms that choose a host CPU for each context. A recycled
    /// context counts as blocked.
    fn set_waiting(&self, _waiting: bool) {}

    /// The FPU state of the guest thread.
    fn fpu_state(&mut self) -> Result<FpuState, PlatformError>;

    /// Replaces the FPU state. Components that the state lacks get their initial values; MXCSR is taken from it in any case.
    ///
    /// # Errors
    /// The processor would not load it; the state is then unchanged.
    fn set_fpu_state(&mut self, state: &FpuState) -> Result<(), PlatformError>;

    /// Sets the processor's initial FPU state, which a program finds after `execve`.
    fn reset_fpu_state(&mut self) -> Result<(), PlatformError>;

    /// Sets the system calls of this guest thread whose results do not change until the next call of this function, as pairs
    /// of number and result; at most [`MAX_CONSTANT_RESULTS`]. The platform may return them to the guest without a trap.
    fn set_constant_results(&mut self, results: &[(u64, u64)]) {
        let _ = results;
    }

    /// Replaces the guest thread's breakpoints; a new thread has none. They belong to the thread in whatever space it runs, and
    /// are not inherited. A hit is a [`Trap::Exception`] with SIGTRAP and `TRAP_HWBKPT` (`TRAP_TRACE` if a single step ended
    /// as well); [`breakpoints_hit`](Self::breakpoints_hit) says which one. After [`Watch::Execute`](crate::Watch::Execute) the
    /// resume flag is set in the registers, so that the next run executes the instruction.
    ///
    /// Meant for serving `ptrace(2)` to guests (the debug registers of `PTRACE_POKEUSER`) and for debugging them from outside.
    ///
    /// # Errors
    /// `InvalidInput` for breakpoints that no processor supports: see [`DebugRegisters::of`](crate::DebugRegisters::of);
    /// `Unsupported` if the host offers guests no breakpoints. They are unchanged then.
    fn set_breakpoints(&mut self, breakpoints: &[Breakpoint]) -> Result<(), PlatformError>;

    /// The breakpoints that caused the last [`Trap::Exception`] with SIGTRAP, as a mask: bit 0 is the first one set.
    fn breakpoints_hit(&self) -> u8;

    /// A handle with which any thread can make [`run`](Self::run) return [`Trap::Interrupted`].
    fn interrupter(&self) -> Arc<dyn Interrupter>;
}

/// A reservation for one more context in an address space. Keep it until that context has run, or will certainly not.
#[must_use]
pub struct ThreadReservation {
    _held: Option<Box<dyn Send>>,
}

impl ThreadReservation {
    /// A reservation that lasts until `held` is dropped.
    pub fn new(held: impl Send + 'static) -> Self {
        ThreadReservation { _held: Some(Box::new(held)) }
    }

    /// A reservation on a platform that needs none.
    pub fn unlimited() -> Self {
        ThreadReservation { _held: None }
    }
}

/// Interrupts a context.
pub trait Interrupter: Send + Sync {
    /// Makes [`Context::run`] return soon or, if the context is not running, makes its next run return at once. An interrupt
    /// is never lost; several before a return count as one.
    fn interrupt(&self);
}
