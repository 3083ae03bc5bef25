//! Properties of the host's processor, as Linux reports them to programs.

/// `AT_HWCAP`: the feature bits of CPUID leaf 1, EDX.
pub fn capabilities() -> u64 {
    auxiliary(libc::AT_HWCAP)
}

/// `AT_HWCAP2`: what the host's kernel has enabled for user programs, such as `wrfsbase`.
pub fn further_capabilities() -> u64 {
    auxiliary(libc::AT_HWCAP2)
}

/// `AT_MINSIGSTKSZ`: size of a signal frame with all vector state in bytes; 0 if the host does not report it.
pub fn signal_frame_size() -> u64 {
    auxiliary(libc::AT_MINSIGSTKSZ)
}

/// The time-stamp counter, read after all earlier loads.
pub fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has both instructions, and they touch only registers.
    unsafe {
        std::arch::x86_64::_mm_lfence();
        std::arch::x86_64::_rdtsc()
    }
}

/// The bits of MXCSR that may be set.
pub fn mxcsr_mask() -> u32 {
    #[repr(C, align(16))]
    struct Area([u8; 512]);
    let mut area = Area([0; 512]);
    // SAFETY: every x86-64 processor has the instruction, which writes 512 aligned bytes; the area has them.
    unsafe { std::arch::x86_64::_fxsave64(area.0.as_mut_ptr()) };
    let bytes = [28, 29, 30, 31].map(|i| area.0[i]);
    u32::from_le_bytes(bytes)
}

fn auxiliary(kind: libc::c_ulong) -> u64 {
    // SAFETY: getauxval reads the auxiliary vector of this process, whatever the kind.
    unsafe { libc::getauxval(kind) }
}
