//! What a platform must do, as traits.

use std::io;
use std::ops::Range;
use std::sync::Arc;

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
    /// `int $0x80`, or a call from a 32-bit code segment: the i386 number and arguments are in the registers.
    Syscall32,
    /// A page fault that the current mappings do not satisfy.
    PageFault {
        /// The address touched.
        address: u64,
        /// What the instruction was doing, as far as the platform can tell: a load where nothing is mapped may turn out
        /// to be any access once the page can be read. [`Access::Write`] and [`Access::Execute`] are certain.
        access: Access,
    },
    /// Any other processor exception, as the signal Linux would make of it.
    Exception {
        /// Signal number, such as SIGILL or SIGFPE.
        signal: i32,
        /// `si_code` of that signal.
        code: i32,
        /// `si_addr` of that signal.
        address: u64,
    },
    /// Nothing happened to the guest: an [`Interrupter`] asked the context to come back.
    Interrupted,
}

/// The host could not do what the platform needs; the sandbox cannot go on.
#[derive(Debug, Error)]
#[error("{what}: {source}")]
pub struct HostFault {
    /// What failed, on what, in words for the operator, with what to do about it where that is known.
    pub what: String,
    /// The host's error.
    #[source]
    pub source: io::Error,
}

/// The vector and floating-point state of a guest thread, in the `XSAVE` layout of the host's processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FloatingPoint(pub Vec<u8>);

/// The most answers a context can be told.
pub const MOST_ANSWERS: usize = 8;

/// Makes address spaces and contexts.
pub trait Platform: Send + Sync {
    /// The name users give to `--platform`.
    fn name(&self) -> &'static str;

    /// First address a guest may not map: the guest's task size.
    fn address_limit(&self) -> u64;

    /// Makes an empty guest address space.
    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, HostFault>;

    /// Makes a context. It is used only by the host thread that made it.
    fn new_context(&self) -> Result<Box<dyn Context>, HostFault>;

    /// What the platform counted so far, by name: see [`Counters`](crate::Counters).
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// The mappings of one guest process (or of several that share memory).
///
/// Changes are collected and take effect, in order, before any guest instruction runs in the space after the change
/// was made by the same host thread; another thread's running guest code may see them late, but never after
/// [`synchronize`](Self::synchronize) returned. All addresses and lengths are page aligned and below the limit.
///
/// A platform may lose mappings when the host allows no more of them. The guest then faults there, and the sentry maps
/// the page again.
pub trait AddressSpace: Send + Sync {
    /// Maps `frames` at `at`, over whatever was there. The caller keeps the frames alive until it unmapped them.
    fn map(&self, at: u64, frames: FrameRange, protection: Protection);

    /// Says that all of these frames, which are mapped here, will be touched soon. A platform may do some of what that takes
    /// for all at once.
    fn expect(&self, _frames: FrameRange) {}

    /// Removes all mappings in `range`. `released` is dropped once no guest can reach the frames any more through a
    /// mapping that this or an earlier change took away; an empty range removes nothing and only releases.
    fn unmap(&self, range: Range<u64>, released: Vec<Frames>);

    /// Like [`unmap`](Self::unmap) for the range of all mappings, in a space where nobody will run again.
    fn abandon(&self, range: Range<u64>, released: Vec<Frames>) {
        self.unmap(range, released);
    }

    /// Changes what may be done with what is mapped in `range`; holes are left alone.
    fn protect(&self, range: Range<u64>, protection: Protection);

    /// Returns when no guest instruction can observe a state from before the changes made so far: at once where no
    /// guest code runs in the space, else after those threads were made to take notice.
    fn synchronize(&self);

    /// About how many bytes the host keeps for it now: page tables and, where there is one, a process. The platform charges
    /// them to the guests' memory ([`KernelPart::PageTables`](crate::KernelPart)); those that spaces share count for each here.
    fn host_bytes(&self) -> u64 {
        0
    }

    /// For platforms to find their own kind again.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Where one guest thread runs. Bound to the host thread that made it.
pub trait Context {
    /// Applies the space's pending changes and runs guest code in it until it traps.
    ///
    /// Registers the processor would not load, as a hostile signal frame may ask for, are the guest's fault: a
    /// [`Trap::Exception`] with SIGSEGV.
    ///
    /// The first run of a context takes the floating-point state last set (or the processor's initial state); running
    /// in another space than before (after `execve`) leaves the old one.
    fn run(&mut self, space: &dyn AddressSpace, registers: &mut Registers) -> Result<Trap, HostFault>;

