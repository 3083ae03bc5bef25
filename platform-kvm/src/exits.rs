//! Decodes exits: what the guest did, and its registers.

use std::io::ErrorKind;
use std::ops::Range;

use amber_platform::{Access, PlatformError, Registers, Trap};
use kvm_bindings::kvm_regs;

use crate::layout::{AREA_BYTES, AREAS, COMMON, MAX_VCPUS, TRAMPOLINE, code, selector};
use crate::machine::Machine;
use crate::platform_error;
use crate::quirks::{InvalidOpcode, classify_invalid_opcode};
use crate::space::Space;
use crate::vcpu::{Core, ExitReason, PortAccess, user_flags};

/// `si_code` of a signal from the kernel without a particular cause.
const SI_KERNEL: i32 = 0x80;
/// `si_code` of a SIGSEGV for an access that protection keys forbid, and the bit of the page fault's error code.
const SEGV_PKUERR: i32 = 4;
const PROTECTION_KEY: u64 = 1 << 5;
/// The entries of the vsyscall page and their system calls.
const VSYSCALLS: [(u64, i64); 3] = [
    (0xffff_ffff_ff60_0000, libc::SYS_gettimeofday),
    (0xffff_ffff_ff60_0400, libc::SYS_time),
    (0xffff_ffff_ff60_0800, libc::SYS_getcpu),
];

/// The addresses of the trampoline's instructions, and of the one after them.
const TRAMPOLINE_CODE: Range<u64> = TRAMPOLINE + code::TRAMPOLINE..TRAMPOLINE + code::TRAMPOLINE_END;

/// Bytes that the trampoline writes to its port.
const TRAMPOLINE_OUT: usize = 1;

/// A decoded exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// The guest trapped.
    Trap(Trap),
    /// No trap; the guest's registers are known.
    NoTrap,
    /// The guest has not executed an instruction.
    NotStarted,
    /// The vCPU is in the stub, on its way to a trap. Run it again as it is.
    Resume,
}

/// Exception vectors.
mod vector {
    pub(super) const DIVIDE: u64 = 0;
    pub(super) const DEBUG: u64 = 1;
    pub(super) const BREAKPOINT: u64 = 3;
    pub(super) const INVALID: u64 = 6;
    pub(super) const DOUBLE_FAULT: u64 = 8;
    pub(super) const NOT_PRESENT: u64 = 11;
    pub(super) const STACK: u64 = 12;
    pub(super) const PAGE_FAULT: u64 = 14;
    pub(super) const FLOATING: u64 = 16;
    pub(super) const ALIGNMENT: u64 = 17;
    pub(super) const SIMD: u64 = 19;
}

/// Mask of the exceptions with an error code.
const WITH_ERROR: u64 =
    1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// Copies the registers. The caller sets `rip`, the flags, and the selectors CS and SS.
fn take(core: &mut Core, r: &mut Registers) -> kvm_regs {
    let (regs, sregs) = core.state();
    let regs = *regs;
    *r = Registers {
        r15: regs.r15,
        r14: regs.r14,
        r13: regs.r13,
        r12: regs.r12,
        rbp: regs.rbp,
        rbx: regs.rbx,
        r11: regs.r11,
        r10: regs.r10,
        r9: regs.r9,
        r8: regs.r8,
        rax: regs.rax,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        orig_rax: u64::MAX,
        rip: regs.rip,
        cs: u64::from(sregs.cs.selector),
        eflags: user_flags(regs.rflags),
        rsp: regs.rsp,
        ss: u64::from(sregs.ss.selector),
        fs_base: sregs.fs.base,
        gs_base: sregs.gs.base,
        ds: u64::from(sregs.ds.selector),
        es: u64::from(sregs.es.selector),
        fs: u64::from(sregs.fs.selector),
        gs: u64::from(sregs.gs.selector),
    };
    regs
}

/// Makes the registers those of a system call that returns to `rip`.
fn call(r: &mut Registers) -> Decoded {
    (r.cs, r.ss) = (u64::from(selector::USER_CODE), u64::from(selector::USER_DATA));
    (r.rcx, r.r11, r.orig_rax) = (r.rip, r.eflags, r.rax);
    Decoded::Trap(Trap::Syscall)
}

