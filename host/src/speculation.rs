//! What the processor may guess while it runs this process, for those who give up speed so that less can be learnt by
//! side channels. See prctl(2), `PR_SET_SPECULATION_CTRL`.

use std::io;

use nix::errno::Errno;

/// `PR_SPEC_L1D_FLUSH`, which the library lacks.
const L1D_FLUSH: libc::c_int = 2;

/// What a process can turn off.
const FEATURES: [(libc::c_int, &str); 2] = [
    (libc::PR_SPEC_STORE_BYPASS, "speculative store bypass"),
    (libc::PR_SPEC_INDIRECT_BRANCH, "indirect branch speculation"),
];

/// Turns off for good that loads overtake stores and that indirect branches are predicted, for this thread and all
/// threads and processes it will start. Where the host offers it, the first-level data cache is flushed whenever one of
/// them leaves a processor; returns whether it is.
///
/// # Errors
/// Names what the host has no control over, or does not let a process turn off.
pub fn restrict() -> io::Result<bool> {
    for (feature, name) in FEATURES {
        let failed = |why: &dyn std::fmt::Display| io::Error::other(format!("{name}: {why}"));
        let state = get(feature).map_err(|errno| failed(&errno))?;
        if state & libc::PR_SPEC_PRCTL != 0 {
            set(feature, libc::PR_SPEC_FORCE_DISABLE).map_err(|errno| failed(&errno))?;
        } else if state & libc::PR_SPEC_ENABLE != 0 {
            return Err(failed(&"the host does not let a process turn it off"));
        }
        // Otherwise the processor has no such fault, or it is off for all.
    }
    // Offered by a kernel started with l1d_flush=on only.
    Ok(set(L1D_FLUSH, libc::PR_SPEC_ENABLE).is_ok())
}

fn get(feature: libc::c_int) -> nix::Result<libc::c_uint> {
    call(libc::PR_GET_SPECULATION_CTRL, feature, 0)
}

fn set(feature: libc::c_int, state: libc::c_uint) -> nix::Result<()> {
    call(libc::PR_SET_SPECULATION_CTRL, feature, state).map(drop)
}

fn call(option: libc::c_int, feature: libc::c_int, state: libc::c_uint) -> nix::Result<libc::c_uint> {
    // The kernel looks at whole words, and at those that say nothing as well.
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
        // A thread's own, which ends with the test.
        if let Err(error) = restrict() {
            eprintln!("skipped: {error}");
            return;
        }
        for (feature, name) in FEATURES {
            assert_eq!(get(feature).unwrap() & libc::PR_SPEC_ENABLE, 0, "{name}");
        }
    }
}
