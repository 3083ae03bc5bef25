//! The contract between the sentry and the platforms that run guest code, and the memory that both share.
//!
//! A platform runs guest instructions until they trap, and changes guest address spaces. It implements nothing else of
//! Linux. The sentry depends on the traits of this crate only, never on a particular platform.

mod breakpoints;
mod contract;
mod counters;
mod fpu;
mod memory;
pub mod processor;
mod registers;
mod run_state;

pub use amber_abi::{host_call, host_call_rules};
pub use breakpoints::{Breakpoint, DebugRegisters, MAX_BREAKPOINTS, Watch};
pub use contract::{
    Access, AddressSpace, Context, FpuState, Interrupter, MAX_CONSTANT_RESULTS, Platform, PlatformError, Protection,
    ThreadReservation, Trap,
};
pub use counters::{Counters, Reason};
pub use fpu::FpuFormat;
pub use memory::{
    CountedHeap, FrameRange, Frames, GuestMemory, HeapBatch, KernelCharge, KernelPart, KernelUsage, OutOfMemory,
    Touched, heap_bytes, trim_heap,
};
pub use registers::Registers;
pub use run_state::RunState;

/// The page size of guest and host, in bytes.
pub const PAGE_SIZE: u64 = 4096;
