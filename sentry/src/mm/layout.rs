//! The layout of an address space: the mmap area, the heap, the stack, and the ranges that `/proc` shows.

use std::sync::Arc;

use amber_platform::PAGE_SIZE;

use crate::vfs::FileDescription;

/// Random bits for the layout of a new program; 0 under the personality `ADDR_NO_RANDOMIZE`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Randomness {
    /// Of the mmap area.
    pub mmap: u64,
    /// Of the stack.
    pub stack: u64,
    /// Of the heap.
    pub heap: u64,
    /// Of a position-independent program.
    pub program: u64,
}

impl Randomness {
    /// Takes the bits from random bytes.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        let words: [[u8; 8]; 4] = zerocopy::transmute!(bytes);
        let [mmap, stack, heap, program] = words.map(u64::from_le_bytes);
        Randomness { mmap, stack, heap, program }
    }

    /// Offset of the mmap area in bytes (28 bits of pages).
    fn mmap_shift(&self) -> u64 {
        (self.mmap & ((1 << 28) - 1)) * PAGE_SIZE
    }

    /// Offset of the stack in bytes (22 bits of pages).
    fn stack_shift(&self) -> u64 {
        (self.stack & ((1 << 22) - 1)) * PAGE_SIZE
    }

    /// Offset of the heap in bytes: up to 32 MiB behind the program.
    pub(crate) fn heap_shift(&self) -> u64 {
        (self.heap % (32 << 20)) & !(PAGE_SIZE - 1)
    }

    /// Offset of a position-independent program in bytes (28 bits of pages).
    pub(crate) fn program_shift(&self) -> u64 {
        (self.program & ((1 << 28) - 1)) * PAGE_SIZE
    }
}

/// The layout of one address space. Addresses of absent parts are 0.
#[derive(Clone, Default)]
pub(crate) struct Layout {
    /// Mappings are placed below this address, downwards.
    pub mmap_base: u64,
    /// The highest address of the stack.
    pub stack_top: u64,
    /// First address of the code.
    pub start_code: u64,
    /// End of the code.
    pub end_code: u64,
    /// First address of the data.
    pub start_data: u64,
    /// End of the data.
    pub end_data: u64,
    /// First address of the heap.
    pub start_brk: u64,
    /// End of the heap, see brk(2).
    pub brk: u64,
    /// The stack pointer at the start of the program.
    pub start_stack: u64,
    /// First address of the arguments.
    pub arg_start: u64,
    /// End of the arguments.
    pub arg_end: u64,
    /// First address of the environment.
    pub env_start: u64,
    /// End of the environment.
    pub env_end: u64,
    /// The auxiliary vector, shown in `/proc/PID/auxv`.
    pub auxv: Vec<u64>,
    /// Address of the vDSO.
    pub vdso: u64,
    /// The target of `/proc/PID/exe`.
    pub executable: Option<Arc<FileDescription>>,
}

impl Layout {
    /// The layout of a new address space below `limit`, whose stack is limited to `stack_limit` bytes.
    pub(crate) fn new(limit: u64, stack_limit: u64, randomness: &Randomness) -> Self {
        /// Minimum distance of the mmap area from the limit, for the stack and its random offset.
        const LEAST_GAP: u64 = 128 << 20;
        let stack_moves = ((1 << 22) - 1) * PAGE_SIZE;
        let most = limit / 6 * 5;
        let padding = stack_moves + super::vma::STACK_GUARD_GAP;
        let gap = stack_limit.saturating_add(padding).clamp(LEAST_GAP, most) & !(PAGE_SIZE - 1);
        Layout {
            mmap_base: limit.saturating_sub(gap).saturating_sub(randomness.mmap_shift()) & !(PAGE_SIZE - 1),
            stack_top: limit.saturating_sub(randomness.stack_shift()) & !(PAGE_SIZE - 1),
            ..Layout::default()
        }
    }

    /// The base of position-independent programs before randomization: two thirds of the address space, as on Linux.
    pub(crate) fn program_base(limit: u64) -> u64 {
        (limit / 3 * 2) & !(PAGE_SIZE - 1)
    }
}
