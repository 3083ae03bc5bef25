//! The general registers of a guest thread.

/// The integer state of a guest thread, with the layout of Linux's `struct user_regs_struct` (`sys/user.h`).
///
/// After [`Trap::Syscall`](crate::Trap::Syscall), `orig_rax` is the call number and `rip` is after the instruction.
/// When the thread runs again, `rax` is the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)] // The fields are the processor's own names.
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Linux's code segment of 64-bit programs (`__USER_CS`).
const USER_CS: u64 = 0x33;
/// Linux's stack segment of programs (`__USER_DS`).
const USER_SS: u64 = 0x2b;
/// RFLAGS of a new program: interrupts enabled, and the bit that is always set.
const FRESH_FLAGS: u64 = 0x202;

impl Registers {
    /// The registers of a 64-bit program that starts at `entry` with the stack pointer `stack`. All others are zero.
    pub fn for_program(entry: u64, stack: u64) -> Self {
        Registers {
            rip: entry,
            rsp: stack,
            cs: USER_CS,
            ss: USER_SS,
            eflags: FRESH_FLAGS,
            orig_rax: u64::MAX,
            ..Self::default()
        }
    }

    /// The six arguments of the system call.
    pub fn syscall_arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}
