//! The stack frame of a signal handler, and the return from it: see sigreturn(2).

use amber_abi::sigframe::{
    FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FP_XSTATE_MAGIC2_SIZE, FpState, FpxSwBytes, RED_ZONE, RtSigFrame, SigContext,
    UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, UContext, XSAVE_HEADER, XSAVE_HEADER_END, XSAVE_SOFTWARE,
};
use amber_abi::signal::{SaFlags, SigAction, SsFlags, StackT};
use amber_abi::{Errno, SigInfo, Signal, SignalSet};
use amber_platform::FpuState;
use zerocopy::IntoBytes;

use crate::signal::deliver::fail_frame;
use crate::task::{AltStack, TaskContext};

/// The part of the XSAVE header that XRSTOR ignores but the host refuses unless zero.
const XSTATE_IGNORED: std::ops::Range<usize> = XSAVE_HEADER + 24..XSAVE_HEADER_END;
/// The legacy components: x87 and SSE.
const LEGACY_FEATURES: u64 = 3;
/// The components whose restore loads MXCSR: SSE and AVX.
const USES_MXCSR: u64 = 6;
/// The offset of MXCSR, and its value after execve(2).
const MXCSR: usize = 24;
const INITIAL_MXCSR: u32 = 0x1f80;
/// Flags that the return from a handler may change: AC, OF, DF, TF, SF, ZF, AF, PF, CF, RF.
const RESTORABLE_FLAGS: u64 = 0x5_0dd5;
/// Flags cleared for a handler: TF, DF, RF.
const FLAGS_CLEARED: u64 = 0x1_0500;
/// User-mode selectors: the 64-bit code segment, the 32-bit one, and the stack segment.
const USER_CS: u64 = 0x33;
const USER32_CS: u64 = 0x23;
const USER_SS: u64 = 0x2b;
/// The first non-canonical address.
const CANONICAL_END: u64 = 1 << 47;
/// The vsyscall page in the upper half, whose calls the kernel emulates.
const VSYSCALL_PAGE: std::ops::Range<u64> = 0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000;

/// Whether guest code can run at an address. It may have been interrupted in the vsyscall page.
fn can_go_on_at(rip: u64) -> bool {
    rip < CANONICAL_END || VSYSCALL_PAGE.contains(&rip)
}

/// Writes a frame to the guest's stack, and sets the registers for the handler's first instruction.
///
/// # Errors
/// `EFAULT` if the frame cannot be written; the registers are then unchanged.
pub(super) fn push_frame(
    ctx: &mut TaskContext,
    signal: Signal,
    info: &SigInfo,
    action: &SigAction,
    mask: SignalSet,
) -> Result<(), Errno> {
    let flags = action.flags();
    if !flags.contains(SaFlags::SA_RESTORER) {
        return Err(Errno::EFAULT.here());
    }
    let registers = ctx.registers;
    let stack = ctx.thread.alt_stack;
    let nested = stack.contains(registers.rsp);
    let mut sp = registers.rsp.wrapping_sub(RED_ZONE);
    let mut switched = nested;
    if flags.contains(SaFlags::SA_ONSTACK) && stack.size > 0 && !stack.contains(sp) {
        sp = stack.start.wrapping_add(stack.size);
        switched = true;
    }
    let state = fpu_image(ctx)?;
    sp = sp.wrapping_sub(state.len() as u64) & !63;
    let fpstate = sp;
    sp = (sp.wrapping_sub(size_of::<RtSigFrame>() as u64) & !15).wrapping_sub(8);
    if switched && !stack.holds(sp) {
        return Err(Errno::EFAULT.here());
    }
    let frame = RtSigFrame {
        pretcode: action.sa_restorer,
        uc: UContext {
            uc_flags: UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
            uc_link: 0,
            uc_stack: StackT {
                ss_sp: stack.start,
                ss_flags: stack.flags.bits(),
                ss_size: stack.size,
                ..StackT::default()
            },
            uc_mcontext: SigContext { fpstate, oldmask: mask.0, ..machine_context(ctx) },
            uc_sigmask: mask,
        },
        info: *info,
    };
    let with_info = flags.contains(SaFlags::SA_SIGINFO);
    let length = if with_info { size_of::<RtSigFrame>() } else { size_of::<RtSigFrame>() - size_of::<SigInfo>() };
    ctx.write_bytes(fpstate, &state)?;
    ctx.write_bytes(sp, frame.as_bytes().get(..length).unwrap_or_default())?;
    ctx.platform.reset_fpu_state().map_err(|_| Errno::EFAULT.here())?;
    if stack.flags.contains(SsFlags::SS_AUTODISARM) {
        ctx.thread.alt_stack = AltStack::default();
    }
    let registers = &mut ctx.registers;
    registers.rdi = signal.raw() as u64;
    registers.rax = 0;
    registers.rsi = sp.wrapping_add(std::mem::offset_of!(RtSigFrame, info) as u64);
    registers.rdx = sp.wrapping_add(std::mem::offset_of!(RtSigFrame, uc) as u64);
    registers.rip = action.sa_handler;
    registers.rsp = sp;
    registers.cs = USER_CS;
    registers.ss = USER_SS;
    registers.eflags &= !FLAGS_CLEARED;
    registers.orig_rax = u64::MAX;
    if !can_go_on_at(registers.rip) {
        fail_frame(ctx, Signal::SIGSEGV);
    }
    Ok(())
}

