//! The layout of guest-physical memory, of the kernel half of guest address spaces, and of the stub (`stub/stub.S`).

use amber_platform::PAGE_SIZE;

/// The guest's task size. As on Linux, the last page of the lower half stays unmapped.
pub(crate) const ADDRESS_LIMIT: u64 = 0x7fff_ffff_f000;
/// The page of the trampoline, just above the task size, on hosts that need one (see `quirks`).
pub(crate) const TRAMPOLINE: u64 = ADDRESS_LIMIT;

/// Guest-physical address of the memory for page tables and the stub. The stub's linker script repeats it.
pub(crate) const TABLES_BASE: u64 = 4 << 30;
/// Size of that range; memory is allocated on first use.
pub(crate) const TABLES_BYTES: u64 = 4 << 30;
/// Guest-physical address of guest memory.
pub(crate) const GUEST_BASE: u64 = 8 << 30;

/// The stub's code as the exception handlers use it, followed by the descriptor tables.
pub(crate) const COMMON: u64 = 0xffff_ffff_8000_0000;
/// The global descriptor table.
pub(crate) const GDT: u64 = COMMON + PAGE_SIZE;
/// The interrupt descriptor table.
pub(crate) const IDT: u64 = COMMON + 2 * PAGE_SIZE;
/// Start of the per-vCPU areas: a page of code and a page of data each.
pub(crate) const AREAS: u64 = COMMON + 16 * PAGE_SIZE;
/// Distance between two areas.
pub(crate) const AREA_BYTES: u64 = 2 * PAGE_SIZE;
/// Number of areas in the kernel half, which is one page directory (1 GiB) large.
pub(crate) const MAX_VCPUS: u64 = ((1 << 30) - 16 * PAGE_SIZE) / AREA_BYTES;

/// Offsets in the code page. Those inside a code path tell the sentry how far a vCPU has come.
pub(crate) mod code {
    /// Entry point of `syscall` from 64-bit code.
    pub(crate) const SYSCALL: u64 = 0;
    /// Here constant results are loaded, in blocks of 16 bytes; the first instruction of each loads.
    pub(crate) const HIT: u64 = 0x100;
    /// First byte after these.
    pub(crate) const HIT_END: u64 = 0x180;
    /// Return to the guest by the frame on the stack.
    pub(crate) const IRET: u64 = 0x200;
    /// Return from a system call.
    pub(crate) const SYSRET: u64 = 0x210;
    /// Return by the frame on the stack, after a switch of page tables.
    pub(crate) const SWITCH: u64 = 0x220;
    /// First byte after the return paths.
    pub(crate) const BACK_END: u64 = 0x240;
    /// Entry point of `syscall` from 32-bit code.
    pub(crate) const SYSCALL32: u64 = 0x300;
    /// Entry point of `int 0x80`.
    pub(crate) const INT80: u64 = 0x380;
    /// Entry points of the exceptions, 16 bytes each.
    pub(crate) const EXCEPTIONS: u64 = 0x400;
    /// First byte after the exceptions.
    pub(crate) const EXCEPTIONS_END: u64 = 0x600;
    /// The trampoline, which is also at this offset in its own page.
    pub(crate) const TRAMPOLINE: u64 = 0x800;
    /// Size of the trampoline's code for one constant result. The offsets below are within it.
    pub(crate) const TRAMPOLINE_STRIDE: u64 = 32;
    /// From here on, rcx and r11 are exchanged.
    pub(crate) const EXCHANGED: u64 = 14;
    /// From here on, they are back in place.
    pub(crate) const EXCHANGED_BACK: u64 = 19;
    /// From here on, they are exchanged again, because this is the result.
    pub(crate) const KNOWN: u64 = 21;
    /// From here on, the result is in rax and the return address in r11.
    pub(crate) const ANSWERED: u64 = 28;
    /// The exit of a call without a constant result.
    pub(crate) const TRAMPOLINE_EXIT: u64 = TRAMPOLINE + 8 * TRAMPOLINE_STRIDE;
    /// First byte after the trampoline.
    pub(crate) const TRAMPOLINE_END: u64 = TRAMPOLINE_EXIT + 4;
    /// The trampoline's constant results.
    pub(crate) const TRAMPOLINE_ANSWERS: u64 = 0xc00;
}

/// The I/O port by which the trampoline exits.
pub(crate) const PORT: u16 = 0x10;

/// Offsets in the data page.
pub(crate) mod data {
    /// Eight pairs of call number and result.
    pub(crate) const ANSWERS: u64 = 0;
    /// The task state segment.
    pub(crate) const TSS: u64 = 0x100;
    /// Its limit. It includes the I/O permission bits for the ports around [`PORT`](super::PORT) and the terminating
    /// byte of ones.
    pub(crate) const TSS_LIMIT: u32 = 0x68 + 3;
    /// The stack (IST) of exceptions that can occur at any instruction.
    pub(crate) const URGENT_STACK: u64 = 0x800;
    /// The frame for `iretq`, after a word for rax.
    pub(crate) const FRAME: u64 = 0x900;
    /// The stack of other exceptions.
    pub(crate) const STACK: u64 = 0x1000;
}

/// Segment selectors, with Linux's values.
pub(crate) mod selector {
    /// 64-bit code in ring 0.
    pub(crate) const KERNEL_CODE: u16 = 0x10;
    /// Data in ring 0.
    pub(crate) const KERNEL_DATA: u16 = 0x18;
    /// 32-bit code in ring 3.
    pub(crate) const USER_CODE32: u16 = 0x23;
    /// Data in ring 3.
    pub(crate) const USER_DATA: u16 = 0x2b;
    /// 64-bit code in ring 3.
    pub(crate) const USER_CODE: u16 = 0x33;
    /// The task state segment.
    pub(crate) const TASK: u16 = 0x40;
}

/// Whether an address is canonical with four levels of page tables.
pub(crate) fn is_canonical(address: u64) -> bool {
    let top = address as i64 >> 47;
    top == 0 || top == -1
}
