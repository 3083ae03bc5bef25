//! The vDSO's instructions. They run in guests, at whatever address the image is mapped; here they are only bytes.

use std::arch::global_asm;

/// Offset of the code in the image. It fixes the distance to the data page.
pub(crate) const OFFSET: usize = 0x800;

global_asm!(
    ".pushsection .rodata.amber_vdso, \"a\", @progbits",
    ".balign 16",
    ".globl amber_vdso_code",
    "amber_vdso_code:",
    // Reads the clock whose base is at r8 + rcx and whose multiplier is at r8 + r10 into rax, in nanoseconds. Sets the
    // carry flag if the clock cannot be read.
    "70:",
    "mov r9d, dword ptr [r8 + {sequence}]",
    "test r9d, r9d",
    "jz 79f",
    "test r9d, 1",
    "jnz 79f",
    // The fence keeps the counter from being read before the sequence count.
    "lfence",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, qword ptr [r8 + {base}]",
    "jb 79f",
    "cmp qword ptr [r8 + {span}], rax",
    "jb 79f",
    "mul qword ptr [r8 + r10]",
    "shrd rax, rdx, 32",
    "add rax, qword ptr [r8 + rcx]",
    "cmp r9d, dword ptr [r8 + {sequence}]",
    "jne 70b",
    "clc",
    "ret",
    "79:",
    "stc",
    "ret",
    // int clock_gettime(clockid_t, struct timespec *)
    ".balign 16",
    ".globl amber_vdso_clock_gettime",
    "amber_vdso_clock_gettime:",
    "lea r8, [rip + amber_vdso_code - {to_data}]",
    "mov r10d, {multiplier}",
    "mov ecx, {monotonic}",
    "cmp edi, 1",
    "je 10f",
    "cmp edi, 6",
    "je 10f",
    "mov ecx, {realtime}",
    "test edi, edi",
    "jz 10f",
    "cmp edi, 5",
    "je 10f",
    "mov ecx, {boottime}",
    "cmp edi, 7",
    "je 10f",
    "mov ecx, {tai}",
    "cmp edi, 11",
    "je 10f",
    "mov r10d, {raw_multiplier}",
    "mov ecx, {raw}",
    "cmp edi, 4",
    "jne 19f",
    "10:",
    "call 70b",
    "jc 19f",
    "lea edx, [rdi - 5]",
    "cmp edx, 1",
    "ja 11f",
    // The coarse clocks: the time of the last tick.
    "xor edx, edx",
    "mov ecx, {tick}",
    "div rcx",
    "mul rcx",
    "11:",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov qword ptr [rsi], rax",
    "mov qword ptr [rsi + 8], rdx",
    "xor eax, eax",
    "ret",
    "19:",
    "mov eax, 228",
    "syscall",
    "ret",
    // int gettimeofday(struct timeval *, struct timezone *)
    ".balign 16",
    ".globl amber_vdso_gettimeofday",
    "amber_vdso_gettimeofday:",
    "test rsi, rsi",
    "jnz 29f",
    "test rdi, rdi",
    "jz 29f",
    "lea r8, [rip + amber_vdso_code - {to_data}]",
    "mov r10d, {multiplier}",
    "mov ecx, {realtime}",
    "call 70b",
    "jc 29f",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov qword ptr [rdi], rax",
    "mov rax, rdx",
    "xor edx, edx",
    "mov ecx, 1000",
    "div rcx",
    "mov qword ptr [rdi + 8], rax",
    "xor eax, eax",
    "ret",
    "29:",
    "mov eax, 96",
    "syscall",
    "ret",
    // time_t time(time_t *)
    ".balign 16",
    ".globl amber_vdso_time",
    "amber_vdso_time:",
    "lea r8, [rip + amber_vdso_code - {to_data}]",
    "mov r10d, {multiplier}",
    "mov ecx, {realtime}",
    "call 70b",
    "jc 39f",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "test rdi, rdi",
    "jz 38f",
    "mov qword ptr [rdi], rax",
    "38:",
    "ret",
    "39:",
    "mov eax, 201",
    "syscall",
    "ret",
    // int clock_getres(clockid_t, struct timespec *)
    ".balign 16",
    ".globl amber_vdso_clock_getres",
    "amber_vdso_clock_getres:",
    // A resolution of 1 ns: all but the coarse clocks, the alarm clocks and the CPU-time clocks.
    "cmp edi, 11",
    "ja 49f",
    "mov eax, {finest}",
    "bt eax, edi",
    "jnc 49f",
    "test rsi, rsi",
    "jz 48f",
    "mov qword ptr [rsi], 0",
    "mov qword ptr [rsi + 8], 1",
    "48:",
    "xor eax, eax",
    "ret",
    "49:",
    "mov eax, 229",
    "syscall",
    "ret",
    // int getcpu(unsigned *, unsigned *, void *)
    ".balign 16",
    ".globl amber_vdso_getcpu",
    "amber_vdso_getcpu:",
    "lea r8, [rip + amber_vdso_code - {to_data}]",
    "cmp dword ptr [r8 + {first_processor}], 0",
    "je 59f",
    "test rdi, rdi",
    "jz 57f",
    "mov dword ptr [rdi], 0",
    "57:",
    "test rsi, rsi",
    "jz 58f",
    "mov dword ptr [rsi], 0",
    "58:",
    "xor eax, eax",
    "ret",
    "59:",
    "mov eax, 309",
    "syscall",
    "ret",
    ".globl amber_vdso_end",
    "amber_vdso_end:",
    ".popsection",
    sequence = const crate::data::SEQUENCE,
    base = const crate::data::COUNTER_BASE,
    span = const crate::data::COUNTER_SPAN,
    multiplier = const crate::data::MULTIPLIER,
    monotonic = const crate::data::MONOTONIC,
    realtime = const crate::data::REALTIME,
    boottime = const crate::data::BOOTTIME,
    tai = const crate::data::TAI,
    raw = const crate::data::RAW,
    raw_multiplier = const crate::data::RAW_MULTIPLIER,
    tick = const crate::data::TICK,
    first_processor = const crate::data::FIRST_PROCESSOR,
    // CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI.
    finest = const 1 << 0 | 1 << 1 | 1 << 4 | 1 << 7 | 1 << 11,
    to_data = const OFFSET + crate::PAGE,
);

