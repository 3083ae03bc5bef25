//! The contract between the sentry and whatever runs guest code, and the memory both share.
//!
//! A platform runs guest instructions until they trap and changes guest address spaces; it knows nothing of Linux beyond
//! that. The sentry names only the traits of this crate, never a concrete platform.

mod breakpoints;
mod contract;
mod counters;
mod fpu;
mod memory;
pub mod processor;
mod registers;
mod run_state;

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

/// Bytes in a page, of the guest and of the host.
pub const PAGE_SIZE: u64 = 4096;
