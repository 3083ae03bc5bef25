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

# 0x800: what user code runs on a host whose `syscall` stays in ring 3 (see src/quirks.rs); mapped by itself, in each
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
# 0x920: no answer is known. If the sentry listens at the mailbox, the page before this one, the call goes there with all
# registers, and the thread waits for the result. If nobody listens, or that takes too long, it leaves the machine.
# The words of the mailbox are those of src/mailbox.rs.
.set mailbox, stub_entry - 0x1000
.set state, mailbox + 8
.set result, mailbox + 0x10
.set flags, mailbox + 0x20
.set registers, mailbox + 0x28
.set return, registers + 13 * 8
.set stack, registers + 14 * 8
    mov r11, [rip + mailbox]
    xchg rcx, r11
    jrcxz 1f
    jmp 2f
1:  out 0x10, al
    ud2
2:  mov [rip + return], r11
    mov [rip + stack], rsp
    lea rsp, [rip + flags + 8]

# 0x947: the stack pointer is not the user's.
.org 0x947
    pushfq
.set i, 0
.irp register, r15, r14, r13, r12, rbp, rbx, r10, r9, r8, rax, rdx, rsi, rdi
    mov [rip + registers + i * 8], \register
    .set i, i + 1
.endr
    rdfsbase rcx
    mov [rip + registers + 15 * 8], rcx
    rdgsbase rcx
    mov [rip + registers + 16 * 8], rcx
.set i, 17
.irp register, ds, es, fs, gs
    mov ecx, \register
    mov [rip + registers + i * 8], rcx
    .set i, i + 1
.endr
    mov ecx, 2000
    mov qword ptr [rip + state], 1

# 0x9ef: the call is handed over, and the flags are not the user's.
.org 0x9ef
1:  pause
    cmp qword ptr [rip + state], 1
    jne 2f
    dec ecx
    jnz 1b
    jmp 3f
2:  cmp qword ptr [rip + state], 2
    jne 3f
    mov rcx, r11
    mov r11, [rsp]
    popfq
    mov rax, [rip + result]
    mov rsp, [rip + stack]
    jmp rcx
3:  out 0x10, al
    ud2
.org 0xc00
