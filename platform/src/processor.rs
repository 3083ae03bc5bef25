//! What the host's processor offers to guest programs, as Linux tells them.

/// `AT_HWCAP`: the feature bits of CPUID leaf 1, EDX.
pub fn capabilities() -> u64 {
    auxiliary(libc::AT_HWCAP)
}

/// `AT_HWCAP2`: what the host's kernel has switched on for user programs, such as `wrfsbase`.
pub fn further_capabilities() -> u64 {
    auxiliary(libc::AT_HWCAP2)
}

/// `AT_MINSIGSTKSZ`: the bytes a signal frame takes with all vector state, or 0 if the host does not say.
pub fn signal_frame_size() -> u64 {
    auxiliary(libc::AT_MINSIGSTKSZ)
}

/// The time-stamp counter, ordered after the loads before it.
pub fn time_stamp() -> u64 {
    // SAFETY: both instructions are of every x86-64 processor and touch only registers.
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
    // SAFETY: the instruction is of every x86-64 processor and writes 512 aligned bytes, which the area has.
    unsafe { std::arch::x86_64::_fxsave64(area.0.as_mut_ptr()) };
    let bytes = [28, 29, 30, 31].map(|i| area.0[i]);
    u32::from_le_bytes(bytes)
}

fn auxiliary(kind: libc::c_ulong) -> u64 {
    // SAFETY: getauxval reads this process's own auxiliary vector, whatever the kind asked for.
    unsafe { libc::getauxval(kind) }
}