/// Decodes an exit and sets `r` to the guest's registers.
///
/// # Errors
/// The vCPU is in an unexpected state.
pub(crate) fn decode(
    core: &mut Core,
    exit: ExitReason,
    space: &Space,
    machine: &Machine,
    r: &mut Registers,
) -> Result<Decoded, PlatformError> {
    if exit == ExitReason::KickedInException {
        return Ok(Decoded::Resume);
    }
    let (regs, sregs) = core.state();
    let (rip, ring_3) = (regs.rip, sregs.cs.selector & 3 == 3);
    if ring_3 {
        take(core, r);
        let in_trampoline = space.answers().is_some() && TRAMPOLINE_CODE.contains(&rip);
        if let ExitReason::Port(access) = exit
            && (!in_trampoline || access.out != TRAMPOLINE_OUT)
        {
            // Not the trampoline's own `out`, but another instruction that begins inside one of its instructions.
            core.finish_port_access()?;
        }
        if in_trampoline {
            return Ok(trampoline_call(rip - TRAMPOLINE, r));
        }
        return Ok(match exit {
            ExitReason::Kicked | ExitReason::KickedInException => Decoded::NoTrap,
            // Another access to the trampoline's port. For the guest, no port is allowed.
            ExitReason::Port(access) => {
                undo_port_access(access, space, machine, r);
                segmentation()
            }
            ExitReason::Halted => segmentation(),
        });
    }
    let Some(offset) = stub_offset(rip) else {
        return Err(platform_error(format_args!("unexpected exit in ring 0 at {rip:#x}"), ErrorKind::InvalidData));
    };
    match offset {
        // The call number is in rax until a constant result replaces it.
        code::SYSCALL..code::HIT => Ok(kernel_call(core, r)),
        code::HIT..code::HIT_END if (offset - code::HIT).is_multiple_of(16) => Ok(kernel_call(core, r)),
        code::HIT..code::HIT_END => {
            kernel_call(core, r);
            r.orig_rax = u64::MAX;
            Ok(Decoded::NoTrap)
        }
        // On the way to the guest; its registers are those given.
        code::IRET..code::BACK_END => {
            core.reset_tlb_generation();
            r.orig_rax = u64::MAX;
            Ok(Decoded::NotStarted)
        }
        _ if exit != ExitReason::Halted => Ok(Decoded::Resume),
        code::SYSCALL32..code::INT80 => {
            kernel_call(core, r);
            r.cs = u64::from(selector::USER_CODE32);
            Ok(Decoded::Trap(Trap::Syscall32))
        }
        code::INT80..code::EXCEPTIONS => {
            frame(core, r, false)?;
            r.orig_rax = r.rax;
            Ok(Decoded::Trap(Trap::Syscall32))
        }
        code::EXCEPTIONS..code::EXCEPTIONS_END => exception((offset - code::EXCEPTIONS) / 16, core, space, machine, r),
        _ => Err(platform_error(format_args!("the stub halted at {offset:#x}"), ErrorKind::InvalidData)),
    }
}

/// Offset in the stub of an address in the kernel half.
fn stub_offset(rip: u64) -> Option<u64> {
    let page = rip & !0xfff;
    let area = page.checked_sub(AREAS).is_some_and(|at| at.is_multiple_of(AREA_BYTES) && at / AREA_BYTES < MAX_VCPUS);
    (page == COMMON || area).then_some(rip & 0xfff)
}

/// A system call that entered ring 0 with the guest's `rip` in rcx and its flags in r11.
fn kernel_call(core: &mut Core, r: &mut Registers) -> Decoded {
    let regs = take(core, r);
    (r.rip, r.eflags) = (regs.rcx, user_flags(regs.r11));
    call(r)
}

/// Decodes an exit at an offset of the trampoline's page: a system call, or one that has its constant result.
fn trampoline_call(offset: u64, r: &mut Registers) -> Decoded {
    if offset >= code::TRAMPOLINE_EXIT {
        r.rip = r.rcx;
        return call(r);
    }
    let at = (offset - code::TRAMPOLINE) % code::TRAMPOLINE_STRIDE;
    let exchanged = matches!(at, code::EXCHANGED..code::EXCHANGED_BACK | code::KNOWN..);
    r.rip = if exchanged { r.r11 } else { r.rcx };
    if at >= code::ANSWERED {
        (r.cs, r.ss) = (u64::from(selector::USER_CODE), u64::from(selector::USER_DATA));
        return Decoded::NoTrap;
    }
    call(r)
}