/// The general registers in the frame.
fn machine_context(ctx: &TaskContext) -> SigContext {
    let r = &ctx.registers;
    let fault = &ctx.thread.last_fault;
    SigContext {
        r8: r.r8,
        r9: r.r9,
        r10: r.r10,
        r11: r.r11,
        r12: r.r12,
        r13: r.r13,
        r14: r.r14,
        r15: r.r15,
        di: r.rdi,
        si: r.rsi,
        bp: r.rbp,
        bx: r.rbx,
        dx: r.rdx,
        ax: r.rax,
        cx: r.rcx,
        sp: r.rsp,
        ip: r.rip,
        flags: r.eflags,
        cs: r.cs as u16,
        ss: r.ss as u16,
        err: fault.error,
        trapno: fault.vector,
        cr2: fault.address,
        ..SigContext::default()
    }
}

/// The FPU state in the frame, with Linux's magic numbers.
fn fpu_image(ctx: &mut TaskContext) -> Result<Vec<u8>, Errno> {
    let FpuState(mut image) = ctx.platform.fpu_state().map_err(|_| Errno::EFAULT.here())?;
    let size = image.len();
    if size < XSAVE_HEADER_END {
        return Ok(image);
    }
    let features = features_of(&image);
    let mark = FpxSwBytes {
        magic1: FP_XSTATE_MAGIC1,
        extended_size: (size + FP_XSTATE_MAGIC2_SIZE) as u32,
        xfeatures: features,
        xstate_size: size as u32,
        ..FpxSwBytes::default()
    };
    put(&mut image, XSAVE_SOFTWARE, mark.as_bytes());
    // Legacy components are in the image even in their initial state.
    let present = word(&image, XSAVE_HEADER) | LEGACY_FEATURES;
    put(&mut image, XSAVE_HEADER, &present.to_le_bytes());
    image.extend_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
    Ok(image)
}

