# What runs in ring 0: the entries of the processor, each of which leaves the machine at once, and the ways back.
#
# The page is mapped once for the exception entries, and once more for each virtual processor, in front of its page of
# data, so that `syscall` finds the data without a scratch register. No entry changes a register before it leaves, so
# whatever the guest had is in the registers the sentry reads. The offsets are those of src/layout.rs.

.intel_syntax noprefix
.section .stub, "ax"
.global stub_entry

# The data of a virtual processor: eight pairs of call number and answer.
.set answers, stub_entry + 0x1000

# 0x000: `syscall` of 64-bit code. The user's address is in rcx, the flags in r11.
stub_entry:
.set i, 0
.rept 8
    cmp rax, [rip + answers + i * 16]
    je hit + i * 16
    .set i, i + 1
.endr
    cmp rax, 24
    je yield
    hlt

# 0x100: the answer to call i is known.
.org 0x100
hit:
.set i, 0
.rept 8
    .balign 16
    mov rax, [rip + answers + i * 16 + 8]
    sysretq
    .set i, i + 1
.endr

# 0x180: `sched_yield`, which most often finds nobody else to run: only every so many times the host is asked. The count is
# behind the answers.
.org 0x180
yield:
    dec qword ptr [rip + answers + 0x80]
    js 1f
    xor eax, eax
    sysretq
1:  hlt

# 0x200: back with all registers, by a frame on the stack.
.org 0x200
    iretq

# 0x210: back from a system call.
.org 0x210
    sysretq

# 0x220: back with all registers, in the space whose tables rax names.
.org 0x220
    mov cr3, rax
    pop rax
    iretq

# 0x300: `syscall` of 32-bit code.
.org 0x300
    hlt

# 0x380: `int 0x80`.
.org 0x380
    hlt

# 0x400: the 32 exceptions. The frame on the stack tells the rest.
.org 0x400
.rept 32
    .balign 16, 0xf4
    hlt
.endr
    .balign 16, 0xf4
.org 0x600

# 0x800: what user code runs on a host whose `syscall` stays in ring 3 (see src/behaviour.rs); mapped by itself, in each
# guest address space, with answers of its own at 0xc00, the last of them for yields. The first word of a pair is the negated number. Flags are kept;
# r11 is free, since `syscall` has taken it.
.org 0x800
.set i, 0
.rept 9
    .balign 32
    mov r11, [rip + stub_entry + 0xc00 + i * 16]
    lea r11, [r11 + rax]
    xchg rcx, r11
    jrcxz 1f
    xchg rcx, r11
    jmp 2f
1:  mov rax, [rip + stub_entry + 0xc00 + i * 16 + 8]
    jmp r11
    .balign 32
2:
    .set i, i + 1
.endr
    out 0x10, eax
    ud2
.org 0xc00