/// Undoes an `out` that the guest must not make. KVM exits after the instruction, or within it if it is repeated. `in`
/// has had no effect yet.
fn undo_port_access(access: PortAccess, space: &Space, machine: &Machine, r: &mut Registers) {
    const OPERAND_SIZE: u8 = 0x66;
    const REPEAT: [u8; 2] = [0xf2, 0xf3];
    const DIRECTION: u64 = 1 << 10;
    let PortAccess { port, out } = access;
    if out == 0 {
        return;
    }
    let byte = |at: u64| user_bytes::<1>(space, machine, at).map_or(0, |[byte]| byte);
    let behind = |n: u64| byte(r.rip.wrapping_sub(n));
    let at_dx = r.rdx as u16 == port;
    let (length, is_string) = match (behind(2), behind(1)) {
        (0xe6 | 0xe7, number) if u16::from(number) == port => (2, false),
        (_, 0xee | 0xef) if at_dx => (1, false),
        (_, 0x6e | 0x6f) if at_dx => (1, true),
        _ if REPEAT.contains(&byte(r.rip)) || byte(r.rip) == OPERAND_SIZE => (0, true),
        _ => return,
    };
    if is_string {
        let moved = out as u64;
        r.rsi = if r.eflags & DIRECTION == 0 { r.rsi.wrapping_sub(moved) } else { r.rsi.wrapping_add(moved) };
    }
    if length == 0 {
        let code = [byte(r.rip), byte(r.rip.wrapping_add(1)), byte(r.rip.wrapping_add(2))];
        let size = match (code.contains(&0x6e), code.contains(&OPERAND_SIZE)) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 4,
        };
        r.rcx = r.rcx.wrapping_add(out as u64 / size);
        return;
    }
    let prefix = behind(length + 1);
    let prefixed = prefix == OPERAND_SIZE || is_string && REPEAT.contains(&prefix);
    r.rip = r.rip.wrapping_sub(length + u64::from(prefixed));
    if is_string && REPEAT.contains(&prefix) {
        // This was the last iteration, which left rcx at zero.
        r.rcx = r.rcx.wrapping_add(1);
    }
}

fn segmentation() -> Decoded {
    Decoded::Trap(Trap::Exception { signal: libc::SIGSEGV, code: SI_KERNEL, address: 0 })
}

/// Takes the registers from the exception frame on the ring-0 stack. Returns the error code, and whether the exception
/// came from user code.
fn frame(core: &mut Core, r: &mut Registers, with_error: bool) -> Result<(u64, bool), PlatformError> {
    let given = *r;
    let regs = take(core, r);
    let word = |i: u64| {
        core.data_word(regs.rsp.wrapping_add(i * 8)).ok_or_else(|| {
            platform_error(format_args!("an exception with its stack at {:#x}", regs.rsp), ErrorKind::InvalidData)
        })
    };
    let first = u64::from(with_error);
    let error = if with_error { word(0)? } else { 0 };
    let [rip, cs, flags, rsp, ss] =
        [word(first)?, word(first + 1)?, word(first + 2)?, word(first + 3)?, word(first + 4)?];
    if cs & 3 == 0 {
        let back = stub_offset(rip).is_some_and(|offset| (code::IRET..code::BACK_END).contains(&offset));
        if !back {
            return Err(platform_error(format_args!("an exception in ring 0 at {rip:#x}"), ErrorKind::InvalidData));
        }
        // The return to the guest failed because of the registers the guest asked for.
        *r = Registers { orig_rax: u64::MAX, ..given };
        return Ok((error, false));
    }
    (r.rip, r.cs, r.eflags, r.rsp, r.ss) = (rip, cs, user_flags(flags), rsp, ss);
    Ok((error, true))
}

/// A load of SS defers a debug exception until after the next instruction, which may have entered ring 0. If so,
/// continues where the exception occurred and returns true. The exception is lost, as on Linux.
fn resume_after_deferred_debug(core: &mut Core) -> bool {
    let frame = core.state().0.rsp;
    let [rip, cs, flags, rsp] = [0, 8, 16, 24].map(|i| core.data_word(frame.wrapping_add(i)).unwrap_or(0));
    let entries = [code::SYSCALL..code::HIT, code::SYSCALL32..code::EXCEPTIONS_END];
    let entered = cs & 3 == 0 && stub_offset(rip).is_some_and(|offset| entries.iter().any(|e| e.contains(&offset)));
    if entered {
        core.resume_at(rip, flags, rsp);
    }
    entered
}