/// The features that a state in XSAVE layout can have, from the bytes reserved for software. Without them, those
/// present.
fn features_of(image: &[u8]) -> u64 {
    match word(image, XSAVE_SOFTWARE) {
        0 => word(image, XSAVE_HEADER) | LEGACY_FEATURES,
        features => features,
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// rt_sigreturn(2): restores registers, signal mask and alternate stack from the frame at the stack pointer, except
/// what a frame may not set. An invalid frame raises SIGSEGV.
pub(crate) fn restore_frame(ctx: &mut TaskContext) -> u64 {
    // The call itself is never restarted.
    let at = ctx.registers.rsp.wrapping_sub(8);
    let restored = ctx.read_object::<RtSigFrame>(at).and_then(|frame| restore(ctx, &frame));
    ctx.registers.orig_rax = u64::MAX;
    if restored.is_err() {
        force_segv(ctx);
    }
    ctx.registers.rax
}

fn force_segv(ctx: &TaskContext) {
    fail_frame(ctx, Signal::SIGTERM);
}

fn restore(ctx: &mut TaskContext, frame: &RtSigFrame) -> Result<(), Errno> {
    let context = &frame.uc.uc_mcontext;
    ctx.set_blocked_signals(frame.uc.uc_sigmask);
    let r = &mut ctx.registers;
    (r.r8, r.r9, r.r10, r.r11) = (context.r8, context.r9, context.r10, context.r11);
    (r.r12, r.r13, r.r14, r.r15) = (context.r12, context.r13, context.r14, context.r15);
    (r.rdi, r.rsi, r.rbp, r.rbx) = (context.di, context.si, context.bp, context.bx);
    (r.rdx, r.rax, r.rcx, r.rsp) = (context.dx, context.ax, context.cx, context.sp);
    r.rip = context.ip;
    r.eflags = (r.eflags & !RESTORABLE_FLAGS) | (context.flags & RESTORABLE_FLAGS);
    let cs = u64::from(context.cs) | 3;
    let ss = u64::from(context.ss) | 3;
    // Invalid selectors and non-canonical addresses fault on the return to guest code.
    let loadable = matches!(cs, USER_CS | USER32_CS);
    if loadable {
        r.cs = cs;
    }
    let strict = frame.uc.uc_flags & UC_STRICT_RESTORE_SS != 0;
    let stack_loadable = ss == USER_SS || !strict;
    r.ss = USER_SS;
    restore_fpu_state(ctx, context.fpstate)?;
    // As on Linux, an invalid alternate stack is ignored.
    let _ = set_alt_stack(ctx, &frame.uc.uc_stack);
    if !loadable || !stack_loadable || !can_go_on_at(ctx.registers.rip) {
        return Err(Errno::EFAULT.here());
    }
    Ok(())
}

fn restore_fpu_state(ctx: &mut TaskContext, at: u64) -> Result<(), Errno> {
    if at == 0 {
        return ctx.platform.reset_fpu_state().map_err(|_| Errno::EFAULT.here());
    }
    if at & 63 != 0 {
        return Err(Errno::EFAULT.here());
    }
    let FpuState(mut image) = ctx.platform.fpu_state().map_err(|_| Errno::EFAULT.here())?;
    let size = image.len();
    let supported = features_of(&image);
    let legacy: FpState = ctx.read_object(at)?;
    let mark = legacy.sw_reserved;
    let given = mark.xstate_size as usize;
    let marked = size >= XSAVE_HEADER_END
        && mark.magic1 == FP_XSTATE_MAGIC1
        && given >= XSAVE_HEADER_END
        && given <= size
        && mark.xstate_size <= mark.extended_size
        && ctx.read_object::<u32>(at.wrapping_add(given as u64)).is_ok_and(|magic| magic == FP_XSTATE_MAGIC2);
    let features = if marked { mark.xfeatures & supported } else { LEGACY_FEATURES };
    let software = image.get(XSAVE_SOFTWARE..XSAVE_HEADER).map(<[u8]>::to_vec).unwrap_or_default();
    if marked {
        let mut bytes = vec![0; given];
        ctx.read_bytes(at, &mut bytes)?;
        image.fill(0);
        put(&mut image, 0, &bytes);
    } else {
        image.fill(0);
        put(&mut image, 0, legacy.as_bytes());
    }
    put(&mut image, XSAVE_SOFTWARE, &software);
    // XRSTOR refuses unknown components and reserved bytes of the header.
    let header = |at| word(&image, XSAVE_HEADER + at);
    if marked && (header(0) & !supported != 0 || header(8) != 0 || header(16) != 0) {
        return Err(Errno::EFAULT.here());
    }
    if size >= XSAVE_HEADER_END {
        let present = if marked { word(&image, XSAVE_HEADER) & features } else { features };
        put(&mut image, XSAVE_HEADER, &present.to_le_bytes());
        put(&mut image, XSTATE_IGNORED.start, &[0; XSTATE_IGNORED.end - XSTATE_IGNORED.start]);
        if features & USES_MXCSR == 0 {
            put(&mut image, MXCSR, &INITIAL_MXCSR.to_le_bytes());
        }
    }
    ctx.platform.set_fpu_state(&FpuState(image)).map_err(|_| Errno::EFAULT.here())
}

/// Changes the alternate signal stack, for sigaltstack(2).
///
/// # Errors
/// `EPERM` while the task runs on it, `EINVAL` for unknown flags, `ENOMEM` if it is too small.
pub(crate) fn set_alt_stack(ctx: &mut TaskContext, new: &StackT) -> Result<(), Errno> {
    if ctx.thread.alt_stack.contains(ctx.registers.rsp) {
        return Err(Errno::EPERM.here());
    }
    let flags = SsFlags::from_bits_retain(new.ss_flags);
    let mode = flags.difference(SsFlags::SS_AUTODISARM);
    ctx.thread.alt_stack = if mode == SsFlags::SS_DISABLE {
        AltStack { start: 0, size: 0, flags }
    } else if mode.is_empty() || mode == SsFlags::SS_ONSTACK {
        if new.ss_size < amber_abi::signal::MINSIGSTKSZ {
            return Err(Errno::ENOMEM.here());
        }
        AltStack { start: new.ss_sp, size: new.ss_size, flags }
    } else {
        return Err(Errno::EINVAL.here());
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    #[test]
    fn marks_are_found_in_an_image() {
        let mut image = vec![0; 832];
        assert_eq!(features_of(&image), LEGACY_FEATURES);
        put(&mut image, XSAVE_SOFTWARE, &7u64.to_le_bytes());
        assert_eq!(features_of(&image), 7);
        assert!(FpState::read_from_bytes(&image[..512]).is_ok());
    }
}
