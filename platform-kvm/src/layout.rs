//! Where everything lies: guest-physical memory, the kernel half of guest address spaces, and the stub (`stub/stub.S`).

use amber_platform::PAGE_SIZE;

/// First address a guest may not map: as on Linux, the last page of the lower half stays out of reach.
pub const ADDRESS_LIMIT: u64 = 0x7fff_ffff_f000;
/// Where the trampoline is mapped if the host needs one (see `behaviour`): right above the limit.
pub const TRAMPOLINE: u64 = ADDRESS_LIMIT;
/// Where the mailbox is mapped beside it, out of what such a host otherwise gives to guests.
pub const MAILBOX: u64 = TRAMPOLINE - PAGE_SIZE;

/// Guest-physical address of the memory for page tables and the stub. The stub's linker script has it too.
pub const TABLES_BASE: u64 = 4 << 30;
/// The most bytes of it; only what is touched costs memory.
pub const TABLES_BYTES: u64 = 4 << 30;
/// Guest-physical address of guest memory.
pub const GUEST_BASE: u64 = 8 << 30;

/// Where the stub's code is mapped for exceptions, followed by the descriptor tables.
pub const COMMON: u64 = 0xffff_ffff_8000_0000;
/// The global descriptor table.
pub const GDT: u64 = COMMON + PAGE_SIZE;
/// The interrupt descriptor table.
pub const IDT: u64 = COMMON + 2 * PAGE_SIZE;
/// Where the areas of virtual processors begin: a page of code and a page of data each.
pub const AREAS: u64 = COMMON + 16 * PAGE_SIZE;
/// Bytes from one area to the next.
pub const AREA_BYTES: u64 = 2 * PAGE_SIZE;
/// The kernel half has room for so many areas: a page directory's worth of address space is mapped.
pub const MAX_VCPUS: u64 = ((1 << 30) - 16 * PAGE_SIZE) / AREA_BYTES;

/// Offsets in the code page.
pub mod code {
    /// `syscall` of 64-bit code.
    pub const SYSCALL: u64 = 0;
    /// Where known answers are loaded; 16 bytes each, of which the first instruction loads.
    pub const HIT: u64 = 0x100;
    /// First byte behind them, where a yield is answered.
    pub const HIT_END: u64 = 0x180;
    /// From here on in that part, the yield has been answered; its `hlt` is the last instruction.
    pub const YIELDED: u64 = 0x18b;
    /// Where that `hlt` is.
    pub const YIELD_HALT: u64 = 0x18e;
    /// Back by a frame on the stack.
    pub const IRET: u64 = 0x200;
    /// Back from a system call.
    pub const SYSRET: u64 = 0x210;
    /// Back by a frame, in other tables.
    pub const SWITCH: u64 = 0x220;
    /// First byte behind the ways back.
    pub const BACK_END: u64 = 0x240;
    /// `syscall` of 32-bit code.
    pub const SYSCALL32: u64 = 0x300;
    /// `int 0x80`.
    pub const INT80: u64 = 0x380;
    /// Exception 0; 16 bytes each.
    pub const EXCEPTIONS: u64 = 0x400;
    /// First byte behind the exceptions.
    pub const EXCEPTIONS_END: u64 = 0x600;
    /// The trampoline; also an offset in its page.
    pub const TRAMPOLINE: u64 = 0x800;
    /// Bytes of the trampoline for one answer; and where in them rcx and r11 are exchanged, and where the answer is loaded.
    pub const TRAMPOLINE_STRIDE: u64 = 32;
    /// First exchanged.
    pub const EXCHANGED: u64 = 14;
    /// Exchanged no more.
    pub const EXCHANGED_BACK: u64 = 19;
    /// Exchanged again, for the answer.
    pub const KNOWN: u64 = 21;
    /// The answer is in rax, the way back in r11.
    pub const ANSWERED: u64 = 28;
    /// Where it asks whether the sentry listens.
    pub const ASK: u64 = TRAMPOLINE + 9 * TRAMPOLINE_STRIDE;
    /// From here on the way back is in r11.
    pub const ASKED: u64 = ASK + 10;
    /// From here on the stack pointer is that of the mailbox.
    pub const SWITCHED: u64 = 0x947;
    /// From here on the call is handed over, and the flags are in the mailbox alone.
    pub const HANDED_OVER: u64 = 0x9ef;
    /// First byte behind the trampoline.
    pub const TRAMPOLINE_END: u64 = 0xa27;
    /// The trampoline's answers.
    pub const TRAMPOLINE_ANSWERS: u64 = 0xc00;
}

/// The port by which the trampoline leaves the machine.
pub const PORT: u16 = 0x10;

/// Offsets in the data page.
pub mod data {
    /// Eight pairs of call number and answer.
    pub const ANSWERS: u64 = 0;
    /// How many yields are answered before the next that the host hears of.
    pub const YIELDS: u64 = 0x80;
    /// The task state segment.
    pub const TSS: u64 = 0x100;
    /// Its limit: with permission bits for the ports around [`PORT`](super::PORT), and the byte of ones behind them.
    pub const TSS_LIMIT: u32 = 0x68 + 3;
    /// The stack of exceptions that may come at any instruction.
    pub const URGENT_STACK: u64 = 0x800;
    /// The frame by which `iretq` goes back, with a word for `rax` before it.
    pub const FRAME: u64 = 0x900;
    /// The stack of other exceptions.
    pub const STACK: u64 = 0x1000;
}

/// Selectors as Linux has them.
pub mod selector {
    /// Code of ring 0.
    pub const KERNEL_CODE: u16 = 0x10;
    /// Data of ring 0.
    pub const KERNEL_DATA: u16 = 0x18;
    /// 32-bit code of ring 3.
    pub const USER_CODE32: u16 = 0x23;
    /// Data of ring 3.
    pub const USER_DATA: u16 = 0x2b;
    /// 64-bit code of ring 3.
    pub const USER_CODE: u16 = 0x33;
    /// The task state segment.
    pub const TASK: u16 = 0x40;
}

/// Whether an address has the form a processor with four levels of tables takes.
pub fn is_canonical(address: u64) -> bool {
    let top = address as i64 >> 47;
    top == 0 || top == -1
}