fn exception(
    number: u64,
    core: &mut Core,
    space: &Space,
    machine: &Machine,
    r: &mut Registers,
) -> Result<Decoded, PlatformError> {
    if number == vector::DEBUG && resume_after_deferred_debug(core) {
        return Ok(Decoded::Resume);
    }
    let (error, users) = frame(core, r, WITH_ERROR >> number & 1 != 0)?;
    if !users {
        core.reset_tlb_generation();
        return Ok(segmentation());
    }
    if space.answers().is_some()
        && TRAMPOLINE_CODE.contains(&r.rip)
        && (number == vector::DEBUG || number == vector::PAGE_FAULT && error & PROTECTION_KEY != 0)
    {
        // A single step into the trampoline, or protection keys that forbid the thread to read there. The system call
        // comes first.
        return Ok(trampoline_call(r.rip - TRAMPOLINE, r));
    }
    if number == vector::DOUBLE_FAULT {
        return Err(platform_error(format_args!("a double fault at {:#x}", r.rip), ErrorKind::InvalidData));
    }
    if number == vector::PAGE_FAULT {
        let address = core.state().1.cr2;
        return Ok(Decoded::Trap(page_fault(error, address, space, machine, r)));
    }
    let rip = r.rip;
    let (signal, code, address) = match number {
        vector::DIVIDE => (libc::SIGFPE, 1, rip),
        vector::DEBUG => (libc::SIGTRAP, core.debug_cause(r)?, rip),
        vector::BREAKPOINT => (libc::SIGTRAP, SI_KERNEL, 0),
        vector::INVALID => {
            let bytes = user_bytes(space, machine, rip);
            match classify_invalid_opcode(machine.quirks(), bytes.map_or([0, 0], |word: [u8; 2]| word)) {
                InvalidOpcode::Int80 => {
                    (r.rip, r.orig_rax) = (rip + 2, r.rax);
                    return Ok(Decoded::Trap(Trap::Syscall32));
                }
                InvalidOpcode::SoftwareInterrupt => (libc::SIGSEGV, SI_KERNEL, 0),
                InvalidOpcode::Undefined => (libc::SIGILL, 2, rip),
            }
        }
        vector::NOT_PRESENT | vector::STACK => (libc::SIGBUS, SI_KERNEL, 0),
        vector::FLOATING | vector::SIMD => (libc::SIGFPE, fpu_code(core, number)?, rip),
        vector::ALIGNMENT => (libc::SIGBUS, 1, 0),
        _ => (libc::SIGSEGV, SI_KERNEL, 0),
    };
    Ok(Decoded::Trap(Trap::Exception { signal, code, address }))
}

fn page_fault(error: u64, address: u64, space: &Space, machine: &Machine, r: &mut Registers) -> Trap {
    if r.rip == address
        && let Some((_, number)) = VSYSCALLS.iter().find(|(entry, _)| *entry == address)
        && let Some(caller) = user_bytes(space, machine, r.rsp)
    {
        // Return to the caller, as the code in Linux's vsyscall page would.
        r.rip = u64::from_le_bytes(caller);
        r.rsp = r.rsp.wrapping_add(8);
        (r.rax, r.orig_rax) = (*number as u64, *number as u64);
        return Trap::Syscall;
    }
    if error & PROTECTION_KEY != 0 {
        return Trap::Exception { signal: libc::SIGSEGV, code: SEGV_PKUERR, address };
    }
    let access = match error {
        _ if error & 1 << 4 != 0 => Access::Execute,
        _ if error & 1 << 1 != 0 => Access::Write,
        _ => Access::Read,
    };
    Trap::PageFault { address, access }
}

/// Reads bytes that user code could read, within one page.
fn user_bytes<const N: usize>(space: &Space, machine: &Machine, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        let offset = machine.guest_offset(space.find(address.checked_add(i as u64)?)?)?;
        machine.memory().read(offset, std::slice::from_mut(byte));
    }
    Some(bytes)
}

/// `si_code` of a floating-point exception, from the FPU's status.
fn fpu_code(core: &Core, number: u64) -> Result<i32, PlatformError> {
    let state = core.fd.get_xsave().map_err(|e| platform_error("reading the FPU state", e))?;
    let errors = if number == vector::SIMD {
        let control = state.region[6];
        !(control >> 7) & control
    } else {
        let (control, status) = (state.region[0] & 0xffff, state.region[0] >> 16);
        status & !control
    };
    Ok(match errors {
        _ if errors & 1 != 0 => 7,
        _ if errors & 4 != 0 => 3,
        _ if errors & 8 != 0 => 4,
        _ if errors & 0x12 != 0 => 5,
        _ if errors & 0x20 != 0 => 6,
        _ => 0,
    })
}
