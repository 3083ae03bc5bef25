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
# address space maps a copy of its own, with its own constant results at 0xc00. The first word of a pair is the negated
# call number. The flags are preserved; r11 is free, since `syscall` has overwritten it.
.org 0x800
.set i, 0
.rept 8
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
# 0x900: no constant result: an exit.
    out 0x10, al
    ud2
.org 0xc00
