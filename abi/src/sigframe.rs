//! What a signal handler finds on its stack, and how the floating-point state lies in memory.

use crate::siginfo::SigInfo;
use crate::signal::{SignalSet, StackT};

layout! {
    /// The general registers in a signal frame: the kernel's `struct sigcontext`.
    pub struct SigContext: 256 {
        r8: u64,
        r9: u64,
        r10: u64,
        r11: u64,
        r12: u64,
        r13: u64,
        r14: u64,
        r15: u64,
        di: u64,
        si: u64,
        bp: u64,
        bx: u64,
        dx: u64,
        ax: u64,
        cx: u64,
        sp: u64,
        ip: u64,
        flags: u64,
        cs: u16,
        gs: u16,
        fs: u16,
        /// Valid if [`UC_SIGCONTEXT_SS`] is set.
        ss: u16,
        /// The processor's error code of the fault.
        err: u64,
        /// The processor's number of the fault.
        trapno: u64,
        oldmask: u64,
        /// The address of the last page fault.
        cr2: u64,
        /// The guest address of the floating-point state, or null.
        fpstate: u64,
        reserved1: [u64; 8],
    }

    /// `ucontext_t` as the kernel writes it.
    pub struct UContext: 304 {
        /// The `UC_` bits.
        uc_flags: u64,
        uc_link: u64,
        uc_stack: StackT,
        uc_mcontext: SigContext,
        uc_sigmask: SignalSet,
    }

    /// The frame `rt_sigreturn` expects at the stack pointer, less the return address that was popped.
    pub struct RtSigFrame: 440 {
        /// The address of the restorer, to which the handler returns.
        pretcode: u64,
        uc: UContext,
        info: SigInfo,
    }

    /// The legacy 512 bytes of the floating-point state: what `fxsave` writes, with the kernel's mark at the end.
    pub struct FpState: 512 {
        cwd: u16,
        swd: u16,
        twd: u16,
        fop: u16,
        rip: u64,
        rdp: u64,
        mxcsr: u32,
        mxcr_mask: u32,
        st_space: [u32; 32],
        xmm_space: [u32; 64],
        reserved2: [u32; 12],
        sw_reserved: FpxSwBytes,
    }

    /// The mark by which a program knows that extended state follows the legacy 512 bytes.
    pub struct FpxSwBytes: 48 {
        /// [`FP_XSTATE_MAGIC1`].
        magic1: u32,
        /// The whole size, [`FP_XSTATE_MAGIC2_SIZE`] included.
        extended_size: u32,
        /// The features whose state is present.
        xfeatures: u64,
        /// The size without the second magic number.
        xstate_size: u32,
        padding: [u32; 7],
    }

    /// The header of the extended state, right after the legacy 512 bytes.
    pub struct XstateHeader: 64 {
        xfeatures: u64,
        xcomp_bv: u64,
        reserved: [u64; 6],
    }
}

consts! { u32:
    FP_XSTATE_MAGIC1 = 0x46505853,
    FP_XSTATE_MAGIC2 = 0x46505845,
}

consts! { usize:
    FP_XSTATE_MAGIC2_SIZE = 4,
}

consts! { u64:
    UC_FP_XSTATE = 0x1,
    UC_SIGCONTEXT_SS = 0x2,
    UC_STRICT_RESTORE_SS = 0x4,
}

/// Offset of the bytes for software in the XSAVE layout: the kernel's mark in signal frames, XCR0 in the regset
/// `NT_X86_XSTATE` of ptrace(2).
pub const XSAVE_SOFTWARE: usize = core::mem::offset_of!(FpState, sw_reserved);
/// Offset of the XSAVE header, behind the legacy state.
pub const XSAVE_HEADER: usize = size_of::<FpState>();
/// End of the XSAVE header.
pub const XSAVE_HEADER_END: usize = XSAVE_HEADER + size_of::<XstateHeader>();

/// How many bytes below the stack pointer a function may use unasked; a signal frame starts below them.
pub const RED_ZONE: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts() {
        assert_eq!(offset_of!(UContext, uc_mcontext), offset_of!(libc::ucontext_t, uc_mcontext));
        assert_eq!(offset_of!(UContext, uc_sigmask), offset_of!(libc::ucontext_t, uc_sigmask));
        assert_eq!(offset_of!(SigContext, ip), 8 * libc::REG_RIP as usize);
        assert_eq!(offset_of!(SigContext, cr2), 8 * libc::REG_CR2 as usize);
        assert_eq!((XSAVE_SOFTWARE, XSAVE_HEADER, XSAVE_HEADER_END), (464, 512, 576));
    }
}