    /// Makes a copy of `space`, with all its mappings as they stand, pending changes included, for a guest `fork`.
    fn fork_space(&mut self, space: &dyn AddressSpace) -> Result<Arc<dyn AddressSpace>, HostFault>;

    /// Makes `space` ready for one more context than it has, for a guest thread about to start.
    /// Must be called by a context that ran in the space, before the new thread's first [`run`](Self::run).
    fn prepare_thread(&mut self, space: &dyn AddressSpace) -> Result<Room, HostFault>;

    /// Says that the guest thread will not go on in the space it ran in, because it ends or executes another program. Whoever
    /// abandons a space has its threads leave it first: then what it held comes free at less cost.
    ///
    /// # Errors
    /// The host failed to get the thread out.
    fn leave_space(&mut self) -> Result<(), HostFault> {
        Ok(())
    }

    /// Forgets the guest thread, which has ended: the next run is of another one, as in a new context. What makes a
    /// return to the same space cheap may be kept, but no longer than the space itself. A thread for which a context at
    /// rest in its space is taken needs no [`prepare_thread`](Self::prepare_thread).
    fn rest(&mut self);

    /// Says that the guest thread waits for something, or that it does so no more: platforms that choose a processor for
    /// each context want to know. A context that rests waits.
    fn set_waiting(&self, _waiting: bool) {}

    /// The floating-point state of the guest thread.
    fn floating_point(&mut self) -> Result<FloatingPoint, HostFault>;

    /// Replaces the floating-point state. State the processor would refuse is an error and changes nothing.
    fn set_floating_point(&mut self, state: &FloatingPoint) -> Result<(), HostFault>;

    /// Sets the processor's initial floating-point state, as a program just executed finds it.
    fn reset_floating_point(&mut self) -> Result<(), HostFault>;

    /// Tells the results that some system calls of this guest thread have from now on, as pairs of number and result, at
    /// most [`MOST_ANSWERS`]. The platform may give them without a trap.
    fn publish(&mut self, answers: &[(u64, u64)]) {
        let _ = answers;
    }

    /// Sets the guest thread's breakpoints in place of those it had; a new one has none. They stay with the thread whatever
    /// space it runs in, and no child or other thread has them. One that comes up is a [`Trap::Exception`] with SIGTRAP and
    /// `TRAP_HWBKPT` (or `TRAP_TRACE`, where a single step ended as well), and [`breakpoints_hit`](Self::breakpoints_hit)
    /// tells which. After [`Watch::Execute`](crate::Watch::Execute) the registers have the resume flag, with which the
    /// instruction is executed the next time.
    ///
    /// For whoever serves `ptrace(2)` to guests (the debug registers of `PTRACE_POKEUSER`) or debugs them from outside.
    ///
    /// # Errors
    /// `InvalidInput` for what no processor looks after: see [`DebugRegisters::of`](crate::DebugRegisters::of);
    /// `Unsupported` if the host's processors look after none for guests. The breakpoints then are what they were.
    fn set_breakpoints(&mut self, breakpoints: &[Breakpoint]) -> Result<(), HostFault>;

    /// Which breakpoints the last [`Trap::Exception`] with SIGTRAP is about: bit 0 stands for the first that was set, and
    /// so on.
    fn breakpoints_hit(&self) -> u8;

    /// A handle by which any thread makes a running [`run`](Self::run) return [`Trap::Interrupted`].
    fn interrupter(&self) -> Arc<dyn Interrupter>;
}

/// Room for one more context in a space, kept until that context has run or is sure not to come.
#[must_use]
pub struct Room {
    _claim: Option<Box<dyn Send>>,
}

impl Room {
    /// Room that lasts as long as `claim`.
    pub fn new(claim: impl Send + 'static) -> Self {
        Room { _claim: Some(Box::new(claim)) }
    }

    /// Room where there is always enough.
    pub fn plenty() -> Self {
        Room { _claim: None }
    }
}

/// Makes a context come back from the guest.
pub trait Interrupter: Send + Sync {
    /// If the context is in [`Context::run`], it returns soon; if it is not, its next run returns at once. Never lost,
    /// and several calls before a return count as one.
    fn interrupt(&self);
}
