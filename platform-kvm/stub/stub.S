# The code of ring 0: the entry points, which exit at once, and the return paths to the guest.
#
# The page is mapped once for the exception entry points, and once per vCPU, in front of the vCPU's data page, so that
# `syscall` finds the data without a scratch register. No entry point changes a register before it exits, so the sentry
# reads the guest's registers unchanged. The offsets are those of src/layout.rs.

.intel_syntax noprefix
.section .stub, "ax"
.global stub_entry

# The data of a vCPU: eight pairs of call number and constant result.
.set answers, stub_entry + 0x1000

# 0x000: `syscall` from 64-bit code. The return address is in rcx, the flags are in r11.
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

# 0x100: call i has a constant result.
.org 0x100
hit:
.set i, 0
.rept 8
    .balign 16
    mov rax, [rip + answers + i * 16 + 8]
    sysretq
    .set i, i + 1
.endr

# 0x180: sched_yield(2), which rarely finds another thread to run: only one of many exits to the host. The count follows
# the constant results.
.org 0x180
yield:
    dec qword ptr [rip + answers + 0x80]
    js 1f
    xor eax, eax
    sysretq
1:  hlt

# 0x200: return with all registers, by the frame on the stack.
.org 0x200
    iretq

# 0x210: return from a system call.
.org 0x210
    sysretq

# 0x220: the same as 0x200, after a switch to the page tables in rax.
.org 0x220
    mov cr3, rax
    pop rax
    iretq

# 0x300: `syscall` from 32-bit code.
.org 0x300
    hlt

# 0x380: `int 0x80`.
.org 0x380
    hlt

# 0x400: the 32 exceptions. The sentry reads the frame on the stack.
.org 0x400
.rept 32
    .balign 16, 0xf4
    hlt
.endr
    .balign 16, 0xf4
.org 0x600

# 0x800: the trampoline, run by user code on hosts where `syscall` stays in ring 3 (see src/quirks.rs). Each guest
# address space maps a copy of its own, with its own constant results at 0xc00, the last of them for sched_yield(2). The
# first word of a pair is the negated call number. The flags are preserved; r11 is free, since `syscall` has overwritten
# it.
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
# 0x920: no constant result. If the sentry listens at the mailbox (the page before this one), write all registers there
# and wait for the result. Otherwise, or if that takes too long, exit. The words of the mailbox are those of
# src/mailbox.rs.
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

# 0x947: from here on, the stack pointer is not the guest's.
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

# 0x9ef: from here on, the call is handed over, and the flags are not the guest's.
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
