//! The calls of the host's kernel that this platform makes while guest code runs.

use amber_abi::host_call::{Condition, HostCall, Rule};

/// They all.
pub const HOST_CALLS: &[HostCall] = &[
    HostCall {
        number: libc::SYS_ptrace,
        name: "ptrace",
        reason: "running guest code in stubs, reading and writing their registers",
        rules: REQUESTS,
    },
    HostCall { number: libc::SYS_wait4, name: "wait4", reason: "waiting until a stub stops", rules: &[] },
    HostCall {
        number: libc::SYS_tgkill,
        name: "tgkill",
        reason: "bringing a stub out of guest code; the end of a stub",
        rules: SIGNALS,
    },
    HostCall {
        number: libc::SYS_sched_setaffinity,
        name: "sched_setaffinity",
        reason: "keeping a stub and its tracer on one processor",
        rules: &[],
    },
];

/// One rule for each constant of the C library that an `int` argument may be.
macro_rules! one_of {
    ($argument:literal: $($name:ident)+) => {
        &[$(Rule { conditions: &[Condition::int($argument, libc::$name as u64)], meaning: stringify!($name) }),+]
    };
}

const REQUESTS: &[Rule] = one_of!(0: PTRACE_SYSEMU PTRACE_GETREGS PTRACE_SETREGS PTRACE_CONT PTRACE_GETSIGINFO
    PTRACE_GETREGSET PTRACE_SETREGSET PTRACE_GET_SYSCALL_INFO PTRACE_SEIZE PTRACE_INTERRUPT PTRACE_DETACH PTRACE_PEEKUSER
    PTRACE_POKEUSER PTRACE_PEEKDATA);

const SIGNALS: &[Rule] = one_of!(2: SIGUSR1 SIGKILL);