unsafe extern "C" {
    static amber_vdso_code: u8;
    static amber_vdso_clock_gettime: u8;
    static amber_vdso_gettimeofday: u8;
    static amber_vdso_time: u8;
    static amber_vdso_clock_getres: u8;
    static amber_vdso_getcpu: u8;
    static amber_vdso_end: u8;
}

/// The instructions as bytes.
pub(crate) fn bytes() -> &'static [u8] {
    let start = &raw const amber_vdso_code;
    let len = (&raw const amber_vdso_end).addr() - start.addr();
    // SAFETY: both labels belong to the one read-only section above, `len` bytes apart, and nothing ever writes there.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The functions: name, and offsets of begin and end in the code.
pub(crate) fn functions() -> [(&'static str, usize, usize); 5] {
    let start = (&raw const amber_vdso_code).addr();
    let at = [
        (&raw const amber_vdso_clock_gettime).addr() - start,
        (&raw const amber_vdso_gettimeofday).addr() - start,
        (&raw const amber_vdso_time).addr() - start,
        (&raw const amber_vdso_clock_getres).addr() - start,
        (&raw const amber_vdso_getcpu).addr() - start,
        (&raw const amber_vdso_end).addr() - start,
    ];
    [
        ("__vdso_clock_gettime", at[0], at[1]),
        ("__vdso_gettimeofday", at[1], at[2]),
        ("__vdso_time", at[2], at[3]),
        ("__vdso_clock_getres", at[3], at[4]),
        ("__vdso_getcpu", at[4], at[5]),
    ]
}
