//! Restricts speculative execution of this process, for users who trade speed for protection against side channels. See
//! prctl(2), `PR_SET_SPECULATION_CTRL`.

use std::io;

use nix::errno::Errno;

/// `PR_SPEC_L1D_FLUSH`, which the libc crate lacks.
const L1D_FLUSH: libc::c_int = 2;

/// The features that a process can disable.
const FEATURES: [(libc::c_int, &str); 2] = [
    (libc::PR_SPEC_STORE_BYPASS, "speculative store bypass"),
    (libc::PR_SPEC_INDIRECT_BRANCH, "indirect branch speculation"),
];

/// Permanently disables speculative store bypass and indirect branch prediction, for this thread and all threads and
/// processes that it starts. If the host offers it, the L1 data cache is flushed when one of them leaves a CPU; returns
/// whether that is so.
///
/// # Errors
/// The error names what the host cannot control, or does not let a process disable.
pub fn restrict() -> io::Result<bool> {
    for (feature, name) in FEATURES {
        let failed = |why: &dyn std::fmt::Display| io::Error::other(format!("{name}: {why}"));
        let state = get(feature).map_err(|errno| failed(&errno))?;
        if state & libc::PR_SPEC_PRCTL != 0 {
            set(feature, libc::PR_SPEC_FORCE_DISABLE).map_err(|errno| failed(&errno))?;
        } else if state & libc::PR_SPEC_ENABLE != 0 {
            return Err(failed(&"the host does not let a process turn it off"));
        }
        // Otherwise the processor is not vulnerable, or the feature is disabled for all processes.
    }
    // Only offered by kernels started with l1d_flush=on.
    Ok(set(L1D_FLUSH, libc::PR_SPEC_ENABLE).is_ok())
}

fn get(feature: libc::c_int) -> nix::Result<libc::c_uint> {
    call(libc::PR_GET_SPECULATION_CTRL, feature, 0)
}

fn set(feature: libc::c_int, state: libc::c_uint) -> nix::Result<()> {
    call(libc::PR_SET_SPECULATION_CTRL, feature, state).map(drop)
}

fn call(option: libc::c_int, feature: libc::c_int, state: libc::c_uint) -> nix::Result<libc::c_uint> {
    // The kernel reads whole words, including the unused ones.
    let [feature, state, none] = [feature as libc::c_ulong, state.into(), 0];
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::prctl(option, feature, state, none, none) };
    Errno::result(result).map(|state| state as libc::c_uint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_turned_off_stays_off() {
        // Applies to this thread only, which ends with the test.
        if let Err(error) = restrict() {
            eprintln!("skipped: {error}");
            return;
        }
        for (feature, name) in FEATURES {
            assert_eq!(get(feature).unwrap() & libc::PR_SPEC_ENABLE, 0, "{name}");
        }
    }
}
