//! Guest code.

use std::arch::global_asm;

/// Position-independent machine code for guests.
pub type Code = &'static [u8];

/// Defines functions that return the machine code of the given instructions.
macro_rules! code {
    ($($(#[$doc:meta])* $name:ident: $($line:literal)+;)+) => {
        $(
            global_asm!(
                ".pushsection .rodata.amber_guest, \"a\"",
                // Other crates and codegen units refer to the labels as well.
                concat!(".globl amber_guest_", stringify!($name), ", amber_guest_", stringify!($name), "_end"),
                concat!("amber_guest_", stringify!($name), ":"),
                $($line,)+
                concat!("amber_guest_", stringify!($name), "_end:"),
                ".popsection",
            );

            $(#[$doc])*
            pub fn $name() -> Code {
                // SAFETY: the two labels of the code above; only their addresses and the constant bytes between them are
                // used.
                unsafe extern "C" {
                    #[link_name = concat!("amber_guest_", stringify!($name))]
                    safe static START: u8;
                    #[link_name = concat!("amber_guest_", stringify!($name), "_end")]
                    safe static END: u8;
                }
                let start = &raw const START;
                // SAFETY: initialised constant data that lives as long as the program.
                unsafe { std::slice::from_raw_parts(start, (&raw const END) as usize - start as usize) }
            }
        )+
    };
}

code! {
    /// Makes system calls, forever.
    call_forever: "2: syscall" "jmp 2b";
    /// Computes, stores at rdi, and makes a call, forever: rbx counts, r12 grows by 3, r9 is xmm0, which grows by xmm1,
    /// r10 is the stack pointer, r15 the sum of all results, and r13 the flags after the previous call, which depend on
    /// rbx.
    work_and_call: "2: inc rbx" "lea r12, [r12 + 3]" "paddq xmm0, xmm1" "movq r9, xmm0" "mov r10, rsp" "mov [rdi], rbx"
        "bt rbx, 0" "syscall" "pushfq" "pop r13" "add r15, rax" "jmp 2b";
    /// Counts in the word at rdi, forever.
    count_forever: "2: lock inc qword ptr [rdi]" "jmp 2b";
    /// Reads the byte at rdi, then makes a call with the byte in r8.
    read_byte: "movzx r8d, byte ptr [rdi]" "syscall";
    /// Writes sil to the byte at rdi, then makes a call.
    write_byte: "mov byte ptr [rdi], sil" "syscall";
    /// Jumps to rdi.
    jump: "jmp rdi";
    /// Writes each of the r9 pages at rdi, then makes a call; forever.
    write_pages: "3: mov r10, rdi" "mov rdx, r9" "2: mov qword ptr [r10], rdx" "add r10, 4096" "dec rdx" "jnz 2b"
        "syscall" "jmp 3b";
    /// Reads each of the r9 pages at rdi, forever.
    read_pages_forever: "3: mov r10, rdi" "mov rdx, r9" "2: mov r8, [r10]" "add r10, 4096" "dec rdx" "jnz 2b" "jmp 3b";
    /// An invalid instruction.
    invalid: "ud2";
    /// A breakpoint.
    breakpoint: "int3" "nop";
    /// A division by zero.
    divide: "xor ecx, ecx" "mov eax, 1" "cdq" "div ecx";
    /// A privileged instruction.
    privileged: "hlt";
    /// A load from an address that is not canonical.
    not_canonical: "movabs rdi, 0x8000000000000000" "mov rax, [rdi]";
    /// Only makes a call.
    nothing: "nop" "nop" "syscall";
    /// Makes the call in rax by `int 0x80`, forever.
    int80: "int 0x80" "jmp amber_guest_int80";
    /// Jumps to a 32-bit code segment by the 48-bit far pointer at rdi.
    far_jump: "jmp fword ptr [rdi]";
    /// `mov eax, 20; int 0x80` in 32-bit code.
    int80_in_32_bits: ".byte 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xfe";
    /// Calls rdi as a function, then makes a call.
    call_function: "call rdi" "syscall";
    /// Loads xmm7 from rdi, changes the x87 state, and makes calls with xmm7 in rdi, forever.
    keep_fpu: "movq xmm7, rdi" "fld1" "syscall" "2: movq rdi, xmm7" "syscall" "jmp 2b";
    /// Makes calls with xmm7 in rdi and MXCSR in esi, forever.
    report_fpu: "2: movq rdi, xmm7" "stmxcsr [rsp]" "mov esi, [rsp]" "syscall" "jmp 2b";
    /// Loads PKRU from rsi and makes calls; from the second call on, with PKRU in r8; forever.
    load_pkru: "xor ecx, ecx" "xor edx, edx" "mov eax, esi" "wrpkru" "2: syscall" "xor ecx, ecx" "rdpkru" "mov r8d, eax"
        "jmp 2b";
    /// Makes calls with PKRU in r8, forever.
    report_pkru: "2: xor ecx, ecx" "rdpkru" "mov r8d, eax" "syscall" "jmp 2b";
    /// Makes a call with XCR0 in r8.
    report_xcr0: "xor ecx, ecx" "xgetbv" "mov r8d, eax" "syscall";
    /// Restores all vector state from rdi, and makes calls, forever.
    load_state: "mov eax, -1" "mov edx, -1" "xrstor64 [rdi]" "2: syscall" "jmp 2b";
    /// Saves all vector state at rdi, and makes a call.
    store_state: "mov eax, -1" "mov edx, -1" "xsave64 [rdi]" "syscall";
    /// Makes the call in rax, then call 9999 with the first call's result in rsi.
    call_and_report: "syscall" "mov rsi, rax" "mov eax, 9999" "syscall";
    /// Loads the flags from rdi, stores them to r8, and makes a call.
    swap_flags: "push rdi" "popfq" "pushfq" "pop r8" "syscall";
    /// Loads DS from rdi, and makes a call with DS in r8.
    load_segment: "mov ds, edi" "xor r8d, r8d" "mov r8d, ds" "syscall";
    /// Returns to the address in rdi.
    return_to: "push rdi" "ret";
    /// Makes a call with the time-stamp counter in r8.
    time_stamp: "rdtsc" "shl rdx, 32" "lea r8, [rdx + rax]" "syscall";
    /// Stores a byte at rdi, loads it, executes two `nop`, and makes a call; forever.
    store_load_rest: "2: mov byte ptr [rdi], sil" "movzx r8d, byte ptr [rdi]" "nop" "nop" "syscall" "jmp 2b";
    /// Loads SS from the word at rdi, which defers debug exceptions, and makes a call.
    load_stack_segment_and_call: "mov ss, word ptr [rdi]" "syscall" "nop" "syscall";
    /// `int1`.
    debug_trap: ".byte 0xf1" "nop";
    /// Counts rbx up, forever. r12 stays its negation, which is easy to check.
    count_registers: "2: lea r12, [rbx + 1]" "neg r12" "inc rbx" "jmp 2b";
}
